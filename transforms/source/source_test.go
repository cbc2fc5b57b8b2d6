package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct" //nolint:staticcheck // it fails without a harness
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/schemas"
)

func init() {
	register.Function2x1(describePrompt)
	register.Function1x1(describeBad)
	register.Function2x1(addTallies)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

func describePrompt(bucket string, p schemas.Prompt) string {
	return fmt.Sprintf("%s %s %s %v", bucket, p.ID, p.Messages[0].Content, p.OwnIDs)
}

func describeBad(r schemas.Record) string {
	if r.Finding != nil || r.Actor != nil || r.Judge != nil {
		return "a finding"
	}
	return fmt.Sprintf("%s %s:%d %s", r.BadLine.Stage, filepath.Base(r.BadLine.File), r.BadLine.Line, r.BadLine.Code)
}

func addTallies(a, b schemas.Tally) schemas.Tally {
	a.Add(b)
	return a
}

// lines are 30 prompts, of which every tenth occurs twice, and two lines that are no prompts.
func lines() []string {
	var all []string
	for i := range 30 {
		all = append(all, fmt.Sprintf(`{"id": "own-%d", "prompt": "Question %d?"}`, i, i))
		if i%10 == 0 {
			all = append(all, fmt.Sprintf(`{"id": "again-%d", "prompt": "Question %d?"}`, i, i))
		}
	}
	return slices.Insert(all, 5, "no JSON", `{"prompt": ""}`)
}

// input writes the lines into this number of files, of about the same length.
func input(t *testing.T, files int) []string {
	t.Helper()
	dir, all := t.TempDir(), lines()
	var paths []string
	for i := range files {
		part := all[len(all)*i/files : len(all)*(i+1)/files]
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%d.jsonl", i)))
		if err := os.WriteFile(paths[i], []byte(strings.Join(part, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// scanned returns a scan of the files, as input of Read.
func scanned(t *testing.T, paths []string, selection prompts.Selection) *prompts.Scan {
	t.Helper()
	s, err := prompts.ScanFiles(t.Context(), paths, prompts.Options{}, selection)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect runs Read and asserts its output. Tallies are not asserted where want has no line.
func expect(t *testing.T, o Options, wantPrompts, wantBad []string, want schemas.Tally) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	read, err := Read(s, o)
	if err != nil {
		t.Fatal(err)
	}
	passert.EqualsList(s, beam.ParDo(s, describePrompt, read.Prompts), wantPrompts)
	passert.EqualsList(s, beam.ParDo(s, describeBad, read.BadLines), wantBad)
	passert.Equals(s, beam.Combine(s, addTallies, read.Tallies), want)
	ptest.RunAndValidate(t, p)
}

// wanted lists the prompts of the input that the sample keeps, in their buckets.
func wanted(t *testing.T, sample prompts.Sample, bits int) (all []string) {
	t.Helper()
	for i := range 30 {
		content := fmt.Sprintf("Question %d?", i)
		id := schemas.PromptID([]schemas.Message{{Role: "user", Content: content}})
		owns := []string{fmt.Sprintf("own-%d", i)}
		if i%10 == 0 {
			owns = append(owns, fmt.Sprintf("again-%d", i))
		}
		for _, own := range owns {
			if sample.Keep(id) {
				all = append(all, fmt.Sprintf("%s %s %s [%s]", journal.Bucket(id, bits), id, content, own))
			}
		}
	}
	return all
}

// Every line ends as a prompt in its bucket, as a bad line with its place, or is counted as one
// that was not drawn, however the lines are cut into files; equal prompts are not merged here.
func TestRead(t *testing.T) {
	for _, files := range []int{1, 3, 7} {
		paths := input(t, files)
		for _, selection := range []prompts.Selection{{}, {Sample: 10}, {Sample: 10, SampleSeed: 7}} {
			t.Run(fmt.Sprintf("%d files, %+v", files, selection), func(t *testing.T) {
				scan := scanned(t, paths, selection)
				good := wanted(t, scan.Sample, 3)
				// 30 prompts, 3 of them twice, and 2 bad lines.
				tally := schemas.Tally{Lines: 35, Bad: 2, NotDrawn: int64(33 - len(good))}
				if selection.Sample == 0 && len(good) != 33 || selection.Sample > 0 && (len(good) < 10 || len(good) > 13) {
					t.Fatalf("%d lines contain the prompts that are wanted", len(good))
				}
				// Lines 6 and 7 of all; the cut determines the file and the line in it.
				bad := map[int][]string{
					1: {"prompts 0.jsonl:6 bad_json", "prompts 0.jsonl:7 empty_prompt"},
					3: {"prompts 0.jsonl:6 bad_json", "prompts 0.jsonl:7 empty_prompt"}, // 35/3 = 11 lines in the first file
					7: {"prompts 1.jsonl:1 bad_json", "prompts 1.jsonl:2 empty_prompt"}, // 5 in the first
				}[files]
				expect(t, Options{Files: scan.Files, Sample: scan.Sample, Bits: 3}, good, bad, tally)
			})
		}
	}
}

// The sample does not depend on files, on their order, or on repeated lines.
func TestSampleIsTheSame(t *testing.T) {
	draw := func(paths []string) prompts.Sample {
		return scanned(t, paths, prompts.Selection{Sample: 8, SampleSeed: 3}).Sample
	}
	one := draw(input(t, 1))
	split := input(t, 5)
	slices.Reverse(split)
	twice := append(input(t, 1), input(t, 2)...)
	for name, paths := range map[string][]string{"split": split, "twice": twice} {
		if got := draw(paths); got != one {
			t.Errorf("%s: the sample is %+v, want %+v", name, got, one)
		}
	}
	if other := scanned(t, split, prompts.Selection{Sample: 8, SampleSeed: 4}).Sample; other.Last == one.Last {
		t.Error("another seed draws the same sample")
	}
}

// A limit ends the reading in the middle of a file, and the files after it are not read.
func TestLimit(t *testing.T) {
	scan := scanned(t, input(t, 5), prompts.Selection{Limit: 8})
	// The eighth distinct prompt is question 7. Before it stand question 0 again and two bad
	// lines: line 11, the fourth of the second file of 7.
	good := wanted(t, prompts.Sample{}, 0)[:9]
	bad := []string{"prompts 0.jsonl:6 bad_json", "prompts 0.jsonl:7 empty_prompt"}
	expect(t, Options{Files: scan.Files}, good, bad, schemas.Tally{Lines: 11, Bad: 2})
}

func TestReadRefuses(t *testing.T) {
	_, s := beam.NewPipelineWithRoot()
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "Files is empty"},
		{Options{Files: []prompts.File{{Path: "p.jsonl"}}, Bits: -1}, "Bits is -1"},
		{Options{Files: []prompts.File{{Path: "p.jsonl"}}, Bits: journal.MaxBits + 1}, "Bits is 25; it must be 0 to 24"},
	} {
		if _, err := Read(s, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// A file that has disappeared since the scan ends the pipeline.
func TestFileGone(t *testing.T) {
	paths := input(t, 2)
	scan := scanned(t, paths, prompts.Selection{})
	if err := os.Remove(paths[1]); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	if _, err := Read(s, Options{Files: scan.Files}); err != nil {
		t.Fatal(err)
	}
	// Not prism: when a bundle fails, Beam 2.77's harness at times closes a channel that it sends on.
	if _, err := beam.Run(t.Context(), "direct", p); err == nil || !strings.Contains(err.Error(), paths[1]) {
		t.Errorf("got %v, want an error that names %s", err, paths[1])
	}
}
