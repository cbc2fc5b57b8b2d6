package shards_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/schemas"
)

// words are the words of real prompts, in their order of appearance.
func words(tb testing.TB) []string {
	tb.Helper()
	data, err := os.ReadFile("../arena-hard/arena-hard-v0.1.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Fields(strings.ToValidUTF8(string(data), ""))
}

// prose is a text of about chars characters in pieces of 4 to 12 words that stand together in
// the real prompts: it compresses like a model's answers, better than noise and worse than one text.
func prose(rng *rand.Rand, words []string, chars int) string {
	var b strings.Builder
	for b.Len() < chars {
		at, n := rng.IntN(len(words)-12), 4+rng.IntN(9)
		b.WriteString(strings.Join(words[at:at+n], " "))
		b.WriteByte(' ')
	}
	return b.String()
}

// benchmarkWriter writes b.N rows and reports rows, bytes and compression.
func benchmarkWriter[T shards.Row](b *testing.B, table shards.Table, row func(rng *rand.Rand, words []string, i int) T) {
	b.Helper()
	words := words(b)
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([]T, 20_000)
	for i := range rows {
		rows[i] = row(rng, words, i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var size int64
	for done := 0; done < b.N; done += len(rows) {
		w, err := shards.NewWriter[T](io.Discard, table)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rows[:min(len(rows), b.N-done)] {
			if err := w.Write(&rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		info, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		size += info.Bytes
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(size)/float64(b.N), "bytes/row")
}

func BenchmarkWriterJudgments(b *testing.B) {
	benchmarkWriter(b, shards.Judgments, func(rng *rand.Rand, words []string, i int) schemas.JudgmentRow {
		prompt := schemas.Digest("prompt", strconv.Itoa(i/77))
		score := float64(rng.IntN(6))
		return schemas.JudgmentRow{
			ID: benchID(i), PromptID: sequence(i/77) + prompt[8:], ResponseID: schemas.Digest("response", strconv.Itoa(i/11)),
			Replicate: int32(i % 11), Model: "llama-3-8b-instruct", Text: prose(rng, words, 700), Chars: 700,
			Score: &score, Distinct: true, PromptTokens: 900,
		}
	})
}

func BenchmarkWriterComparisons(b *testing.B) {
	benchmarkWriter(b, shards.Comparisons, func(rng *rand.Rand, words []string, i int) schemas.ComparisonRow {
		prompt := schemas.Digest("prompt", strconv.Itoa(i/110))
		return schemas.ComparisonRow{
			ID: benchID(i), PromptID: sequence(i/110) + prompt[8:], ResponseID: schemas.Digest("response", prompt),
			FirstID: schemas.Digest(prompt, strconv.Itoa(i%110/10)), SecondID: schemas.Digest(prompt, strconv.Itoa(i%10)),
			Model: "llama-3-8b-instruct", Text: prose(rng, words, 700), Winner: []string{"first", "second", "none"}[rng.IntN(3)],
			PromptTokens: 2900,
		}
	})
}

func BenchmarkWriterJudgePairs(b *testing.B) {
	benchmarkWriter(b, shards.Judge, func(rng *rand.Rand, words []string, i int) schemas.Pair {
		say := func(role string, chars int) []schemas.Message {
			return []schemas.Message{{Role: role, Content: prose(rng, words, chars)}}
		}
		return schemas.Pair{
			ID: benchID(i), PromptID: sequence(i), Prompt: say("user", 6000),
			Chosen: say("assistant", 700), Rejected: say("assistant", 700), Metadata: "{}",
		}
	})
}

// sequence rises with i as a string.
func sequence(i int) string { return "p" + strconv.Itoa(10_000_000+i) }

// benchID is as long as an ID, no more compressible, and rises with i.
func benchID(i int) string { return sequence(i)[1:] + schemas.Digest(strconv.Itoa(i))[4:] }

func BenchmarkReadTable(b *testing.B) {
	words := words(b)
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([]schemas.JudgmentRow, 20_000)
	for i := range rows {
		score := float64(rng.IntN(6))
		rows[i] = schemas.JudgmentRow{
			ID: benchID(i), PromptID: sequence(i / 77), ResponseID: schemas.Digest("response", strconv.Itoa(i/11)),
			Model: "llama-3-8b-instruct", Text: prose(rng, words, 700), Score: &score,
		}
	}
	data := encode(b, shards.Judgments, rows)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += len(rows) {
		err := shards.ReadFrom(b.Context(), bytes.NewReader(data), int64(len(data)), "bench.parquet", func(*schemas.JudgmentRow) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
