package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/pairs"
)

// The reference and the transform that writes runs agree on the selections of random prompts. Few
// different scores and lengths make ties common.
func TestSelectionsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	outcomes := map[string]int{}
	for range 8000 {
		p, f := randomPrompt(rng)
		rules := Rules{
			Rho: []float64{0, 0.1, 0.32, 0.4}[rng.IntN(4)], MinMargin: []float64{0, 0.5}[rng.IntN(2)], MaxChosenChars: []int{0, 400}[rng.IntN(2)],
			MaxJudgmentChars: []int{0, 400}[rng.IntN(2)], MinMetaJudgments: 3, DropEqualScores: rng.IntN(2) == 0,
			Temporal: rng.IntN(2) == 0, Phase: 1 + rng.IntN(2),
		}
		o := pairs.ActorOptions{Rho: rules.Rho, MinMargin: rules.MinMargin, MaxChosenChars: rules.MaxChosenChars, Phase: rules.Phase}
		if rules.Temporal {
			o.Method = pairs.Temporal
		}
		want := pairs.Actor(f, o)
		outcomes[schemas.RoleActor+string(want.Outcome)+want.Reason]++
		if diff := cmp.Diff(want, p.Actor(rules)); diff != "" {
			t.Fatalf("actor: %s\n%+v", diff, f)
		}
		weights := schemas.PositionWeights{First: 0.3, Second: 0.7}
		want = pairs.Judge(f, weights, pairs.JudgeOptions{
			MinJudgments: rules.MinMetaJudgments, KeepEqualScores: !rules.DropEqualScores, MaxJudgmentChars: rules.MaxJudgmentChars,
		})
		outcomes[schemas.RoleJudge+string(want.Outcome)+want.Reason]++
		var ratings []float64
		if p.IsCompared(rules) {
			ratings = p.Ratings(weights, 0.1)
			for i := range ratings {
				if math.Abs(ratings[i]-want.Elo[i]) > 1.5e-9 {
					t.Fatalf("ratings %v, want %v", ratings, want.Elo)
				}
			}
			ratings = want.Elo // as verify takes recorded ratings that agree
		}
		got := p.Judge(rules, ratings)
		got.Elo = want.Elo
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("judge: %s\n%+v", diff, f)
		}
	}
	for role, reasons := range schemas.DropReasons {
		for _, reason := range reasons {
			if outcomes[role+string(schemas.Dropped)+reason] == 0 {
				t.Logf("no %s was dropped for %s", role, reason) // a balance is of a run
			}
		}
		for _, outcome := range []string{string(schemas.Paired), string(schemas.Failed) + "timeout"} {
			if outcomes[role+outcome] == 0 {
				t.Errorf("no %s is %s", role, outcome)
			}
		}
	}
}

// randomPrompt returns one prompt for the reference and for the transform.
func randomPrompt(rng *rand.Rand) (*Prompt, *schemas.Finding) {
	p, f := &Prompt{Contested: -1, FailedCalls: map[schemas.FailedCalls]int{}}, &schemas.Finding{PromptID: "p"}
	pools := []string{"", "", "", schemas.RolePast, schemas.RoleFuture}
	for k := range rng.IntN(8) {
		r := Response{ID: fmt.Sprint("r", k), Pool: pools[rng.IntN(len(pools))], Chars: 100 * (1 + rng.IntN(6))}
		var points []float64
		score := schemas.Score{}
		for range rng.IntN(4) {
			thousandths := 500 * rng.IntN(11)
			points = append(points, float64(thousandths)/1000)
			score.N++
			score.Sum += int64(thousandths)
			score.Squares += int64(thousandths * thousandths)
		}
		if len(points) >= 2 {
			score.Scored = true
			r.Mean, r.Variance = Moments(points)
		}
		if rng.IntN(8) == 0 {
			r.Failed = 1
			count(p, f, schemas.StageJudge, "timeout")
		}
		p.Responses = append(p.Responses, r)
		f.Responses = append(f.Responses, schemas.ResponseFinding{ID: r.ID, Pool: r.Pool, Status: schemas.Complete, Chars: r.Chars, Score: score, FailedJudgments: r.Failed})
	}
	if rng.IntN(8) == 0 {
		count(p, f, []string{schemas.StageGenerate, schemas.StagePast, schemas.StageFuture}[rng.IntN(3)], "timeout")
	}
	p.Contested = Contested(p.Responses, 0)
	if p.Contested < 0 {
		return p, f
	}
	f.ContestedID = p.Responses[p.Contested].ID
	n := rng.IntN(7)
	verdicts := make([]byte, n*n)
	for m := range n {
		j := Judgment{ID: fmt.Sprint("j", m), Text: fmt.Sprint("text ", rng.IntN(6)), Score: float64(rng.IntN(4)), Chars: 100 * (1 + rng.IntN(6))}
		p.Judgments = append(p.Judgments, j)
		f.Judgments = append(f.Judgments, schemas.JudgmentFinding{ID: j.ID, Score: int(1000 * j.Score), Chars: j.Chars, Fingerprint: schemas.Collapse(j.Text)})
		p.Winners = append(p.Winners, make([]schemas.Winner, n))
		for k := range n {
			w := schemas.Missing
			if m != k {
				w = []schemas.Winner{schemas.First, schemas.First, schemas.Second, schemas.NoWins, schemas.Missing}[rng.IntN(5)]
			}
			p.Winners[m][k], verdicts[m*n+k] = w, byte(w)
		}
	}
	f.Verdicts = string(verdicts)
	if rng.IntN(4) == 0 {
		count(p, f, schemas.StageMeta, "timeout")
	}
	return p, f
}

func count(p *Prompt, f *schemas.Finding, stage, code string) {
	p.FailedCalls[schemas.FailedCalls{Stage: stage, Code: code}]++
	for i := range f.Failed {
		if f.Failed[i].Stage == stage && f.Failed[i].Code == code {
			f.Failed[i].Calls++
			return
		}
	}
	f.Failed = append(f.Failed, schemas.FailedCalls{Stage: stage, Code: code, Calls: 1})
}

// Two judgments, of which one won in both orders: with w1 + w2 = 1 and d = ε_1 − ε_2 = 2ε_1, the gradient
// on ε_1 is (1 − σ(d)) − λ·d/2 = 0.
func TestRatings(t *testing.T) {
	p := &Prompt{
		Judgments: make([]Judgment, 2),
		Winners:   [][]schemas.Winner{{schemas.Missing, schemas.First}, {schemas.Second, schemas.Missing}},
	}
	eps := p.Ratings(schemas.PositionWeights{First: 0.3, Second: 0.7}, 0.1)
	d := eps[0] - eps[1]
	if residue := 1/(1+math.Exp(d)) - 0.1*d/2; math.Abs(residue) > 1e-8 || eps[0]+eps[1] != 0 {
		t.Errorf("ratings %v leave %v", eps, residue)
	}
}

func TestMoments(t *testing.T) {
	// The mean is 13.2/3 = 4.4, and the squared deviations from it are 0.01, 0.49 and 0.36: 0.86/3.
	mean, variance := Moments([]float64{4.5, 3.7, 5})
	if mean.RatString() != "22/5" || variance.RatString() != "43/150" {
		t.Errorf("mean %s, variance %s", mean.RatString(), variance.RatString())
	}
}
