package pairs

import (
	"math"
	"math/rand/v2"
	"testing"

	"coeval/schemas"
	"coeval/transforms/rating"
)

// withReads gives a finding reads that are as sure as its verdicts.
func withReads(f *schemas.Finding) *schemas.Finding {
	n := len(f.Judgments)
	out := *f
	out.Reads = make([]int64, n*n)
	for m := range n {
		for k := range n {
			out.Reads[m*n+k] = -1
			switch f.Verdict(m, k) {
			case schemas.First:
				out.Reads[m*n+k] = schemas.ReadUnit
			case schemas.Second:
				out.Reads[m*n+k] = 0
			}
		}
	}
	return &out
}

// Reads of 0 and 1 give the selections and weights of the verdicts that they stand for, bit by bit.
func TestSureReadsAreVerdicts(t *testing.T) {
	for _, rows := range [][]string{{"-11", "0-2", "01-"}, {"-121", "2-12", "11-.", "-20-"}, {"-111", "2-11", "22-1", "222-"}} {
		f := finding(rows...)
		r := withReads(f)
		c, soft := CountPositions(f), CountPositions(r)
		if soft.First != c.First*schemas.ReadUnit || soft.Second != c.Second*schemas.ReadUnit || Weights(c) != Weights(soft) {
			t.Errorf("%v: positions %+v as verdicts and %+v as reads", rows, c, soft)
		}
		for _, o := range []JudgeOptions{{}, {PositionWeights: ResponseWeights}} {
			want, got := Judge(f, Weights(c), o), Judge(r, Weights(soft), o)
			if want.ChosenID != got.ChosenID || want.RejectedID != got.RejectedID || want.Reason != got.Reason {
				t.Errorf("%v, %+v: %+v as verdicts and %+v as reads", rows, o, want, got)
			}
			for i := range want.Elo {
				if want.Elo[i] != got.Elo[i] {
					t.Errorf("%v, %+v: ratings %v as verdicts and %v as reads", rows, o, want.Elo, got.Elo)
				}
			}
		}
	}
}

// Reads with P = σ(ε_m − ε_n) have their maximum at ε but for the ridge: with B_mn + B_nm = 1 for each pair and
// w = 1/2, the gradient of the likelihood at ε is Σ_n (σ(ε_m − ε_n) − σ(ε_m − ε_n)) = 0.
func TestSoftWinsRecoverTheRatings(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 7
	eps := make([]float64, n)
	var mean float64
	for i := range eps {
		eps[i] = r.NormFloat64()
		mean += eps[i] / n
	}
	f := better(n)
	f.Reads = make([]int64, n*n)
	const bias = 0.8 // of the first place: both orders together cancel it in the order of the ratings
	for m := range n {
		for k := range n {
			f.Reads[m*n+k] = int64(math.Round(schemas.ReadUnit / (1 + math.Exp(eps[k]-eps[m]))))
		}
	}
	selection := Judge(f, even, JudgeOptions{Lambda: 1e-6})
	for i := range eps {
		if got := selection.Elo[i]; math.Abs(got-(eps[i]-mean)) > 1e-4 {
			t.Errorf("rating %d is %v, want %v", i, got, eps[i]-mean)
		}
	}
	for m := range n {
		for k := range n {
			f.Reads[m*n+k] = int64(math.Round(schemas.ReadUnit / (1 + math.Exp(eps[k]-eps[m]-bias))))
		}
	}
	scores := Scores(f, Weights(CountPositions(f)), rating.Prior{Shared: 1e-3, Own: 30})
	for i := range eps {
		for k := range eps {
			if (eps[i] > eps[k]) != (scores[i] > scores[k]) && i != k {
				t.Errorf("ratings %v are in another order than %v", scores, eps)
			}
		}
	}
}

// A read without a value is no verdict: it counts for no rating and for no place, but was asked.
func TestUnparsedReads(t *testing.T) {
	f := withReads(better(4))
	for k := range 4 { // all of judgment 3, the best
		f.Reads[3*4+k], f.Reads[k*4+3] = -1, -1
	}
	selection := Judge(f, even, JudgeOptions{})
	if selection.ChosenID == f.Judgments[3].ID || selection.Outcome != schemas.Paired {
		t.Errorf("%+v: a judgment without a read is chosen", selection)
	}
	if c := CountPositions(f); c.First+c.Second != 6*schemas.ReadUnit { // 3·2 of the other three
		t.Errorf("%+v: positions count reads without a value", c)
	}
}
