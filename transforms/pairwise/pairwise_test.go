package pairwise_test

import (
	"context"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/pairwise"
	"coeval/transforms/stage"
)

// caller answers from a function of the messages and the replicate.
type caller func(messages []schemas.Message, replicate int) schemas.Generation

func (c caller) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	var out [][]schemas.Generation
	for i := range calls {
		var own []schemas.Generation
		for k := range calls[i].N {
			own = append(own, c(calls[i].Messages(), k))
		}
		out = append(out, own)
	}
	return out, nil
}

func dossier() *schemas.Dossier {
	messages := []schemas.Message{{Role: "user", Content: "What is the capital of France?"}}
	id := schemas.PromptID(messages)
	d := &schemas.Dossier{Prompt: schemas.Prompt{ID: id, Messages: messages}}
	for model, text := range map[string]string{"one": "Paris.", "two": "Lyon."} {
		d.Responses = append(d.Responses, schemas.Response{ID: schemas.ResponseID(id, model, text), Text: text})
	}
	if d.Responses[0].Text == "Lyon." {
		d.Responses[0], d.Responses[1] = d.Responses[1], d.Responses[0]
	}
	return d
}

func options() pairwise.Options {
	return pairwise.Options{Role: stage.Role{Name: schemas.RolePairwise, Model: "judge"}, Replicates: 2}
}

// A judge that prefers Paris wherever it stands wins for it in both orders, and each comparison
// names the two responses in the order in which they were shown.
func TestBothOrders(t *testing.T) {
	run, err := pairwise.Stage(options())
	if err != nil {
		t.Fatal(err)
	}
	d := dossier()
	paris, lyon := d.Responses[0].ID, d.Responses[1].ID
	err = run(t.Context(), caller(func(m []schemas.Message, _ int) schemas.Generation {
		page := m[0].Content
		if strings.Index(page, "Paris.") < strings.Index(page, "Lyon.") {
			return schemas.Generation{Text: "Verdict: A>>B", FinishReason: "stop"}
		}
		return schemas.Generation{Text: "Verdict: B>>A", FinishReason: "stop"}
	}), d)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Comparisons) != 4 {
		t.Fatalf("%d comparisons; want 2 orders of 2 replicates", len(d.Comparisons))
	}
	seen := map[string]bool{}
	for _, c := range d.Comparisons {
		if seen[c.ID] {
			t.Errorf("ID %s occurs twice", c.ID)
		}
		seen[c.ID] = true
		winner := c.FirstID
		if c.Winner == schemas.Second {
			winner = c.SecondID
		}
		if winner != paris || c.FirstID == c.SecondID || (c.FirstID != lyon && c.SecondID != lyon) {
			t.Errorf("comparison %+v does not name Paris as the winner", c)
		}
	}
}

// Calls of the two orders, of other answers and of the other scale have keys of their own.
func TestKeys(t *testing.T) {
	keys := map[string]string{}
	for _, scale := range []pairwise.Scale{pairwise.Five, pairwise.Two} {
		for _, text := range []string{"Lyon.", "Nice."} {
			o := options()
			o.Scale = scale
			run, err := pairwise.Stage(o)
			if err != nil {
				t.Fatal(err)
			}
			d := dossier()
			d.Responses[1].Text = text
			err = run(t.Context(), recorder(func(c *stage.Call) {
				if was, ok := keys[c.Key()]; ok {
					t.Errorf("scale %s, %s: key of %s", scale, text, was)
				}
				keys[c.Key()] = string(scale) + " " + text
			}), d)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(keys) != 8 {
		t.Errorf("%d keys; want 2 orders × 2 texts × 2 scales", len(keys))
	}
}

type recorder func(c *stage.Call)

func (r recorder) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i := range calls {
		r(&calls[i])
		out[i] = make([]schemas.Generation, calls[i].N)
	}
	return out, nil
}

// A failed call is a failure that names both responses, and no comparison.
func TestFailure(t *testing.T) {
	run, err := pairwise.Stage(options())
	if err != nil {
		t.Fatal(err)
	}
	d := dossier()
	err = run(t.Context(), caller(func([]schemas.Message, int) schemas.Generation {
		return schemas.Generation{Code: "context_length", Message: "too long"}
	}), d)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Comparisons) != 0 || len(d.Failures) != 4 || d.Failures[0].FirstID == "" || d.Failures[0].Stage != schemas.StagePairwise {
		t.Errorf("%d comparisons and the failures %+v", len(d.Comparisons), d.Failures)
	}
}

// Wrong options name the field, the value and what is allowed.
func TestValidate(t *testing.T) {
	for field, change := range map[string]func(*pairwise.Options){
		"role.name":  func(o *pairwise.Options) { o.Role.Name = "judge" },
		"scale":      func(o *pairwise.Options) { o.Scale = "three" },
		"replicates": func(o *pairwise.Options) { o.Replicates = 65 },
		"template":   func(o *pairwise.Options) { o.Template = "{{.AnswerA}}" },
	} {
		o := options()
		change(&o)
		if _, err := pairwise.Stage(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error is %v", field, err)
		}
	}
}
