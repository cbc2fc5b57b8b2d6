package stage

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"coeval/schemas"
)

// Journals outlive programs: these keys were computed when the first journals were written.
func TestKeysAreStable(t *testing.T) {
	free := Role{
		Name: "actor", Model: "m", Revision: "r1", Temperature: 0.8, TopP: 0.95, MaxTokens: 2048,
		Stop: []string{"\n\n"}, ExtraBody: `{"top_k":20}`, Seed: 7,
	}
	bound := Role{Name: "judge", Model: "m", Temperature: 1, TopP: 1, MaxTokens: 64, Verdict: &Verdict{Label: "Score", Values: []string{"0", "5"}}}
	calls := []Call{
		{Role: &free, Inputs: []string{"template", "prompt"}},
		{Role: &free, Inputs: []string{"template", "other"}},
		{Role: &bound, Inputs: []string{"template", "prompt"}},
	}
	want := []string{
		"e4a54e9fbef93e58997c50d3cc41d95e",
		"b57d7da6e23887c087bdf03a7a4200cf",
		"222e19f954e245a3b847f315a32cf487",
	}
	if got := Keys(calls); !slices.Equal(got, want) {
		t.Errorf("keys are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	elsewhere := free
	elsewhere.Endpoints = []Endpoint{{URL: "http://host:8000/v1", APIKeyEnv: "KEY"}}
	if c := (&Call{Role: &elsewhere, Inputs: calls[0].Inputs, N: 7, PromptID: "p", Stage: "generate"}); c.Key() != want[0] {
		t.Errorf("key with endpoints is %s, want %s: the address of a server must not matter", c.Key(), want[0])
	}
}

// The bound leaves room for the verdict line: all tokens but 16, at least half of them, at most 1,000.
func TestMaxReasoning(t *testing.T) {
	for tokens, want := range map[int]int{0: 1000, 10: 5, 64: 48, 1016: 1000, 4096: 1000} {
		if got := (&Role{MaxTokens: tokens}).MaxReasoning(); got != want {
			t.Errorf("with %d tokens MaxReasoning is %d, want %d", tokens, got, want)
		}
	}
}

func TestChain(t *testing.T) {
	var ran []string
	errStop := errors.New("stop")
	step := func(name string, err error) Stage {
		return func(context.Context, Caller, *schemas.Dossier) error {
			ran = append(ran, name)
			return err
		}
	}
	for name, err := range map[string]error{"first": nil, "second": errStop, "third": nil} {
		Register(name, func(json.RawMessage) (Stage, error) { return step(name, err), nil })
		t.Cleanup(func() { delete(stages, name) })
	}
	chain, err := Chain([]Spec{{Name: "first"}, {Name: "second"}, {Name: "third"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := chain(t.Context(), nil, &schemas.Dossier{}); !errors.Is(err, errStop) || !slices.Equal(ran, []string{"first", "second"}) {
		t.Errorf("ran %v with error %v, want first and second, and stop", ran, err)
	}
	if _, err := Chain([]Spec{{Name: "fourth"}}); err == nil || !strings.Contains(err.Error(), `no stage "fourth"`) {
		t.Errorf("an unknown stage: %v", err)
	}
}

// A simulated worker's identity is part of every key; without one the keys are those of real servers.
func TestSimulatedKeysDiffer(t *testing.T) {
	key := func(simulated string, verdict *Verdict) string {
		r := Role{Name: "actor", Model: "m", Simulated: simulated, Verdict: verdict}
		c := Call{Role: &r, Inputs: []string{"x"}, N: 1}
		return c.Key()
	}
	seen := map[string]bool{}
	for _, v := range []*Verdict{nil, {Label: "simulated", Values: []string{"w"}}} {
		for _, s := range []string{"", "w", "v"} {
			k := key(s, v)
			if seen[k] {
				t.Errorf("worker %q with verdict %v has the key of another", s, v)
			}
			seen[k] = true
		}
	}
}

func TestVerdictIsPartOfTheKey(t *testing.T) {
	key := func(v *Verdict, maxTokens int) string {
		c := Call{Role: &Role{Name: schemas.RoleJudge, Model: "m", MaxTokens: maxTokens, Verdict: v}, Inputs: []string{"a"}}
		return c.Key()
	}
	seen := map[string]int{}
	for i, k := range []string{
		key(nil, 100), key(&Verdict{Label: "Winner", Values: []string{"A", "B"}}, 100), key(&Verdict{Label: "Winner", Values: []string{"A"}}, 100),
		key(&Verdict{Label: "Best", Values: []string{"A", "B"}}, 100), key(&Verdict{Label: "Winner", Values: []string{"A", "B"}}, 99),
	} {
		if was, ok := seen[k]; ok {
			t.Errorf("calls %d and %d have one key", was, i)
		}
		seen[k] = i
	}
	if again := key(&Verdict{Label: "Winner", Values: []string{"A", "B"}}, 100); seen[again] != 1 {
		t.Error("equal calls have two keys")
	}
}
