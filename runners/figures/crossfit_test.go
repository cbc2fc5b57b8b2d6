package figures

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/glm"
	"coeval/runners/runs"
	"coeval/transforms/pairs"
)

// judged returns a prompt whose responses got these scores, replicate by replicate. The tables list
// judgments by ID, here the last replicate first.
func judged(scores map[string][]float64) *runs.Numbers {
	n := &runs.Numbers{}
	for _, id := range []string{"a", "b", "c"} {
		list, ok := scores[id]
		if !ok {
			continue
		}
		sum := 0.0
		for i := range list {
			replicate := len(list) - 1 - i
			n.Judgments = append(n.Judgments, runs.Judgment{ResponseID: id, Replicate: int32(replicate), Score: &list[replicate]})
			sum += list[i]
		}
		n.Responses = append(n.Responses, runs.Response{ID: id, Status: "complete", Chars: 10, ScoreMean: new(sum / float64(len(list)))})
	}
	return n
}

func crossed(numbers ...*runs.Numbers) (*CrossFit, *Reliability) {
	var t crossTally
	for _, n := range numbers {
		t.add(n)
	}
	return t.figures()
}

func TestCrossFit(t *testing.T) {
	// Halves of a: 5 5 and 4 4; of b: 2 2 and 3 3. The first halves choose a over b, and the second
	// halves measure 4 − 3; the second halves choose it too, and the first measure 5 − 2.
	got, reliability := crossed(judged(map[string][]float64{"a": {5, 4, 5, 4}, "b": {2, 3, 2, 3}}))
	if diff := cmp.Diff(&CrossFit{Pairs: 2, Margin: 2, WinShare: 1}, got, near); diff != "" {
		t.Error(diff)
	}
	if reliability != nil {
		t.Errorf("two responses have the reliability %+v", reliability)
	}
	// The first half chooses a over b by 5 to 1, and the second half measures 1 − 4.
	got, _ = crossed(judged(map[string][]float64{"a": {5, 1}, "b": {1, 4}}))
	// The second chooses b over a by 4 to 1, and the first measures 1 − 5.
	if diff := cmp.Diff(&CrossFit{Pairs: 2, Margin: -3.5, WinShare: 0}, got, near); diff != "" {
		t.Error(diff)
	}
	if got, _ := crossed(judged(map[string][]float64{"a": {5}, "b": {1}})); got != nil {
		t.Errorf("one judgment of each response gives %+v", got)
	}
}

func TestReliability(t *testing.T) {
	// The halves' means are (1, 1), (2, 3) and (3, 2): Sxy = 1 and Sxx = Syy = 2, so that r = 1/2 and the
	// reliability is 2r/(1+r) = 2/3. With 2 judgments each, 0.7 needs 2·0.7·(1/3) / ((2/3)·0.3) = 7/3.
	one := judged(map[string][]float64{"a": {1, 1}, "b": {2, 3}, "c": {3, 2}})
	_, got := crossed(one)
	want := &Reliability{Responses: 3, Judgments: 2, Within: new(2.0 / 3), All: new(2.0 / 3), Needed: new(7.0 / 3)}
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Error(diff)
	}
	// A prompt of which both halves think more of all responses changes nothing within prompts.
	_, got = crossed(one, judged(map[string][]float64{"a": {3, 3}, "b": {4, 5}, "c": {5, 4}}))
	if math.Abs(*got.Within-2.0/3) > 1e-12 || *got.All <= 2.0/3 {
		t.Errorf("within %v, want 2/3; all %v, want more", *got.Within, *got.All)
	}
	// Halves that contradict each other, and halves without spread.
	_, got = crossed(judged(map[string][]float64{"a": {1, 3}, "b": {2, 2}, "c": {3, 1}}))
	if *got.Within != 0 || got.Needed != nil {
		t.Errorf("within %v, needed %v, want 0 and null", *got.Within, got.Needed)
	}
	_, got = crossed(judged(map[string][]float64{"a": {1, 3}, "b": {1, 3}, "c": {1, 3}}))
	if got.Within != nil || got.All != nil {
		t.Errorf("equal means have the reliability %+v", got)
	}
}

// On noisy judgments of responses that differ, the cross-fitted margin is below the plain one, and the
// reliability is that of the noise: with Var(truth) = 1 and Var(noise)/n = 1/4 of a mean of 4 judgments,
// 1/(1 + 1/4) = 0.8.
func TestCrossFitOfNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var cross crossTally
	plain := newLengthTally(pairs.ActorOptions{}, nil, bins{top: 5000}, false)
	for range 3000 {
		scores := map[string][]float64{}
		for _, id := range []string{"a", "b", "c"} {
			truth := rng.NormFloat64()
			for range 4 {
				scores[id] = append(scores[id], math.Round(1000*(50+truth+rng.NormFloat64()))/1000-47.5)
			}
		}
		n := judged(scores)
		cross.add(n)
		for i := range n.Responses {
			*n.Responses[i].ScoreMean = min(max(*n.Responses[i].ScoreMean, 0), 5)
		}
		plain.add(n)
	}
	fit, reliability := cross.figures()
	var margin float64
	for _, r := range plain.figures().Rho {
		if r.Own {
			margin = r.Margin
		}
	}
	if !(fit.Margin > 0 && fit.Margin < margin) {
		t.Errorf("the cross-fitted margin is %v, the plain one %v", fit.Margin, margin)
	}
	// r of 9,000 pairs has a standard error of (1 − r²)/√n = 0.6/95 = 0.006, and the formula's slope is 0.7.
	if math.Abs(*reliability.Within-0.8) > 0.03 {
		t.Errorf("the reliability is %v, want 0.8", *reliability.Within)
	}
}

// Every fit ends, also of runs as small and as plain as they come.
func TestControlAlwaysEnds(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 2 + rng.IntN(60)
		differences, levels, wins := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			differences[i] = float64(rng.IntN(2000) - 1000)
			levels[i] = float64(rng.IntN(20)) / 4
			wins[i] = min(1, float64(rng.IntN(122))/121+0.3)
		}
		c := control(differences, levels, wins)
		// At the maximum the gradient on θ is 0: Σ(σ(z) − y) + θ/1000.
		mean, deviation := 0.0, 0.0
		for _, l := range levels {
			mean += l / float64(n)
		}
		for _, l := range levels {
			deviation += (l - mean) * (l - mean) / float64(n)
		}
		gradient := glm.Ridge * c.Theta
		for i := range n {
			z := c.Theta + c.Phi*math.Tanh(differences[i]/c.Scale)
			if deviation > 0 {
				z += c.Psi * (mean - levels[i]) / math.Sqrt(deviation)
			}
			gradient += glm.Logistic(z) - wins[i]
		}
		if !(math.Abs(gradient) < 1e-6) {
			t.Errorf("seed %d: the gradient is %v", seed, gradient)
		}
	}
}
