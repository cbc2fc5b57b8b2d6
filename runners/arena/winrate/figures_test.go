package winrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/glm"
)

// league plays matches with known strengths.
type league struct {
	strength  float64 // of A against B, in logits at equal length
	spread    float64 // standard deviation of a prompt's own difference, in logits
	length    float64 // logits per tanh of a standard deviation of length
	position  float64 // logits for the answer shown first
	longer    float64 // how many standard deviations A is longer
	tieShare  float64
	unparsed  float64
	replicate int
}

func (l league) play(r *rand.Rand, a string, prompts int) ([]Game, func(string, Side) Answer) {
	answers := map[string][2]Answer{}
	var games []Game
	for p := range prompts {
		id := fmt.Sprintf("prompt-%05d", p)
		z := r.NormFloat64() + l.longer
		answers[id] = [2]Answer{{Chars: 2000 + int(200*z)}, {Chars: 2000}}
		own := l.strength + l.spread*r.NormFloat64() + l.length*math.Tanh(z)
		for replicate := range max(l.replicate, 1) {
			for _, first := range []Side{SideA, SideB} {
				g := Game{PromptID: id, A: a, B: "base", First: first, Replicate: replicate, Verdict: Worse}
				sign := 1.0
				if first == SideB {
					sign = -1
				}
				switch u := r.Float64(); {
				case u < l.unparsed:
					g.Verdict, g.Unparsed = "", "missing"
				case u < l.unparsed+l.tieShare:
					g.Verdict = Tie
				case r.Float64() < glm.Logistic(sign*own+l.position):
					g.Verdict = Better
				}
				games = append(games, g)
			}
		}
	}
	return games, func(id string, side Side) Answer {
		if side == SideA {
			return answers[id][0]
		}
		return answers[id][1]
	}
}

// Two rounds by hand. Prompt 1: A wins in both orders, 1. Prompt 2: A>B when A is first, and B is
// first and wins: (1 + 0)/2 = 1/2. Prompt 3 has a verdict in one order only and doesn't count.
func TestRoundsByHand(t *testing.T) {
	games := []Game{
		{PromptID: "1", A: "a", B: "b", First: SideA, Verdict: MuchBetter},
		{PromptID: "1", A: "a", B: "b", First: SideB, Verdict: Worse},
		{PromptID: "2", A: "a", B: "b", First: SideA, Verdict: Better},
		{PromptID: "2", A: "a", B: "b", First: SideB, Verdict: Better},
		{PromptID: "3", A: "a", B: "b", First: SideA, Verdict: Better},
		{PromptID: "3", A: "a", B: "b", First: SideB, Unparsed: "missing"},
		{PromptID: "1", A: "other", B: "b", First: SideA, Verdict: Worse},
	}
	m := NewMatch("a", "b", games, func(string, Side) Answer { return Answer{Chars: 1} })
	want := &Match{
		A: "a", B: "b",
		Rounds: []Round{
			// Soft: A>>B is 1, B>A with B shown first is 1 − 0.25; the mean is 0.875.
			{PromptID: "1", A: Answer{Chars: 1}, B: Answer{Chars: 1}, Hard: 1, Soft: 0.875, Replicates: 1},
			{PromptID: "2", A: Answer{Chars: 1}, B: Answer{Chars: 1}, Hard: 0.5, Soft: 0.5, Replicates: 1},
		},
		Tally: Tally{
			Games: 6, Unparsed: map[string]int{"missing": 1}, Prompts: 3, Counted: 2,
			FirstWins: 4, SecondWins: 1, BothOrders: 2, Agree: 1,
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("match (-want +got):\n%s", diff)
	}
	f := Of(m, Options{})
	if f.WinRate.Value != 0.75 {
		t.Errorf("win rate is %v; want (1 + 1/2)/2", f.WinRate.Value)
	}
}

// The order of the games changes nothing, and the other side of the table has the complement.
func TestFiguresAreSymmetric(t *testing.T) {
	l := league{strength: 0.4, spread: 0.5, length: 0.8, longer: 1, position: 0.7, tieShare: 0.1, unparsed: 0.02, replicate: 2}
	games, answers := l.play(rand.New(rand.NewPCG(7, 7)), "a", 200)
	f := Of(NewMatch("a", "base", games, answers), Options{Resamples: 20})

	shuffled := append([]Game(nil), games...)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(shuffled), func(i, k int) { shuffled[i], shuffled[k] = shuffled[k], shuffled[i] })
	if diff := cmp.Diff(f, Of(NewMatch("a", "base", shuffled, answers), Options{Resamples: 20})); diff != "" {
		t.Errorf("figures depend on the order of the games:\n%s", diff)
	}

	var swapped []Game
	for _, g := range games {
		g.A, g.B = g.B, g.A
		g.First = map[Side]Side{SideA: SideB, SideB: SideA}[g.First]
		swapped = append(swapped, g)
	}
	other := Of(NewMatch("base", "a", swapped, func(id string, s Side) Answer {
		return answers(id, map[Side]Side{SideA: SideB, SideB: SideA}[s])
	}), Options{Resamples: 20})
	for name, pair := range map[string][2]Estimate{
		"win rate": {*f.WinRate, *other.WinRate},
		"length":   {f.LengthControlled.Estimate, other.LengthControlled.Estimate},
		"style":    {f.StyleControlled.Estimate, other.StyleControlled.Estimate},
	} {
		if math.Abs(pair[0].Value+pair[1].Value-1) > 1e-9 || math.Abs(pair[0].Low+pair[1].High-1) > 1e-9 {
			t.Errorf("%s is %+v and, with the sides swapped, %+v", name, pair[0], pair[1])
		}
	}
}

