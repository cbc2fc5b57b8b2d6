package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal/segment"
	"coeval/schemas"
)

func generation(prompt, key string, replicate int, text string) Record {
	return Record{Key: key, Replicate: replicate, PromptID: prompt, Role: schemas.RoleActor, Text: text, FinishReason: "stop"}
}

func failure(key, code string) Record {
	return Record{Key: key, PromptID: "p", Code: code, Message: "m"}
}

// keep appends records and waits until they are durable.
func keep(ctx context.Context, v *View, records ...Record) error {
	if err := v.Append(records...); err != nil {
		return err
	}
	return v.Sync(ctx)
}

// attempt opens the journal, loads the bucket, keeps the records and closes.
func attempt(t *testing.T, dir, bucket string, records ...Record) schemas.Origin {
	t.Helper()
	return attemptInFrames(t, dir, bucket, records)
}

// attemptInFrames writes the records of each frame before the records of the next one.
func attemptInFrames(t *testing.T, dir, bucket string, frames ...[]Record) schemas.Origin {
	t.Helper()
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, records := range frames {
		if len(records) == 0 {
			continue
		}
		if err := keep(t.Context(), v, records...); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return v.Origin("")
}

func closeJournal(tb testing.TB, j *Journal) {
	tb.Helper()
	if err := j.Close(); err != nil {
		tb.Error(err)
	}
}

func texts(t *testing.T, dir, bucket string) map[string]string {
	t.Helper()
	contents, err := Read(t.Context(), dir, nil, bucket, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, records := range contents {
		for at, r := range records {
			out[fmt.Sprint(at.Key, at.Replicate)] = r.Text + r.Code
		}
	}
	return out
}

func TestSyncedIsThereAfterwards(t *testing.T) {
	dir := t.TempDir()
	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			text := strings.Repeat("täxt\n", i)
			if err := keep(t.Context(), v, generation("p", "k", i, text), generation("q", "k", i, text+"!")); err != nil {
				t.Error(err)
			}
			mu.Lock()
			want[fmt.Sprint("k", i)] = text
			mu.Unlock()
		})
	}
	wg.Wait()
	// Not closed: the records before a returned Sync are durable in any case.
	contents, err := Read(t.Context(), dir, nil, "b", func(p string) bool { return p == "p" })
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for at, r := range contents["p"] {
		got[fmt.Sprint(at.Key, at.Replicate)] = r.Text
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(contents) != 1 {
		t.Errorf("%d prompts were read where keep wants one", len(contents))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Append(generation("p", "k", 99, "")); err == nil {
		t.Error("an append after Close is no error")
	}
}

func TestZstdcatReadsSegments(t *testing.T) {
	zstdcat, err := exec.LookPath("zstdcat")
	if err != nil {
		t.Skip("needs the zstdcat program, which not every machine has")
	}
	dir := t.TempDir()
	o := attempt(t, dir, "b", generation("p", "k", 0, "one"), generation("p", "k", 1, "two"))
	out, err := exec.Command(zstdcat, filepath.Join(dir, o.Segment)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(out), "\n"); got != 2 {
		t.Errorf("zstdcat shows %d lines, want 2:\n%s", got, out)
	}
}

func TestBucketReadsShorterPrefixes(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", generation("p", "k", 0, "whole"))
	attempt(t, dir, "b0", generation("p", "k", 1, "half"))
	attempt(t, dir, "b1", generation("q", "k", 2, "other half"))
	attempt(t, dir, "b01", generation("p", "k", 3, "quarter"))
	want := map[string]string{"k0": "whole", "k1": "half", "k3": "quarter"}
	if diff := cmp.Diff(want, texts(t, dir, "b01")); diff != "" {
		t.Error(diff)
	}
	if bits, err := FindPrefixBits(t.Context(), dir); err != nil || !slices.Equal(bits, PrefixBits{0, 1, 2}) {
		t.Errorf("FindPrefixBits = %v, %v; want 0, 1, 2", bits, err)
	}
}

func TestBucketIsAPrefixOfItsLonger(t *testing.T) {
	for i := range 100 {
		p := fmt.Sprint("prompt ", i)
		long := Bucket(p, 12)
		for bits := range 12 {
			if short := Bucket(p, bits); !strings.HasPrefix(long, short) || len(short) != bits+1 {
				t.Fatalf("%s: %s with %d bits is no prefix of %s", p, short, bits, long)
			}
		}
	}
}

// A crash leaves a segment cut at any byte: the frames before the cut are read.
func TestIncompleteLastFrameIsDropped(t *testing.T) {
	dir := t.TempDir()
	o := attemptInFrames(t, dir, "b", []Record{generation("p", "k", 0, "first")}, []Record{generation("p", "k", 1, "second")})
	name := filepath.Join(dir, o.Segment)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first := firstFrame(whole)
	if first >= len(whole) {
		t.Fatalf("frame of %d bytes in %d, %v", first, len(whole), err)
	}
	for cut := range whole {
		if err := os.WriteFile(name, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		if cut >= first {
			want["k0"] = "first"
		}
		if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
			t.Fatalf("cut at %d of %d: %s", cut, len(whole), diff)
		}
	}
}

func TestDamageElsewhereIsAnError(t *testing.T) {
	dir := t.TempDir()
	o := attemptInFrames(t, dir, "b", []Record{generation("p", "k", 0, "first")}, []Record{generation("p", "k", 1, "second")})
	name := filepath.Join(dir, o.Segment)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	first := firstFrame(whole)
	for at := range first {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 0x10
		if err := os.WriteFile(name, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		contents, err := Read(t.Context(), dir, nil, "b", nil)
		if err == nil && len(contents["p"]) == 2 && contents["p"][segment.ID{Key: "k"}].Text == "first" {
			continue // a bit that means nothing: RFC 8878 has one in the frame header
		}
		if err == nil {
			t.Fatalf("a flipped bit at %d of the first of two frames is not noticed", at)
		}
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "offset 0") {
			t.Errorf("%v: names no file and offset", err)
		}
	}
}

// A view that is fixed reads the same for ever, also when another attempt goes on writing.
func TestReplayReadsTheViewOfItsAttempt(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", generation("p", "k", 0, "old"))

	j, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeJournal(t, j)
	zombie, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := j.Load(t.Context(), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	for v, text := range map[*View]string{zombie: "zombie's", second: "second's"} {
		if err := keep(t.Context(), v, generation("p", "k", 1, text)); err != nil {
			t.Fatal(err)
		}
	}
	for v, want := range map[*View]string{zombie: "zombie's", second: "second's"} {
		r, err := NewReplay(t.Context(), dir, nil, v.Origin(""), nil)
		if err != nil {
			t.Fatal(err)
		}
		for replicate, text := range []string{"old", want} {
			if got, ok := r.Get("k", replicate); !ok || got.Text != text {
				t.Errorf("replicate %d is %+v, want %q", replicate, got, text)
			}
		}
	}
}

// The next run uses the records that Write used, of any attempt.
func TestPinMakesTheNextRunAgree(t *testing.T) {
	for _, used := range []int{0, 1} {
		dir := t.TempDir()
		origins := make([]schemas.Origin, 2)
		j, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		views := make([]*View, 2)
		for i := range views { // both fix their views before either writes
			if views[i], err = j.Load(t.Context(), "b", nil); err != nil {
				t.Fatal(err)
			}
		}
		for i, v := range views {
			if err := v.Append(generation("p", "k", 0, fmt.Sprint("attempt ", i))); err != nil {
				t.Fatal(err)
			}
			origins[i] = v.Origin("")
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"k0": fmt.Sprint("attempt ", used)}
		for range 2 { // pinning again changes nothing
			r, err := NewReplay(t.Context(), dir, nil, origins[used], nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Get("k", 0)
			if err := r.Pin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
				t.Errorf("attempt %d was used: %s", used, diff)
			}
		}
	}
}

// A failure that was asked again: a text stands before it, another failure is pinned.
func TestRetriedFailures(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", failure("cured", "too_long"), failure("kept", "too_long"))
	o := attempt(t, dir, "b", generation("p", "cured", 0, "text"), failure("kept", "refused"))
	r, err := NewReplay(t.Context(), dir, nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"cured": "text", "kept": "refused"} {
		if got, _ := r.Get(key, 0); got.Text+got.Code != want {
			t.Errorf("%s: used %+v, want %s", key, got, want)
		}
	}
	if err := r.Pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"cured0": "text", "kept0": "refused"}
	if diff := cmp.Diff(want, texts(t, dir, "b")); diff != "" {
		t.Error(diff)
	}
}

func TestReplayMissesASegment(t *testing.T) {
	dir := t.TempDir()
	o := attempt(t, dir, "b", generation("p", "k", 0, "text"))
	if err := os.Remove(filepath.Join(dir, o.Segment)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReplay(t.Context(), dir, nil, o, nil); err == nil {
		t.Error("a replay without the attempt's own segment is no error")
	}
}

// A run that appends nothing adds no segment and, the second time, no view.
func TestNothingToAppendAddsNothing(t *testing.T) {
	dir := t.TempDir()
	attempt(t, dir, "b", generation("p", "k", 0, "text"))
	first := attempt(t, dir, "b")
	before := files(t, dir)
	second := attempt(t, dir, "b")
	if first.Segment != "" || first != second {
		t.Errorf("origins %+v and %+v", first, second)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		names = append(names, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPromptKeyCoversAllOfIt(t *testing.T) {
	p := schemas.Prompt{ID: "1", Messages: []schemas.Message{{Role: "user", Content: "x"}}, File: "f", Line: 1, Metadata: "{}"}
	moved := p
	moved.Line = 2
	if PromptKey(&p) == PromptKey(&moved) {
		t.Error("a prompt on another line has the same key")
	}
}

func benchmarkRecords(n int) []Record {
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the answer is relevant and covers a substantial part of what was asked, “quoted” here\n")
	records := make([]Record, n)
	for i := range records {
		var b strings.Builder
		for b.Len() < 700 {
			b.WriteString(words[rng.IntN(len(words))])
			b.WriteByte(" \n"[min(1, rng.IntN(12)/11)])
		}
		records[i] = generation(fmt.Sprintf("6d2c1a4e-%04d-5b1f-9f7e-0123456789ab", i/194), schemas.Digest(fmt.Sprint(i)), 0, b.String())
	}
	return records
}

func BenchmarkReadSegment(b *testing.B) {
	dir := b.TempDir()
	j, err := Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	v, err := j.Load(b.Context(), "b", nil)
	if err != nil {
		b.Fatal(err)
	}
	records := benchmarkRecords(10_000)
	for i := 0; i < len(records); i += 100 {
		if err := v.Append(records[i : i+100]...); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(b.Context(), dir, nil, "b", nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(records)), "ns/record")
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer closeJournal(b, j)
	v, err := j.Load(b.Context(), "b", nil)
	if err != nil {
		b.Fatal(err)
	}
	records := benchmarkRecords(1000)
	b.SetParallelism(128)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := v.Append(records[i%len(records)]); err != nil {
				b.Error(err)
			}
		}
	})
	if err := v.Sync(b.Context()); err != nil {
		b.Error(err)
	}
}
