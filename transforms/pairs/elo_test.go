package pairs

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/schemas"
)

var ln3 = math.Log(3)

// The expected ratings solve the gradient by hand. In each case λ is chosen so that the
// ratings are multiples of ln 3, for which σ(−ln 3) = 1/4 and σ(−2·ln 3) = 1/10.
func TestEloGolden(t *testing.T) {
	tests := []struct {
		name   string
		b      [][]float64
		lambda float64
		want   []float64
	}{
		{
			// a beats b, b beats c. By symmetry eps = (x, 0, −x), and for a
			// 0 = B_ab·σ(−x) − λx, that is λ·ln 3 = 1/4.
			"3×3 chain",
			[][]float64{{0, 1, 0}, {0, 0, 1}, {0, 0, 0}},
			1 / (4 * ln3),
			[]float64{ln3, 0, -ln3},
		},
		{
			// a beats b and c, b beats c: 0 = σ(−x) + σ(−2x) − λx, that is λ·ln 3 = 1/4 + 1/10.
			"3×3 all",
			[][]float64{{0, 1, 1}, {0, 0, 1}, {0, 0, 0}},
			0.35 / ln3,
			[]float64{ln3, 0, -ln3},
		},
		{
			// a and b beat c and d. A tie inside a half adds B·(σ(0) − σ(0)) = 0, so
			// eps = (x, x, −x, −x) with 0 = 2·σ(−2x) − λx; with x = ln 3/2, λ·ln 3/2 = 1/2.
			"4×4 halves with ties",
			[][]float64{{0, 0.25, 1, 1}, {0.25, 0, 1, 1}, {0, 0, 0, 0.75}, {0, 0, 0.75, 0}},
			1 / ln3,
			[]float64{ln3 / 2, ln3 / 2, -ln3 / 2, -ln3 / 2},
		},
		{
			// No wins: all the same.
			"4×4 nothing", [][]float64{{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}, 0.1, []float64{0, 0, 0, 0},
		},
		{"none", nil, 0.1, []float64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Elo(tt.b, tt.lambda)
			// Rounding to 1e-9 moves a rating by at most 5e-10.
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateApprox(0, 6e-10)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// At the maximum the gradient is 0. Rounding moves a rating by 5e-10, and the gradient by at
// most that times the curvature, which is below n/2 + λ.
func TestEloIsTheMaximum(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		n := 2 + rng.IntN(20)
		lambda := math.Pow(10, -4*rng.Float64()) // 1e-4 to 1
		b := make([][]float64, n)
		for m := range b {
			b[m] = make([]float64, n)
			for k := range b[m] {
				if m != k && rng.IntN(3) > 0 {
					b[m][k] = rng.Float64()
				}
			}
		}
		eps := Elo(b, lambda)
		sum := 0.0
		for m := range b {
			sum += eps[m]
			g := -lambda * eps[m]
			for k := range b {
				p := 1 / (1 + math.Exp(eps[k]-eps[m]))
				g += b[m][k]*(1-p) - b[k][m]*p
			}
			if math.Abs(g) > 1e-9*float64(n) {
				t.Errorf("n %d, λ %v: gradient %v at %d", n, lambda, g, m)
			}
		}
		if math.Abs(sum) > 5e-10*float64(n) {
			t.Errorf("n %d, λ %v: the ratings sum to %v", n, lambda, sum)
		}
	}
}

// One judgment that wins everything has no finite rating without λ, and takes many steps with a
// small one.
func TestEloWithOneWinner(t *testing.T) {
	b := [][]float64{{0, 10, 10}, {0, 0, 0}, {0, 0, 0}}
	got := Elo(b, 1e-6)
	// By symmetry eps = (2y, −y, −y) with 0 = 20·σ(−3y) − 2λy.
	y := got[0] / 2
	if residual := 20/(1+math.Exp(3*y)) - 2e-6*y; math.Abs(residual) > 1e-9 || got[1] != got[2] {
		t.Errorf("got %v, residual %v", got, residual)
	}
}

// finding returns one with judgments a, b, c, … of scores 0, 1000, 2000, … and with the verdicts in
// rows: the row is the judgment shown first.
func finding(rows ...string) *schemas.Finding {
	f := &schemas.Finding{ContestedID: "r"}
	for i, row := range rows {
		name := string(rune('a' + i))
		f.Judgments = append(f.Judgments, schemas.JudgmentFinding{ID: name, Score: 1000 * i, Chars: 100, Fingerprint: name})
		f.Verdicts += row
	}
	return f
}

func TestWinsGolden(t *testing.T) {
	w := schemas.PositionWeights{First: 0.25, Second: 0.75}
	tests := []struct {
		name string
		rows []string
		want [][]float64
	}{
		{
			// a beats b in both orders: B_ab = w1 + w2 = 1. b and c each win when shown first, a
			// conflict: B_bc = B_cb = w1. a and c each win when shown second: B_ac = B_ca = w2.
			"3×3",
			[]string{
				"-12",
				"2-1",
				"21-",
			},
			[][]float64{
				{0, 1, 0.75},
				{0, 0, 0.25},
				{0.75, 0.25, 0},
			},
		},
		{
			// a–b, a–c: a in both orders, 1. a–d: the first wins in both orders, w1 each. b–c: the
			// same. b–d: none when b is first; when d is first b wins in second place, w2. c–d: missing
			// when c is first; when d is first c wins in second place, w2.
			"4×4",
			[]string{
				"-111",
				"2-10",
				"21--",
				"122-",
			},
			[][]float64{
				{0, 1, 1, 0.25},
				{0, 0, 0.25, 0.75},
				{0, 0.25, 0, 0.75},
				{0.25, 0, 0, 0},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, wins(finding(tt.rows...), w)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCountPositionsAndWeights(t *testing.T) {
	// The 4×4 above: first won (a,b), (a,c), (a,d), (b,c), (c,b), (d,a); second (b,a), (c,a), (d,b), (d,c).
	c := CountPositions(finding("-111", "2-10", "21--", "122-"))
	if want := (schemas.PositionCounts{First: 6, Second: 4}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	tests := []struct {
		c    schemas.PositionCounts
		want schemas.PositionWeights
	}{
		{c, schemas.PositionWeights{First: 0.4, Second: 0.6}},
		{schemas.PositionCounts{First: 3, Second: 1}, schemas.PositionWeights{First: 0.25, Second: 0.75}},
		{schemas.PositionCounts{First: 1}, schemas.PositionWeights{First: 0, Second: 1}},
		{schemas.PositionCounts{}, schemas.PositionWeights{First: 0.5, Second: 0.5}},
	}
	for _, tt := range tests {
		if got := Weights(tt.c); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.c, got, tt.want)
		}
	}
}

// randomFinding returns one whose verdicts are drawn from winners.
func randomFinding(rng *rand.Rand, winners string) *schemas.Finding {
	n := 3 + rng.IntN(9)
	rows := make([]string, n)
	for m := range rows {
		for k := range n {
			if m == k {
				rows[m] += "-"
			} else {
				rows[m] += string(winners[rng.IntN(len(winners))])
			}
		}
	}
	return finding(rows...)
}

// With both orders present B − Bᵀ doesn't depend on the weights: a win in both orders is 1 in
// all, and a conflict gives both sides the same.
func TestWinsLessTransposedIgnoreTheWeights(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		f := randomFinding(rng, "12")
		var before [][]float64
		for _, w1 := range []float64{0, 0.25, 0.5, 0.875, 1} { // sums of these are exact
			b := wins(f, schemas.PositionWeights{First: w1, Second: 1 - w1})
			for m := range b {
				for n := range m {
					b[m][n], b[n][m] = b[m][n]-b[n][m], b[n][m]-b[m][n]
				}
			}
			if diff := cmp.Diff(before, b); before != nil && diff != "" {
				t.Fatalf("%s at w1 = %v: %s", f.Verdicts, w1, diff)
			}
			before = b
		}
	}
}

// Verdicts that all turn around turn the ratings around.
func TestEloOfTurnedVerdicts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		f := randomFinding(rng, "112220-")
		turned := *f
		turned.Verdicts = turn(f.Verdicts)
		w, back := schemas.PositionWeights{First: 0.3, Second: 0.7}, schemas.PositionWeights{First: 0.7, Second: 0.3}
		eps, opposite := Elo(wins(f, w), 0.1), Elo(wins(&turned, back), 0.1)
		for i := range eps {
			if math.Abs(eps[i]+opposite[i]) > 2e-9 {
				t.Fatalf("%s: %v and %v", f.Verdicts, eps, opposite)
			}
		}
	}
}

// turn exchanges first and second.
func turn(verdicts string) string {
	b := []byte(verdicts)
	for i, v := range b {
		switch schemas.Winner(v) {
		case schemas.First:
			b[i] = byte(schemas.Second)
		case schemas.Second:
			b[i] = byte(schemas.First)
		}
	}
	return string(b)
}
