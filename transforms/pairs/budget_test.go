package pairs_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"coeval/schemas"
	"coeval/transforms/pairs"
	"coeval/transforms/rating"
)

var (
	paired  = flag.Int("paired", 150, "prompts a level in TestSettledAgainstAll")
	regrets = flag.String("regrets", "", "comma-separated budget.regret values to show instead of the default")
)

// judging is how a simulated judge and meta-judge err. The four are those of the simulated worker.
type judging struct {
	name string
	// noise is the standard deviation of a score, bias that of a response's length bias, own that of
	// an error which all judgments of a response share, in rubric points.
	noise, bias, own float64
	// slope is the meta-judge's, position its preference of the first place in logits, taste its
	// preference of a point more in logits.
	slope, position, taste float64
}

var judgings = []judging{
	{"mild", .5, .1, .1, 3, .2, 0},
	{"moderate", .8, .2, .2, 1.5, .5, .2},
	{"noisy", 1, .35, .35, 1, 1, .4},
	{"bad", 1.3, .6, .6, .5, 2, .8},
}

// contest is the contested response of a prompt: its judgments, their hidden quality, and every verdict.
type contest struct {
	finding schemas.Finding // with all verdicts
	quality []float64
}

// draw returns the contest of a prompt of 7 responses with 11 judgments each. Hidden is the standard
// deviation of the part of a judgment's quality that its score doesn't tell, in points.
func (l judging) draw(r *rand.Rand, id string, hidden float64) contest {
	const responses, judgments = 7, 11
	mean := 3 + .4*r.NormFloat64()
	most := -1.0
	var c contest
	for range responses {
		z := r.NormFloat64()
		quality := mean + .6*z
		length := .2*z + math.Sqrt(1-.04)*r.NormFloat64()
		own := l.own * r.NormFloat64()
		var sum, squares float64
		var found []schemas.JudgmentFinding
		var hiddenQuality []float64
		for i := range judgments {
			score := quality + l.bias*length + own + l.noise*r.NormFloat64()
			score = min(max(math.Round(score/.5)*.5, 0), 5)
			sum += score
			squares += score * score
			key := fmt.Sprintf("%02d", i)
			found = append(found, schemas.JudgmentFinding{ID: key, Score: int(math.Round(score * 1000)), Chars: 1, Fingerprint: key})
			hiddenQuality = append(hiddenQuality, -math.Abs(score-quality)+hidden*r.NormFloat64())
		}
		if v := squares/judgments - sum*sum/judgments/judgments; v > most {
			most = v
			c = contest{schemas.Finding{PromptID: id, ContestedID: "r", Judgments: found}, hiddenQuality}
		}
	}
	verdicts := []byte{}
	for m := range judgments {
		for n := range judgments {
			x := l.slope*(c.quality[m]-c.quality[n]) + l.position + l.taste*float64(c.finding.Judgments[m].Score-c.finding.Judgments[n].Score)/1000
			w := schemas.Second
			if r.Float64() < 1/(1+math.Exp(-x)) {
				w = schemas.First
			}
			if m == n {
				w = schemas.Missing
			}
			verdicts = append(verdicts, byte(w))
		}
	}
	c.finding.Verdicts = string(verdicts)
	return c
}

// settle asks in rounds as the meta stage does, and returns the finding with the verdicts asked for.
func (c *contest) settle(t *testing.T, p rating.Policy) (f schemas.Finding, asked int) {
	f = c.finding
	n := len(f.Judgments)
	verdicts := slices.Repeat([]byte{byte(schemas.NotAsked)}, n*n)
	var scores []int
	for _, j := range f.Judgments {
		scores = append(scores, j.Score)
	}
	var h rating.History
	for {
		plan, err := p.Next(scores, h, f.PromptID)
		if err != nil {
			t.Fatal(err)
		}
		if plan.Stop != "" {
			f.Verdicts = string(verdicts)
			f.Asking = &schemas.Asking{Stopped: plan.Stop, Regret: plan.Regret, Spread: plan.Spread}
			return f, 2 * len(h.Asked)
		}
		for _, pair := range plan.Pairs {
			h.Asked = append(h.Asked, pair)
			for _, order := range [][2]int{pair, {pair[1], pair[0]}} {
				w := c.finding.Verdict(order[0], order[1])
				verdicts[order[0]*n+order[1]] = byte(w)
				game := rating.Game{First: order[0], Second: order[1]}
				if w == schemas.First {
					game.Win = 1
				}
				h.Games = append(h.Games, game)
			}
		}
	}
}

