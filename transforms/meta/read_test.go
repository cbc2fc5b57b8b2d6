package meta_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"coeval/schemas"
	"coeval/transforms/meta"
	"coeval/transforms/rating"
	"coeval/transforms/stage"
)

// promptsOf keeps what is asked.
type promptsOf struct {
	stage.Caller
	prompts *[]string
}

func (p promptsOf) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	for i := range calls {
		*p.prompts = append(*p.prompts, calls[i].Messages()[0].Content)
	}
	return p.Caller.Do(ctx, calls)
}

// A comparison of one token has the likelier judgment as its winner and keeps the probabilities; the prompt ends so that
// the next token is A or B. Under a budget the probabilities are the games of the rounds.
func TestReads(t *testing.T) {
	texts := eleven()
	for _, budget := range []*rating.Policy{nil, {}} {
		reads := role
		reads.MaxTokens, reads.Read = 1, meta.Read()
		d := dossier(texts...)
		var ends []string
		caller := &memory{texts: texts, known: map[string]schemas.Generation{}, answer: func(a, b int) schemas.Generation {
			if a == 0 && b == 1 {
				return schemas.Generation{LogProbs: map[string]float64{"A": math.Log(0.2), "B": math.Log(0.2)}} // a mass of 0.4
			}
			p := 1 / (1 + math.Exp(float64(b-a)/2))
			return schemas.Generation{Text: "A", FinishReason: "length", LogProbs: map[string]float64{"A": math.Log(0.9 * p), "B": math.Log(0.9 * (1 - p))}}
		}}
		run(t, meta.Options{Role: reads, Budget: budget}, promptsOf{caller, &ends}, &d)
		if len(d.Comparisons) == 0 || budget == nil && len(d.Comparisons) != 110 || budget != nil && len(d.Comparisons) >= 110 {
			t.Fatalf("%d comparisons", len(d.Comparisons))
		}
		at := map[string]int{}
		for i, j := range d.Responses[0].Judgments {
			at[j.ID] = i
		}
		for _, c := range d.Comparisons {
			a, b := at[c.FirstID], at[c.SecondID]
			if a == 0 && b == 1 {
				if c.Unparsed != stage.LowMass || c.Winner != schemas.NoWins || c.Read.MassMicros != 400_000 {
					t.Errorf("a read of a mass of 0.4 is %+v", c)
				}
				continue
			}
			want := schemas.Second
			if a > b {
				want = schemas.First
			}
			p := 1 / (1 + math.Exp(float64(b-a)/2))
			if c.Winner != want || math.Abs(float64(c.Read.ValueMicros)-1e6*p) > 1 || c.Read.MassMicros != 900_000 {
				t.Errorf("%d against %d: %+v, want %v with %v", a, b, c, want, p)
			}
		}
		for _, end := range ends {
			if !strings.HasSuffix(end, "Reply with nothing but one letter, A or B.") {
				t.Fatalf("a prompt ends with %q", end[max(0, len(end)-100):])
			}
		}
		if f := schemas.NewFinding(&d); len(f.Reads) != 121 {
			t.Errorf("the finding has %d reads", len(f.Reads))
		}
	}
}
