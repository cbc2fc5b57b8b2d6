package generate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x1(responsesOf)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// answers is a Caller that answers every call with these replicates.
type answers []schemas.Generation

func (a answers) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, c := range calls {
		out[i] = a[:c.N]
	}
	return out, nil
}

func says(text, finish string) schemas.Generation {
	return schemas.Generation{Text: text, FinishReason: finish, PromptTokens: 20, CompletionTokens: len(text)}
}

var (
	role   = stage.Role{Name: schemas.RoleActor, Model: "actor-model", Revision: "2"}
	prompt = newPrompt("What is the capital of France?")
)

func newPrompt(text string) schemas.Prompt {
	messages := []schemas.Message{{Role: "user", Content: text}}
	return schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, Metadata: "{}"}
}

func run(t *testing.T, o generate.Options, said answers) schemas.Dossier {
	t.Helper()
	stage, err := generate.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	d := schemas.Dossier{Prompt: prompt}
	if err := stage(t.Context(), said, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStage(t *testing.T) {
	d := run(t, generate.Options{Role: role, N: 7, StripReasoning: true}, answers{
		says("Paris.", "length"),
		says("<think>France…</think>\n\nParis.\n", "stop"),
		says("It is Paris, which", "length"),
		{Code: "server_error", Message: "status 500"},
		says("  \n", "stop"),
		says("<think>France… I", "stop"),
		says("Paris.", "stop"),
	})
	id := func(text string) string { return schemas.ResponseID(prompt.ID, "actor-model@2", text) }
	want := []schemas.Response{
		// One replicate ended after the same text, so the text is whole.
		{ID: id("Paris."), Replicates: []int{0, 1, 6}, Text: "Paris.", Status: schemas.Complete, PromptTokens: 20},
		{ID: id("It is Paris, which"), Replicates: []int{2}, Text: "It is Paris, which", Status: schemas.Truncated, PromptTokens: 20},
		// The first is empty; the second was cut off before its first word.
		{ID: id(""), Replicates: []int{4, 5}, Status: schemas.Truncated, PromptTokens: 20},
	}
	if diff := cmp.Diff(want, d.Responses); diff != "" {
		t.Error(diff)
	}
	failures := []schemas.Failure{{
		Stage: schemas.StageGenerate, Code: "server_error", Message: "status 500", PromptID: prompt.ID, Replicate: 3,
	}}
	if diff := cmp.Diff(failures, d.Failures); diff != "" {
		t.Error(diff)
	}
}

// Each pool has its own responses, replicates and failures. One text of two models is two responses.
func TestPools(t *testing.T) {
	past := stage.Role{Name: schemas.RolePast, Model: "actor-model", Revision: "1"}
	future := stage.Role{Name: schemas.RoleFuture, Model: "actor-model", Revision: "3"}
	d := run(t, generate.Options{Role: role, N: 2, Pools: []generate.Pool{{Role: past, N: 3}, {Role: future, N: 1}}}, answers{
		says("Paris.", "stop"), says("Paris.", "stop"), {Code: "timeout"},
	})
	id := func(revision string) string { return schemas.ResponseID(prompt.ID, "actor-model@"+revision, "Paris.") }
	want := []schemas.Response{
		{ID: id("2"), Replicates: []int{0, 1}, Text: "Paris.", Status: schemas.Complete, PromptTokens: 20},
		{ID: id("1"), Pool: "past", Replicates: []int{0, 1}, Text: "Paris.", Status: schemas.Complete, PromptTokens: 20},
		{ID: id("3"), Pool: "future", Replicates: []int{0}, Text: "Paris.", Status: schemas.Complete, PromptTokens: 20},
	}
	if diff := cmp.Diff(want, d.Responses); diff != "" {
		t.Error(diff)
	}
	failures := []schemas.Failure{{Stage: schemas.StagePast, Code: "timeout", PromptID: prompt.ID, Replicate: 2}}
	if diff := cmp.Diff(failures, d.Failures); diff != "" {
		t.Error(diff)
	}
}

// Every replicate is one of a response's or one of a failure's.
func TestStageConservesReplicates(t *testing.T) {
	said := make(answers, 64)
	for i := range said {
		said[i] = says(strings.Repeat("a", i%5), []string{"stop", "length"}[i%2])
		if i%7 == 0 {
			said[i] = schemas.Generation{Code: "timeout"}
		}
	}
	d := run(t, generate.Options{Role: role, N: 64}, said)
	seen := map[int]int{}
	for _, r := range d.Responses {
		for _, k := range r.Replicates {
			seen[k]++
		}
	}
	for _, f := range d.Failures {
		seen[f.Replicate]++
	}
	for k := range said {
		if seen[k] != 1 {
			t.Errorf("replicate %d is in %d places", k, seen[k])
		}
	}
}

func TestStageStatus(t *testing.T) {
	tests := []struct {
		text, finish string
		strip        bool
		want         schemas.Status
	}{
		{"a", "stop", true, schemas.Complete},
		{"a", "length", true, schemas.Truncated},
		{"", "stop", true, schemas.Empty},
		{"", "length", true, schemas.Truncated},
		{"<think>a</think>", "stop", true, schemas.Empty},
		{"<think>a", "stop", true, schemas.Truncated},
		{"<think>a", "stop", false, schemas.Complete},
	}
	for _, tt := range tests {
		d := run(t, generate.Options{Role: role, N: 1, StripReasoning: tt.strip}, answers{says(tt.text, tt.finish)})
		if got := d.Responses[0].Status; got != tt.want {
			t.Errorf("%q, %s, strip %v: got %s, want %s", tt.text, tt.finish, tt.strip, got, tt.want)
		}
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		o    generate.Options
		want string
	}{
		{generate.Options{}, `role.name is ""; allowed is actor`},
		{generate.Options{Role: role, N: 257}, "n is 257; allowed is 1 to 256"},
		{generate.Options{Role: role, N: -1}, "n is -1"},
		{generate.Options{Role: role, Pools: []generate.Pool{{Role: role, N: 1}}}, `pools[0].role.name is "actor"; allowed are past and future`},
		{generate.Options{Role: role, Pools: []generate.Pool{{Role: stage.Role{Name: "past"}}}}, "pools[0].n is 0; allowed is 1 to 256"},
		{generate.Options{Role: role, Pools: []generate.Pool{{Role: stage.Role{Name: "past", Model: "actor-model@2"}, N: 1}}}, `pools[0] is "actor-model@2", the model of actor`},
	}
	for _, tt := range tests {
		if _, err := generate.Spec(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.o, err, tt.want)
		}
	}
}

// The stage works after its options were encoded and decoded.
func TestSpec(t *testing.T) {
	spec, err := generate.Spec(generate.Options{Role: role, N: 2, StripReasoning: true})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := stage.Chain([]stage.Spec{spec})
	if err != nil {
		t.Fatal(err)
	}
	d := schemas.Dossier{Prompt: prompt}
	if err := stage(t.Context(), answers{says("<think>a</think>b", "stop"), says("c", "stop")}, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Responses) != 2 || d.Responses[0].Text != "b" {
		t.Errorf("got %+v", d.Responses)
	}
}

// responsesOf counts the responses of a dossier.
func responsesOf(d schemas.Dossier) int { return len(d.Responses) }

func TestGenerate(t *testing.T) {
	worker, err := simulator.Start(simulator.Options{World: &world.World{QualityMean: 3, Spread: 1, ResponseChars: 100}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(infer.Attach(t.Name()).Close(), worker.Close()); err != nil {
			t.Error(err)
		}
	})
	served := role
	served.Endpoints = []stage.Endpoint{{URL: worker.URL()}}

	p, s := beam.NewPipelineWithRoot()
	prompts := beam.Create(s, newPrompt("one"), newPrompt("two"), newPrompt("three"))
	dossiers, err := generate.Generate(s, prompts, generate.Options{Role: served, N: 3}, infer.Options{Attempt: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	passert.Equals(s, beam.ParDo(s, responsesOf, dossiers), 3, 3, 3)
	ptest.RunAndValidate(t, p)

	if _, err := generate.Generate(s, prompts, generate.Options{}, infer.Options{Attempt: t.Name()}); err == nil {
		t.Error("options without a role give no error")
	}
}
