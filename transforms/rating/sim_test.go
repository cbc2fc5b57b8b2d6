package rating

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

type level struct {
	name                              string
	noise, lb, pers, slope, fb, taste float64
}

var levels = []level{
	{"mild", .5, .1, .1, 3, .2, 0},
	{"moderate", .8, .2, .2, 1.5, .5, .2},
	{"noisy", 1, .35, .35, 1, 1, .4},
	{"bad", 1.3, .6, .6, .5, 2, .8},
}

type world struct {
	scores []int
	q      []float64
	win    [][]bool
}

func draw(r *rand.Rand, l level, w float64) world {
	const K, N = 7, 11
	mean := 3 + .4*r.NormFloat64()
	bestV := -1.0
	var out world
	for range K {
		z := r.NormFloat64()
		q := mean + .6*z
		lz := .2*z + math.Sqrt(1-.04)*r.NormFloat64()
		pers := l.pers * r.NormFloat64()
		sc := make([]int, N)
		qs := make([]float64, N)
		var s, ss float64
		for i := range sc {
			v := q + l.lb*lz + pers + l.noise*r.NormFloat64()
			v = math.Round(v/.5) * .5
			v = min(max(v, 0), 5)
			sc[i] = int(math.Round(v * 1000))
			s += v
			ss += v * v
			qs[i] = -math.Abs(v-q) + w*r.NormFloat64()
		}
		v := ss/N - s*s/N/N
		if v > bestV {
			bestV = v
			out = world{scores: sc, q: qs}
		}
	}
	out.win = make([][]bool, N)
	for i := range out.win {
		out.win[i] = make([]bool, N)
		for j := range out.win[i] {
			x := l.slope*(out.q[i]-out.q[j]) + l.fb + l.taste*float64(out.scores[i]-out.scores[j])/1000
			out.win[i][j] = r.Float64() < 1/(1+math.Exp(-x))
		}
	}
	return out
}

func (w world) games(i, j int) []Game {
	b := func(x bool) float64 {
		if x {
			return 1
		}
		return 0
	}
	return []Game{{i, j, b(w.win[i][j])}, {j, i, b(w.win[j][i])}}
}

func TestSim(t *testing.T) {
	if os.Getenv("SIM") == "" {
		t.Skip()
	}
	flat := Prior{Shared: 1e-9, Length: 1, Own: math.Sqrt(10)}
	for _, w := range []float64{0, .5} {
		for _, l := range levels {
			for _, reg := range []float64{.25, .2, .17, .14, .11} {
				r := rand.New(rand.NewPCG(1, 2))
				var full, fullPrior, got, count float64
				n := 1000
				for k := range n {
					x := draw(r, l, w)
					var all []Game
					for i := range x.scores {
						for j := range i {
							all = append(all, x.games(i, j)...)
						}
					}
					gap := func(p *Posterior) float64 { return x.q[extreme(p.Mean, 1)] - x.q[extreme(p.Mean, -1)] }
					p, _ := Fit(x.scores, all, 0, flat)
					full += gap(p)
					p, _ = Fit(x.scores, all, 0, Prior{})
					fullPrior += gap(p)
					var games []Game
					for {
						plan, err := Policy{Regret: reg}.Next(x.scores, games, fmt.Sprint(k))
						if err != nil {
							t.Fatal(err)
						}
						if plan.Stop != Asking {
							got += x.q[plan.Best] - x.q[plan.Worst]
							break
						}
						for _, pr := range plan.Pairs {
							games = append(games, x.games(pr[0], pr[1])...)
						}
					}
					count += float64(len(games))
				}
				fmt.Printf("w=%.1f %-9s reg %.2f comps %.1f gap ratio %.3f (prior on all %.3f) full gap %.3f\n", w, l.name, reg, count/float64(n), got/full, fullPrior/full, full/float64(n))
			}
		}
	}
}