// gap returns how much better the chosen judgment is than the rejected one, in points.
func (c *contest) gap(t *testing.T, f *schemas.Finding, o pairs.JudgeOptions) float64 {
	choice := pairs.Judge(f, schemas.PositionWeights{First: .5, Second: .5}, o)
	if choice.Outcome != schemas.Paired {
		if choice.Reason != schemas.EqualElo {
			t.Errorf("prompt %s: %s %s", f.PromptID, choice.Outcome, choice.Reason)
		}
		return 0
	}
	at := func(id string) float64 {
		i, err := strconv.Atoi(id)
		if err != nil {
			t.Fatal(err)
		}
		return c.quality[i]
	}
	return at(choice.ChosenID) - at(choice.RejectedID)
}

// ratio returns Σa/Σb with the half-width of its 95 % interval over the prompts, by the delta method:
// the standard error is that of the mean of a − (Σa/Σb)·b, divided by the mean of b.
func ratio(a, b []float64) (r, half float64) {
	var sumA, sumB, squares float64
	for i := range a {
		sumA += a[i]
		sumB += b[i]
	}
	r = sumA / sumB
	for i := range a {
		d := a[i] - r*b[i]
		squares += d * d
	}
	n := float64(len(a))
	return r, 1.96 * math.Sqrt(squares/n/n) / (sumB / n)
}

// outcome is what a level gave, by prompt.
type outcome struct {
	full, fullScores, settled, settledElo []float64
	asked                                 []float64
	stops                                 []schemas.Stop
}

func (l judging) run(t *testing.T, prompts int, hidden float64, p rating.Policy) *outcome {
	floats := func() []float64 { return make([]float64, prompts) }
	out := &outcome{floats(), floats(), floats(), floats(), floats(), make([]schemas.Stop, prompts)}
	var group errgroup.Group
	group.SetLimit(8)
	for i := range prompts {
		group.Go(func() error {
			c := l.draw(rand.New(rand.NewPCG(uint64(i), 7)), fmt.Sprintf("prompt-%d", i), hidden)
			elo := pairs.JudgeOptions{KeepEqualScores: true, PositionWeights: pairs.ResponseWeights}
			scores := elo
			scores.Rating = pairs.ScoresRating
			out.full[i] = c.gap(t, &c.finding, elo)
			out.fullScores[i] = c.gap(t, &c.finding, scores)
			f, asked := c.settle(t, p)
			out.settled[i] = c.gap(t, &f, scores)
			out.settledElo[i] = c.gap(t, &f, elo)
			out.asked[i], out.stops[i] = float64(asked), f.Asking.Stopped
			return nil
		})
	}
	_ = group.Wait()
	return out
}

func TestSettledAgainstAll(t *testing.T) {
	policies := []rating.Policy{{}}
	if *regrets != "" {
		policies = nil
		for r := range splitFloats(*regrets) {
			policies = append(policies, rating.Policy{Regret: r})
		}
	}
	w := tabwriter.NewWriter(t.Output(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "judges\tregret\thidden\tcomparisons\tsettled, scores\tsettled, elo\tall, scores\tbound")
	for _, p := range policies {
		for _, hidden := range []float64{0, .5} {
			for _, l := range judgings {
				out := l.run(t, *paired, hidden, p)
				show := func(a []float64) string {
					r, half := ratio(a, out.full)
					return fmt.Sprintf("%.3f ± %.3f", r, half)
				}
				asked := 0.0
				for _, x := range out.asked {
					asked += x / float64(len(out.asked))
				}
				bound := 0
				for _, s := range out.stops {
					if s == schemas.StopBound {
						bound++
					}
				}
				fmt.Fprintf(w, "%s\t%v\t%v\t%.1f\t%s\t%s\t%s\t%.2f\n", l.name, p.Regret, hidden, asked, show(out.settled), show(out.settledElo), show(out.fullScores), float64(bound)/float64(*paired))
			}
		}
	}
	w.Flush()
}

func splitFloats(list string) func(func(float64) bool) {
	return func(yield func(float64) bool) {
		for _, s := range strings.Split(list, ",") {
			x, err := strconv.ParseFloat(s, 64)
			if err != nil || !yield(x) {
				return
			}
		}
	}
}
