package calibrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"coeval/datasets/labels"
	"coeval/schemas"
	"coeval/transforms/score"
)

// both returns the comparison of reads and judgments in words on pairs of responses whose true difference people
// know. For each response a read has an error of one deviation, and each of four judgments one of another.
func both(prompts int, readError, judgmentError float64) *Verdicts {
	const n = 4
	r := rand.New(rand.NewPCG(3, 4))
	b := newBuilder(labels.Pairs)
	for i := range prompts {
		id := fmt.Sprintf("p%03d", i)
		var names [2]string
		var quality [2]float64
		for k := range names {
			quality[k] = 2.5 + 0.6*r.NormFloat64()
			names[k] = b.response(id, fmt.Sprint("r", k), 10)
			d := &b.dossiers[len(b.dossiers)-1]
			last := &d.Responses[len(d.Responses)-1]
			for range n {
				last.Judgments = append(last.Judgments, schemas.Judgment{Score: int(1000 * (quality[k] + judgmentError*r.NormFloat64())), Text: strings.Repeat("x", 400), PromptTokens: 100})
			}
			last.Reads = []schemas.Read{{ValueMicros: int64(1e6 * (quality[k] + readError*r.NormFloat64())), PromptTokens: 90}}
		}
		preferred := schemas.First
		if quality[1] > quality[0] {
			preferred = schemas.Second
		}
		b.pair(id, names[0], names[1], preferred)
	}
	figures := func(reads bool) *Figures {
		for i := range b.dossiers {
			score.Dossier(&b.dossiers[i], score.Options{Reads: reads})
		}
		return Of(b.set, b.dossiers, Asked{
			Judge: Judge{CalibratedJudge: score.CalibratedJudge{Model: "m", Judgments: n, Template: "t"}, MinJudgments: 2, Reads: reads},
			Scale: labels.RubricScale, Resamples: 200,
		})
	}
	return OfBoth(figures(true), figures(false), b.dossiers)
}

// The sentence follows the ratio of the discriminations. The difference of two qualities of 0.6 has, in the
// direction of people's preference, the mean 0.6·2/√π = 0.677 and the variance 2·0.36 − 0.458 = 0.262; errors of e
// of each response add 2·e². With a read's error of 0.1 and 4 judgments of an error of 0.8, whose mean errs by 0.4,
//
//	0.677/√(0.262 + 0.02) = 1.275    0.677/√(0.262 + 0.32) = 0.887    ratio 1.44
func TestVerdicts(t *testing.T) {
	v := both(400, 0.1, 0.8)
	if v.Ratio == nil || math.Abs(v.Ratio.Value-1.44) > 0.2 || *v.Ratio.Low < 1.1 || v.Pairs != 400 {
		t.Fatalf("%+v of %d pairs, want a ratio of 1.44", v.Ratio, v.Pairs)
	}
	if math.Abs(*v.Read.Discrimination-1.275) > 0.15 || math.Abs(*v.Reasoned.Discrimination-0.887) > 0.15 {
		t.Errorf("discriminations are %v and %v, want 1.275 and 0.887", *v.Read.Discrimination, *v.Reasoned.Discrimination)
	}
	// A read is a token; 4 judgments of 400 characters are 400 tokens. Each reads its prompt once.
	if v.Read.GeneratedTokens != 1 || v.Reasoned.GeneratedTokens != 400 || v.Read.PromptTokens != 90 || v.Reasoned.PromptTokens != 100 {
		t.Errorf("costs are %+v and %+v", v.Read, v.Reasoned)
	}
	for want, v := range map[string]*Verdicts{
		"reads are worth their price":           v,
		"judgments in words are worth theirs":   both(400, 2, 0.2),
		"the labels are too few to tell":        both(16, 0.5, 0.8),
		"do not show which verdicts are worth":  both(1, 0.4, 0.8),
		"for 1 instead of 400 generated tokens": v,
	} {
		if got := v.Sentence(); !strings.Contains(got, want) {
			t.Errorf("%q, want %q; %+v", got, want, v.Ratio)
		}
	}
}
