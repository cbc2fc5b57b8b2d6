package pairs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

var even = schemas.PositionWeights{First: 0.5, Second: 0.5}

// better returns a finding of n judgments in which the later one wins every comparison.
func better(n int) *schemas.Finding {
	rows := make([]string, n)
	for m := range rows {
		rows[m] = strings.Repeat("1", m) + "-" + strings.Repeat("2", n-m-1)
	}
	return finding(rows...)
}

// change returns f after a change.
func change(f *schemas.Finding, by func(*schemas.Finding)) *schemas.Finding {
	by(f)
	return f
}

func TestJudge(t *testing.T) {
	scoredResponse := []schemas.ResponseFinding{scored("r", 1, 1000, 1000)}
	failures := []schemas.FailedCalls{
		{Stage: schemas.StageGenerate, Code: "timeout", Calls: 2},
		{Stage: schemas.StageJudge, Code: "context_length", Calls: 11},
		{Stage: schemas.StageMeta, Code: "bad_request", Calls: 5},
	}
	tests := []struct {
		name string
		f    *schemas.Finding
		w    schemas.PositionWeights
		o    JudgeOptions
		want schemas.Selection
	}{
		{"the best against the worst", better(4), even, JudgeOptions{}, paired("d", "a")},
		{
			// a beats b and c, in one order each, when shown first; c beats b in both. With w1 = 0.1 a's
			// wins are 0.1 each, and c is the best; with w1 = 0.9 it is a.
			"a win in the place that wins less counts more", finding("-11", "0-2", "01-"),
			schemas.PositionWeights{First: 0.1, Second: 0.9},
			JudgeOptions{},
			paired("c", "b"),
		},
		{"weights the other way", finding("-11", "0-2", "01-"), schemas.PositionWeights{First: 0.9, Second: 0.1}, JudgeOptions{}, paired("a", "b")},
		{
			// Fixed weights don't care for the run's.
			"fixed weights", finding("-11", "0-2", "01-"),
			schemas.PositionWeights{First: 0.1, Second: 0.9},
			JudgeOptions{PositionWeights: FixedWeights, Fixed: schemas.PositionWeights{First: 0.9, Second: 0.1}},
			paired("a", "b"),
		},
		{
			// First won 3 and second 1, with one more each 4 and 2: w1 = 1/3 is enough for a.
			"the response's weights", finding("-11", "0-2", "01-"),
			schemas.PositionWeights{First: 0.1, Second: 0.9},
			JudgeOptions{PositionWeights: ResponseWeights},
			paired("a", "b"),
		},
		{
			// Only b wins: a, c and d are equal at the bottom.
			"ties at the bottom go to the highest ID", finding("-200", "1-11", "02-0", "020-"), even, JudgeOptions{}, paired("b", "d"),
		},
		{
			// Only b loses: a, c and d are equal at the top.
			"ties at the top go to the lowest ID", finding("-100", "2-22", "01-0", "010-"), even, JudgeOptions{}, paired("a", "b"),
		},
		{
			// The same with the IDs the other way round: c loses, and d, b and a are equal at the top.
			"ties do not go by the list's order", change(finding("-100", "2-22", "01-0", "010-"), func(f *schemas.Finding) {
				for i, id := range []string{"d", "c", "b", "a"} {
					f.Judgments[i].ID = id
				}
			}), even, JudgeOptions{}, paired("a", "c"),
		},
		{"longest allowed", better(4), even, JudgeOptions{MaxJudgmentChars: 100}, paired("d", "a")},
		{"equal scores kept", change(better(3), func(f *schemas.Finding) { f.Judgments[0].Score = 2000 }), even, JudgeOptions{KeepEqualScores: true}, paired("c", "a")},
		{"two judgments", better(2), even, JudgeOptions{MinJudgments: 2}, paired("b", "a")},

		{"not contested", &schemas.Finding{Responses: scoredResponse}, even, JudgeOptions{}, droppedFor(schemas.NotContested)},
		{"not contested, failures or not", &schemas.Finding{Responses: scoredResponse, Failed: failures}, even, JudgeOptions{}, droppedFor(schemas.NotContested)},
		{"nothing scored", &schemas.Finding{}, even, JudgeOptions{}, droppedFor(schemas.NotContested)},
		{"nothing scored for failures", &schemas.Finding{Failed: failures}, even, JudgeOptions{}, failedWith("context_length")},
		{"too few judgments", better(2), even, JudgeOptions{}, droppedFor(schemas.TooFewJudgments)},
		{"too few judgments for failures", change(better(2), func(f *schemas.Finding) {
			f.Failed, f.Responses = failures, []schemas.ResponseFinding{{ID: f.ContestedID, FailedJudgments: 1}}
		}), even, JudgeOptions{}, failedWith("context_length")},
		{"too few judgments, and failures of another response", change(better(2), func(f *schemas.Finding) {
			f.Failed, f.Responses = failures, []schemas.ResponseFinding{{ID: f.ContestedID}, {ID: "another", FailedJudgments: 9}}
		}), even, JudgeOptions{}, droppedFor(schemas.TooFewJudgments)},
		{
			"failures of the actor leave no judgment out", change(better(2), func(f *schemas.Finding) { f.Failed = failures[:1] }),
			even,
			JudgeOptions{},
			droppedFor(schemas.TooFewJudgments),
		},
		{"no verdicts", change(better(4), func(f *schemas.Finding) { f.Verdicts = "" }), even, JudgeOptions{}, droppedFor(schemas.TooFewVerdicts)},
		{"no verdicts for failures", change(better(4), func(f *schemas.Finding) { f.Verdicts, f.Failed = "", failures }), even, JudgeOptions{}, failedWith("bad_request")},
		// The chosen d has 1 of 6 verdicts, 2 would be a third; none is no verdict.
		{"too few verdicts of the chosen", finding("-210", "1-20", "12-0", "010-"), even, JudgeOptions{}, droppedFor(schemas.TooFewVerdicts)},
		{"equal ratings", finding("-11", "1-1", "11-"), even, JudgeOptions{}, droppedFor(schemas.EqualElo)},
		{"equal texts", change(better(3), func(f *schemas.Finding) { f.Judgments[0].Fingerprint = "c" }), even, JudgeOptions{}, droppedFor(schemas.EqualTexts)},
		{"equal judgment scores", change(better(3), func(f *schemas.Finding) { f.Judgments[0].Score = 2000 }), even, JudgeOptions{}, droppedFor(schemas.EqualJudgmentScores)},
		{"chosen too long", change(better(3), func(f *schemas.Finding) { f.Judgments[2].Chars = 101 }), even, JudgeOptions{MaxJudgmentChars: 100}, droppedFor(schemas.JudgmentTooLong)},
		{"rejected may be long", change(better(3), func(f *schemas.Finding) { f.Judgments[0].Chars = 101 }), even, JudgeOptions{MaxJudgmentChars: 100}, paired("c", "a")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.f, tt.w, tt.o)
			computed := got.Elo != nil
			if want := tt.f.ContestedID != "" && len(tt.f.Judgments) >= tt.o.withDefaults().MinJudgments; computed != want {
				t.Errorf("ratings given: %v, want %v", computed, want)
			}
			got.Elo = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResponseWeights(t *testing.T) {
	o := JudgeOptions{PositionWeights: ResponseWeights}
	// First won 3 and second none; each count plus 1.
	if got, want := o.weights(finding("-11", "0-1", "00-"), even), (schemas.PositionWeights{First: 0.2, Second: 0.8}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A judgment needs a third of its 2(n−1) comparisons: with n = 4 that is 2 of 6.
func TestTooFewVerdictsBound(t *testing.T) {
	// The best is d with wins over a and b alone, both when shown first; the worst is a.
	if got := Judge(finding("----", "1---", "1---", "11--"), even, JudgeOptions{}); got.Reason != "" || got.ChosenID != "d" {
		t.Errorf("2 of 6: got %+v", got)
	}
	if got := Judge(finding("----", "1---", "1---", "1---"), even, JudgeOptions{}); got.Reason != schemas.TooFewVerdicts {
		t.Errorf("1 of 6: got %+v", got)
	}
}

// To show each two judgments the other way round, with the same winner, changes nothing.
func TestJudgeSwapped(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 500 {
		f := randomFinding(rng, "111220-")
		n := len(f.Judgments)
		transposed := make([]byte, 0, n*n)
		for m := range n {
			for k := range n {
				transposed = append(transposed, byte(f.Verdict(k, m)))
			}
		}
		swapped := *f
		swapped.Verdicts = turn(string(transposed))
		for _, mode := range []WeightsMode{RunWeights, ResponseWeights} {
			o := JudgeOptions{PositionWeights: mode}
			want, got := Judge(f, Weights(CountPositions(f)), o), Judge(&swapped, Weights(CountPositions(&swapped)), o)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: %s", f.Verdicts, diff)
			}
		}
	}
}

// The order of judgments and comparisons in a dossier decides nothing.
func TestJudgePermuted(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	for range 300 {
		d := randomDossier(rng)
		f := schemas.NewFinding(&d)
		want := Judge(&f, even, JudgeOptions{})
		js := d.Responses[0].Judgments
		rng.Shuffle(len(js), func(i, k int) { js[i], js[k] = js[k], js[i] })
		cs := d.Comparisons
		rng.Shuffle(len(cs), func(i, k int) { cs[i], cs[k] = cs[k], cs[i] })
		shuffled := schemas.NewFinding(&d)
		if diff := cmp.Diff(want, Judge(&shuffled, even, JudgeOptions{})); diff != "" {
			t.Fatalf("%s: %s", f.Verdicts, diff)
		}
	}
}

// randomDossier returns one with some comparisons missing and ratings that often tie.
func randomDossier(rng *rand.Rand) schemas.Dossier {
	r := schemas.Response{ID: "r", Status: schemas.Complete}
	d := schemas.Dossier{ContestedID: "r"}
	n := 3 + rng.IntN(4)
	for i := range n {
		r.Judgments = append(r.Judgments, schemas.Judgment{
			ID: string(rune('a' + i)), Replicate: i, Text: fmt.Sprint("text ", i), Score: 1000 * i, Distinct: true,
		})
	}
	for m := range n {
		for k := range n {
			if m != k && rng.IntN(4) > 0 {
				d.Comparisons = append(d.Comparisons, schemas.Comparison{
					FirstID: r.Judgments[m].ID, SecondID: r.Judgments[k].ID, Winner: []schemas.Winner{schemas.First, schemas.Second}[rng.IntN(2)],
				})
			}
		}
	}
	d.Responses = []schemas.Response{r}
	return d
}

func TestJudgeOptions(t *testing.T) {
	tests := []struct {
		o    JudgeOptions
		want string // empty: valid
	}{
		{JudgeOptions{}, ""},
		{JudgeOptions{PositionWeights: ResponseWeights, Lambda: 1, MinJudgments: 2, MaxJudgmentChars: 1000}, ""},
		{JudgeOptions{PositionWeights: FixedWeights, Fixed: schemas.PositionWeights{First: 0.4, Second: 0.6}}, ""},
		{JudgeOptions{PositionWeights: FixedWeights}, "fixed weights are 0 and 0; allowed are two numbers from 0 to 1 that sum to 1"},
		{JudgeOptions{PositionWeights: FixedWeights, Fixed: schemas.PositionWeights{First: -1, Second: 2}}, "fixed weights are -1 and 2"},
		{JudgeOptions{PositionWeights: "global"}, `position_weights is "global"; allowed is run, response or fixed`},
		{JudgeOptions{Lambda: -1}, "lambda is -1; allowed is 1e-06 to 1000"},
		{JudgeOptions{MinJudgments: 1}, "min_judgments is 1; allowed is 2 to 256"},
		{JudgeOptions{MaxJudgmentChars: -1}, "max_judgment_chars is -1"},
	}
	for _, tt := range tests {
		err := tt.o.Validate()
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.o, err, tt.want)
		}
	}
}

func ExampleJudge() {
	// Judgment c wins every comparison but one without a verdict, and a none.
	f := finding(
		"-22",
		"1-0",
		"11-",
	)
	c := Judge(f, Weights(CountPositions(f)), JudgeOptions{})
	fmt.Printf("chosen %s, rejected %s, ratings %.2f\n", c.ChosenID, c.RejectedID, c.Elo)
	// Output:
	// chosen c, rejected a, ratings [-1.68 0.27 1.41]
}