// A preference for a position, however strong, leaves equal models equal: in expectation each wins
// half, with a standard error of at most 0.5/√2000 = 0.011.
func TestPositionBiasCancels(t *testing.T) {
	for _, position := range []float64{-3, 0, 1, 5} {
		games, answers := league{position: position}.play(rand.New(rand.NewPCG(3, 4)), "a", 2000)
		f := Of(NewMatch("a", "base", games, answers), Options{Resamples: 20})
		if math.Abs(f.WinRate.Value-0.5) > 4*0.0112 {
			t.Errorf("position %v: win rate is %v; want 1/2", position, f.WinRate.Value)
		}
		if want := glm.Logistic(position); math.Abs(*f.FirstShown-want) > 0.03 {
			t.Errorf("position %v: the first answer wins %v; want %v", position, *f.FirstShown, want)
		}
	}
}

// Equal models of which one writes longer, before a judge with a taste for length: the win rate
// shows the taste, the controlled rate does not.
func TestLengthControlRecoversStrength(t *testing.T) {
	l := league{length: 1.5, longer: 0.7}
	games, answers := l.play(rand.New(rand.NewPCG(5, 6)), "a", 4000)
	f := Of(NewMatch("a", "base", games, answers), Options{Resamples: 20})
	if f.WinRate.Value < 0.6 {
		t.Errorf("win rate is %v; the taste for length should show", f.WinRate.Value)
	}
	if math.Abs(f.LengthControlled.Value-0.5) > 0.03 {
		t.Errorf("length-controlled win rate is %v; want 1/2", f.LengthControlled.Value)
	}
	if math.Abs(f.StyleControlled.Value-0.5) > 0.03 {
		t.Errorf("style-controlled win rate is %v; want 1/2", f.StyleControlled.Value)
	}
}

// coverage returns the share of sets of games whose interval contains the truth.
func coverage(sets, prompts, resamples int) (winRate, lengthControlled float64) {
	l := league{strength: 0.5, spread: 1, length: 0.8, longer: 0.3, position: 0.5, replicate: 2}
	r := rand.New(rand.NewPCG(11, 12))
	truth := func(control bool) float64 { // by integration over prompts and lengths
		q := rand.New(rand.NewPCG(1, 1))
		sum, n := 0.0, 100_000
		for range n {
			own := l.strength + l.spread*q.NormFloat64()
			if z := q.NormFloat64() + l.longer; !control {
				own += l.length * math.Tanh(z)
			}
			sum += (glm.Logistic(own+l.position) + glm.Logistic(own-l.position)) / 2
		}
		return sum / float64(n)
	}
	winTruth, controlTruth := truth(false), truth(true)
	for range sets {
		games, answers := l.play(r, "a", prompts)
		f := Of(NewMatch("a", "base", games, answers), Options{Resamples: resamples})
		if f.WinRate.Low <= winTruth && winTruth <= f.WinRate.High {
			winRate += 1 / float64(sets)
		}
		if c := f.LengthControlled; c.Low <= controlTruth && controlTruth <= c.High {
			lengthControlled += 1 / float64(sets)
		}
	}
	return winRate, lengthControlled
}

