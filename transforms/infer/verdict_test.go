package infer

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/simulator"
)

func winner() *Verdict { return &Verdict{Label: "Winner", Values: []string{"A", "B"}} }

// The pattern takes what ends in a verdict, and nothing else.
func TestVerdictPattern(t *testing.T) {
	v := Verdict{Label: "Score", Values: []string{"0", "0.5", "5"}}
	pattern := regexp.MustCompile("^(?:" + pattern(&v, 1000) + ")$")
	thousand := strings.Repeat("é", 1000)
	for text, want := range map[string]bool{
		"Good.\nIt is.\n\nScore: 0.5": true,
		"\nScore: 5":                  true,
		"Score: 5\nScore: 0":          true,
		thousand + "\nScore: 5":       true,
		"x" + thousand + "\nScore: 5": false,
		"Good. Score: 5":              false,
		"\nScore: 0x5":                false,
		"\nScore: 4":                  false,
		"\nScore: 5 or so":            false,
		"Good.":                       false,
	} {
		if pattern.MatchString(text) != want {
			t.Errorf("%.60q: taken is %t", text, !want)
		}
	}
	// By the rules of llama.cpp's grammars/README.md; that a server takes it is what make llm shows.
	if got, want := grammar(&v, 10), `root ::= [^\x7F]{0,10} "\nScore: " ("0" | "0.5" | "5")`; got != want {
		t.Errorf("the grammar is %s, want %s", got, want)
	}
	for _, reasoning := range []int{0, 10} {
		var made struct {
			Properties map[string]any `json:"properties"`
			Required   []string       `json:"required"`
		}
		if err := json.Unmarshal([]byte(schema(&v, reasoning)), &made); err != nil || len(made.Properties) != len(made.Required) {
			t.Errorf("schema %s: %v", schema(&v, reasoning), err)
		}
	}
}

// Every dialect's own way is found, and what comes ends in a verdict; keys are those of the
// verdict, not of the way.
func TestVerdictsAreEnforced(t *testing.T) {
	for dialect, by := range map[string]string{
		simulator.VLLM: "structured_outputs", simulator.SGLang: "regex", simulator.LlamaCpp: "grammar", simulator.None: "response_format",
	} {
		t.Run(dialect, func(t *testing.T) {
			s := start(t, simulator.Options{Dialect: dialect})
			p := open(t, Options{})
			r := actorAt(s.URL())
			r.Verdict = winner()
			for _, of := range ask(t, p, callsOf(r, 3, 4)) {
				for _, g := range of {
					if dialect == simulator.None {
						var said map[string]string
						if err := json.Unmarshal([]byte(g.Text), &said); err != nil || said["winner"] != "A" && said["winner"] != "B" || said["reasoning"] == "" {
							t.Errorf("%q, %v", g.Text, err)
						}
					} else if !strings.HasSuffix(g.Text, "\nWinner: A") && !strings.HasSuffix(g.Text, "\nWinner: B") {
						t.Errorf("%q ends in no verdict", g.Text)
					}
				}
			}
			endpoints, err := p.fleet.of(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := endpoints[0].enforcing[enforced(r)].name; got != by {
				t.Errorf("enforced by %s, want %s", got, by)
			}
		})
	}
}

// A server that ignores every field says 200 to all of them: the run ends before it pays for
// free texts.
func TestUnenforcedVerdictsStop(t *testing.T) {
	s := start(t, simulator.Options{IgnoreConstraints: true})
	r := actorAt(s.URL())
	r.Verdict = winner()
	_, err := try(t.Context(), open(t, Options{}), callsOf(r, 3, 4))
	if err == nil || !strings.Contains(err.Error(), s.URL()) || !strings.Contains(err.Error(), "verdicts: free") {
		t.Fatalf("%v: does not say where and what to do", err)
	}
	// One probe of n, and the trap in each of five ways.
	if got := s.Server().Stats().Requests; got != 1+int64(len(enforcements)) {
		t.Errorf("%d requests were made", got)
	}
}

// The judge's server is known to enforce nothing before the actor is asked for anything.
func TestVerdictsAreProvedFirst(t *testing.T) {
	actors, judges := start(t, simulator.Options{}), start(t, simulator.Options{IgnoreConstraints: true})
	judge := actorAt(judges.URL())
	judge.Name, judge.Verdict = schemas.RoleJudge, winner()
	p := open(t, Options{Prove: []Role{*judge}})
	for range 2 {
		if _, err := try(t.Context(), p, callsOf(actorAt(actors.URL()), 3, 4)); err == nil || !strings.Contains(err.Error(), judges.URL()) {
			t.Fatalf("%v: does not name the judge's server", err)
		}
	}
	if got := actors.Server().Stats().Requests; got != 0 {
		t.Errorf("the actor was asked %d times", got)
	}
	// The trap in each of five ways, and no second time.
	if got := judges.Server().Stats().Requests; got != int64(len(enforcements)) {
		t.Errorf("the judge was asked %d times", got)
	}
}

func TestVerdictIsPartOfTheKey(t *testing.T) {
	key := func(v *Verdict, maxTokens int) string {
		c := Call{Role: &Role{Name: schemas.RoleJudge, Model: "m", MaxTokens: maxTokens, Verdict: v}, Inputs: []string{"a"}}
		return c.Key()
	}
	seen := map[string]int{}
	for i, k := range []string{
		key(nil, 100), key(winner(), 100), key(&Verdict{Label: "Winner", Values: []string{"A"}}, 100),
		key(&Verdict{Label: "Best", Values: []string{"A", "B"}}, 100), key(winner(), 99),
	} {
		if was, ok := seen[k]; ok {
			t.Errorf("calls %d and %d have one key", was, i)
		}
		seen[k] = i
	}
	if again := key(winner(), 100); seen[again] != 1 {
		t.Error("equal calls have two keys")
	}
}

func TestSprung(t *testing.T) {
	for text, want := range map[string]bool{
		"\nZebra: 417": true, "Zebra: 417\n": true, `{"zebra": "417"}`: true,
		"OK": false, "": false, "Zebra: 41": false, `{"zebra": 417}`: false, `{"zebra"`: false, "I say Zebra: 417": false,
	} {
		if sprung(text) != want {
			t.Errorf("%q: sprung is %t", text, !want)
		}
	}
}
