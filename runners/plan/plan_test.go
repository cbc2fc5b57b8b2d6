package plan

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
	"coeval/datasets/journal/journaltest"
	"coeval/datasets/prompts"
	"coeval/datasets/store/storetest"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/schemas"
	"coeval/transforms/stage"
)

// firstCall is a Caller that keeps the first call and answers none.
type firstCall struct{ call *stage.Call }

// Do implements [stage.Caller].
func (f *firstCall) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	f.call = &calls[0]
	return nil, errGap
}

// actorRecords returns the journal records of a prompt after the actor's answers.
func actorRecords(t *testing.T, c *config.Config, id string) []journal.Record {
	t.Helper()
	chain, err := c.Chain()
	if err != nil {
		t.Fatal(err)
	}
	stage, err := stage.Chain(chain)
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

// listings is a proxy of an object store that counts listings while it is on. It answers no listing of a
// bucket before one of another bucket has arrived.
type listings struct {
	both  chan struct{}
	alone atomic.Bool // a bucket waited for another in vain

	mu      sync.Mutex
	on      bool
	counted []string // their prefixes
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
		l.counted = append(l.counted, prefix)
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
// time, and finds all answers.
func TestListingsOfAPlan(t *testing.T) {
	l := &listings{both: make(chan struct{}), buckets: map[string]bool{}}
	storetest.Intercept(t, l.handle)
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
	c := config.Default()
	c.Worker.URLs, c.Worker.Model = []string{"http://host:8000/v1"}, "m"
	c.Prompts.Paths, c.Output.Dir = []string{file}, storetest.Folder(t)
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
	dir := metareward.JournalDir(c.Output.Dir)
	journaltest.Put(t, dir, 1, first)
	journaltest.Put(t, dir, 3, others)

	l.mu.Lock()
	l.on = true
	l.mu.Unlock()
	p, err := New(t.Context(), c, scan, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.alone.Load() {
		t.Error("no two buckets were listed at a time")
	}
	// The journal's folders, each bucket's folder of 3 bits and that of 1 bit, all files for their sizes,
	// and four to see which servers answered in a journal that has no record of it: the record, the
	// models, the folders, and the first bucket, which has a call.
	if want := 1 + 2*len(buckets) + 1 + 4; len(l.counted) != want {
		t.Errorf("%d listings, want %d of %d buckets: %q", len(l.counted), want, len(buckets), l.counted)
	}
	k := int64(c.Actor.N)
	got := p.Stages[0]
	got.PromptTokens, got.CompletionTokens = 0, 0
	if diff := cmp.Diff(Stage{Stage: schemas.StageGenerate, Generations: k * count, Held: k * count}, got); diff != "" {
		t.Errorf("of the actor: %s", diff)
	}
}

// Under a budget a plan counts at most budget.max_comparisons of a prompt, in whole pairs, and never more
// than there are: 11·10, and 3·2 of three judgments.
func TestMaxComparisons(t *testing.T) {
	c := config.Default()
	p := &planner{config: &c}
	if got := p.maxComparisons(11); got != 110 {
		t.Errorf("all comparisons of 11 judgments are %d", got)
	}
	c.Budget.Comparisons, c.Budget.MaxComparisons = config.SettledComparisons, 41
	if got, few := p.maxComparisons(11), p.maxComparisons(3); got != 40 || few != 6 {
		t.Errorf("at most %d comparisons of 11 judgments and %d of 3, want 40 and 6", got, few)
	}
}