// Intervals of 95 % cover the truth: of 60 sets the share has a standard error of 0.03.
// BenchmarkChaosCoverage repeats it with 500 sets.
func TestIntervalsCover(t *testing.T) {
	win, control := coverage(60, 100, 100)
	if win < 0.86 || control < 0.86 {
		t.Errorf("intervals cover %.3f (win rate) and %.3f (length-controlled); want about 0.95", win, control)
	}
}

func BenchmarkChaosCoverage(b *testing.B) {
	for b.Loop() {
		win, control := coverage(500, 300, 1000)
		b.ReportMetric(win, "win-rate-coverage")
		b.ReportMetric(control, "length-controlled-coverage")
		if win < 0.93 || win > 0.97 || control < 0.93 || control > 0.97 {
			b.Errorf("intervals cover %.3f (win rate) and %.3f (length-controlled); want 0.93 to 0.97", win, control)
		}
	}
}

// With one model the strength is the log-odds of its win rate.
func TestStandingsOfOne(t *testing.T) {
	games, answers := league{strength: 0.8}.play(rand.New(rand.NewPCG(8, 9)), "a", 500)
	m := NewMatch("a", "base", games, answers)
	standings := Standings("base", []*Match{m}, Options{Resamples: 20})
	w := Of(m, Options{Resamples: 20}).WinRate.Value
	if got, want := standings[0].Strength.Value, math.Log(w/(1-w)); math.Abs(got-want) > 1e-4 {
		t.Errorf("strength is %v; want logit(%v) = %v", got, w, want)
	}
	if standings[1] != (Standing{Model: "base", Rounds: 500}) {
		t.Errorf("baseline is %+v; want strength 0", standings[1])
	}
}

// Strengths come out of a league of four, ordered.
func TestStandingsRecover(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	var matches []*Match
	truth := map[string]float64{"weak": -1, "near": 0.1, "strong": 1.2}
	for _, name := range []string{"near", "strong", "weak"} {
		games, answers := league{strength: truth[name]}.play(r, name, 1500)
		matches = append(matches, NewMatch(name, "base", games, answers))
	}
	standings := Standings("base", matches, Options{Resamples: 20})
	order := ""
	for _, s := range standings {
		order += s.Model + " "
		// The standard error of a logit from 1,500 rounds is at most 1/√(1500·0.16) = 0.065.
		if math.Abs(s.Strength.Value-truth[s.Model]) > 0.26 {
			t.Errorf("%s has the strength %v; want %v", s.Model, s.Strength.Value, truth[s.Model])
		}
	}
	if order != "strong near base weak " {
		t.Errorf("order is %q", order)
	}
}

// With the prompts' difficulty from other models' games, the form names it, and equal models stay
// equal.
func TestDifficulty(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	other, otherAnswers := league{strength: 0.3, spread: 1}.play(r, "other", 300)
	games, answers := league{spread: 1}.play(r, "a", 300)
	o := Options{Resamples: 100, Difficulty: Difficulty([]*Match{NewMatch("other", "base", other, otherAnswers)}, Hard)}
	f := Of(NewMatch("a", "base", games, answers), o)
	if f.LengthControlled.Form != DifficultyForm {
		t.Errorf("form is %q; want %q", f.LengthControlled.Form, DifficultyForm)
	}
	if f := Of(NewMatch("a", "base", games, answers), Options{Resamples: 20}); f.LengthControlled.Form != MinimalForm || f.LengthControlled.Psi != 0 {
		t.Errorf("without other games the form is %q with ψ = %v", f.LengthControlled.Form, f.LengthControlled.Psi)
	}
}

// No rounds, one round, all alike: no figure panics, and none is a NaN.
func TestFewRounds(t *testing.T) {
	for n := range 6 {
		games, answers := league{strength: 50}.play(rand.New(rand.NewPCG(1, 1)), "a", n)
		f := Of(NewMatch("a", "base", games, answers), Options{Resamples: 20})
		if (f.WinRate == nil) != (n == 0) {
			t.Errorf("%d rounds: win rate is %v", n, f.WinRate)
		}
		for _, e := range []*Estimate{f.WinRate} {
			if e != nil && (math.IsNaN(e.Value) || math.IsNaN(e.Low) || math.IsNaN(e.High)) {
				t.Errorf("%d rounds: %+v", n, e)
			}
		}
		if c := f.LengthControlled; c != nil && (math.IsNaN(c.Value) || c.Value < 0.5) {
			t.Errorf("%d rounds: %+v", n, c)
		}
	}
}
