package metareward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/store/storetest"
	"coeval/schemas"
	"coeval/transforms/infer"
)

// firstCall is a Caller that keeps the first call and answers none.
type firstCall struct{ call *infer.Call }

// Do implements [infer.Caller].
func (f *firstCall) Do(_ context.Context, calls []infer.Call) ([][]schemas.Generation, error) {
	f.call = &calls[0]
	return nil, errGap
}

// actorRecords returns all that a journal holds of a prompt whose actor has answered.
func actorRecords(t *testing.T, c *Config, id string) []journal.Record {
	t.Helper()
	options, err := c.resolve()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := c.chain(options)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := infer.Chain(chain)
	if err != nil {
		t.Fatal(err)
	}
	var first firstCall
	if err := stage(t.Context(), &first, &schemas.Dossier{Prompt: schemas.Prompt{ID: id}}); !errors.Is(err, errGap) {
		t.Fatal(err)
	}
	records := make([]journal.Record, first.call.N)
	for k := range records {
		records[k] = journal.Record{Key: first.call.Key(), Replicate: k, PromptID: id, Role: schemas.RoleActor, Text: fmt.Sprint("answer ", k), FinishReason: "stop"}
	}
	return records
}

// put appends records to the buckets of this length.
func put(t *testing.T, dir string, length int, records []journal.Record) {
	t.Helper()
	j, err := journal.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		v, err := j.Load(t.Context(), journal.Bucket(r.PromptID, length), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// listings stands before an object store and counts its listings while it is told to. None of a
// bucket's is answered before another bucket's has come.
type listings struct {
	counted chan string
	both    chan struct{}
	alone   atomic.Bool // a bucket waited in vain

	mu      sync.Mutex
	on      bool
	buckets map[string]bool
}

func (l *listings) handle(w http.ResponseWriter, r *http.Request, server http.Handler) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o") {
		l.see(r.URL.Query().Get("prefix"))
	}
	server.ServeHTTP(w, r)
}

func (l *listings) see(prefix string) {
	l.mu.Lock()
	on := l.on
	if on {
		l.counted <- prefix
	}
	own := on && len(filepath.Base(prefix)) == len("b000")
	if own && !l.buckets[prefix] {
		l.buckets[prefix] = true
		if len(l.buckets) == 2 {
			close(l.both)
		}
	}
	l.mu.Unlock()
	if own {
		select {
		case <-l.both:
		case <-time.After(10 * time.Second):
			l.alone.Store(true)
		}
	}
}

// A plan lists a bucket once for each length of prefix that the journal has, several buckets at a
// time, and finds all that is there.
func TestListingsOfAPlan(t *testing.T) {
	l := &listings{counted: make(chan string, 1000), both: make(chan struct{}), buckets: map[string]bool{}}
	storetest.GCS(t, l.handle).Set(t)
	const count = 24
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "{\"prompt\": \"prompt %d\"}\n", i)
	}
	lines.WriteString("{\"prompt\": \"prompt 0\"}\n") // is merged
	file := filepath.Join(t.TempDir(), "prompts.jsonl")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c := valid()
	c.Prompts.Paths, c.Output.Dir = []string{file}, "gs://bucket/out"
	scan, err := prompts.ScanFiles(t.Context(), c.Prompts.Paths, c.Reading(), c.Selection())
	if err != nil {
		t.Fatal(err)
	}

	// A run with two buckets got one answer to each prompt, and one with eight the others.
	var first, others []journal.Record
	buckets := map[string]bool{}
	for i := range count {
		id := schemas.PromptID([]schemas.Message{{Role: "user", Content: fmt.Sprint("prompt ", i)}})
		all := actorRecords(t, &c, id)
		first, others = append(first, all[0]), append(others, all[1:]...)
		buckets[journal.Bucket(id, 3)] = true
	}
	dir := JournalDir(c.Output.Dir)
	put(t, dir, 1, first)
	put(t, dir, 3, others)

	l.mu.Lock()
	l.on = true
	l.mu.Unlock()
	p, err := NewPlan(t.Context(), c, scan, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.alone.Load() {
		t.Error("no two buckets were listed at a time")
	}
	// The journal's folders, each bucket's folder of 3 bits and that of 1 bit, and all files for
	// their sizes.
	close(l.counted)
	var prefixes []string
	for prefix := range l.counted {
		prefixes = append(prefixes, prefix)
	}
	if want := 1 + 2*len(buckets) + 1; len(prefixes) != want {
		t.Errorf("%d listings, want %d of %d buckets: %q", len(prefixes), want, len(buckets), prefixes)
	}
	k := int64(c.Actor.N)
	got := p.Stages[0]
	got.PromptTokens, got.CompletionTokens = 0, 0
	if diff := cmp.Diff(StagePlan{Stage: schemas.StageGenerate, Generations: k * count, Held: k * count}, got); diff != "" {
		t.Errorf("of the actor: %s", diff)
	}
}
