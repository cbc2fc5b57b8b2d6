package infer_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/uuid"

	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x2(inOneBucket)
	register.Function1x1(refuse)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

func inOneBucket(p schemas.Prompt) (string, schemas.Prompt) { return "b", p }

func refuse(schemas.Record) error { return errors.New("refused") }

// A failed bundle leaves no goroutine that calls workers. That holds too if a later step of the graph
// fails: then no method of the DoFn is called, and the process continues.
func TestFailedBundleCallsNobody(t *testing.T) {
	s, err := simulator.Start(simulator.Options{Latency: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	const count = 200
	prompts := make([]schemas.Prompt, count)
	for i := range prompts {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		prompts[i] = schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, Metadata: "{}"}
	}
	role := stage.Role{Name: schemas.RoleActor, Model: "simulated", Endpoints: []stage.Endpoint{{URL: s.URL()}}, Temperature: 1, TopP: 1}
	spec, err := generate.Spec(generate.Options{Role: role, N: 2})
	if err != nil {
		t.Fatal(err)
	}
	o := infer.Options{Attempt: uuid.NewString(), Journal: filepath.Join(t.TempDir(), "journal"), Window: 50, MaxInFlight: 20}
	t.Cleanup(func() {
		if err := infer.Attach(o.Attempt).Close(); err != nil {
			t.Error(err)
		}
	})

	p, scope := beam.NewPipelineWithRoot()
	found, err := infer.RunStages(scope, beam.ParDo(scope, inOneBucket, beam.CreateList(scope, prompts)), []stage.Spec{spec}, o)
	if err != nil {
		t.Fatal(err)
	}
	beam.ParDo0(scope, refuse, found.Records)
	if err := ptest.Run(p); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("the run ends with %v", err)
	}

	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if strings.Contains(string(stacks), "coeval/transforms/window.(*Window") {
		t.Errorf("the bundle's work goes on:\n%s", stacks)
	}
	if n := infer.Attach(o.Attempt).Watch().InFlight; n != 0 {
		t.Errorf("%d generations are in flight", n)
	}
	// The first finding is refused. It has one request, one probe for n = 2, and the requests of the
	// prompts in progress. The requests of the other prompts are never sent.
	if n := s.Server().Stats().Requests; n < 2 || n >= count {
		t.Errorf("%d requests were made for %d prompts", n, count)
	}
}
