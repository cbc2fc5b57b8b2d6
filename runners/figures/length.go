package figures

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"coeval/runners/glm"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
)

const (
	// gridChars and gridCells are the width and number of the grid's cells. The last cell has all longer
	// responses.
	gridChars, gridCells = 100, 60
)

// sweptRhos returns 0, 0.05, …, 0.45 and the run's own ρ.
func sweptRhos(own float64) []float64 {
	rhos := []float64{own}
	for hundredths := 0; hundredths <= 45; hundredths += 5 {
		rhos = append(rhos, float64(hundredths)/100)
	}
	slices.Sort(rhos)
	return slices.Compact(rhos)
}

// NearestSweptRho returns the ρ of 0, 0.05, …, 0.45 that is nearest to rho.
func NearestSweptRho(rho float64) float64 {
	return min(float64(int(math.Round(rho*20))*5)/100, 0.45)
}

type lengthTally struct {
	options     pairs.ActorOptions
	calibration *score.Calibration
	reads       bool
	rhos        []float64
	swept       []rhoTally
	// all are of (length, S) over all responses, within of the deviations from each prompt's means.
	all, within moments
	longerWins  float64
	longerOf    int64
	shorter     int64
	rejected    int64
	// differences, levels and wins have d, the prompt's mean S and y of each pair.
	differences, levels, wins []float64
	grid                      [][]int64
	bins                      bins
}

// rhoTally sums over the pairs of one rho.
type rhoTally struct {
	pairs, chosen, difference int64
	margin                    float64
}

func newLengthTally(o pairs.ActorOptions, c *score.Calibration, b bins, reads bool) lengthTally {
	rhos := sweptRhos(o.Rho)
	t := lengthTally{options: o, calibration: c, bins: b, reads: reads, rhos: rhos, swept: make([]rhoTally, len(rhos)), grid: make([][]int64, 21)}
	for i := range t.grid {
		t.grid[i] = make([]int64, gridCells)
	}
	return t
}

func (t *lengthTally) add(d *runs.Numbers) {
	f, scores := finding(d, t.calibration)
	if t.reads {
		f = findingOfReads(d)
	}
	level := t.addResponses(d)
	for i, rho := range t.rhos {
		o := t.options
		o.Rho = rho
		selection := pairs.Actor(f, o)
		if selection.Outcome != schemas.Paired {
			continue
		}
		chosen, rejected := responseOf(f, selection.ChosenID), responseOf(f, selection.RejectedID)
		s := &t.swept[i]
		s.pairs++
		s.chosen += int64(chosen.Chars)
		s.difference += int64(chosen.Chars - rejected.Chars)
		s.margin += chosen.Score.Mean() - rejected.Score.Mean()
		if rho == t.options.Rho {
			t.rejected += int64(rejected.Chars)
			if chosen.Chars < rejected.Chars {
				t.shorter++
			}
			if t.reads { // single numbers have no wins of one judgment over another
				continue
			}
			t.differences = append(t.differences, float64(chosen.Chars-rejected.Chars))
			t.levels = append(t.levels, level)
			t.wins = append(t.wins, winShare(scores[chosen.ID], scores[rejected.ID]))
		}
	}
}

// finding returns the input of the actor's selection, and the parsed scores of each response in
// thousandths.
func finding(d *runs.Numbers, c *score.Calibration) (f *schemas.Finding, scores map[string][]int) {
	f = &schemas.Finding{PromptID: d.Prompt.ID}
	scores = make(map[string][]int, len(d.Responses))
	for i := range d.Judgments {
		if j := &d.Judgments[i]; j.Score != nil {
			scores[j.ResponseID] = append(scores[j.ResponseID], thousandths(*j.Score))
		}
	}
	for i := range d.Responses {
		r := &d.Responses[i]
		f.Responses = append(f.Responses, schemas.ResponseFinding{
			ID: r.ID, Pool: r.Pool, Status: schemas.Status(r.Status), Chars: int(r.Chars), Score: c.Apply(sumsOf(scores[r.ID], r.ScoreMean != nil)),
		})
	}
	return f, scores
}

// findingOfReads is finding for a run that reads scores. Parsed times the mean of a response is a whole number of
// thousandths: the mean is that of so many reads, or on the scale of people itself in thousandths.
func findingOfReads(d *runs.Numbers) *schemas.Finding {
	f := &schemas.Finding{PromptID: d.Prompt.ID}
	for i := range d.Responses {
		r := &d.Responses[i]
		own := schemas.ResponseFinding{ID: r.ID, Pool: r.Pool, Status: schemas.Status(r.Status), Chars: int(r.Chars)}
		if r.ScoreMean != nil {
			own.Score = schemas.Score{N: int(r.Parsed), Sum: int64(thousandths(*r.ScoreMean * float64(r.Parsed))), Scored: true}
		}
		f.Responses = append(f.Responses, own)
	}
	return f
}

func responseOf(f *schemas.Finding, id string) *schemas.ResponseFinding {
	for i := range f.Responses {
		if f.Responses[i].ID == id {
			return &f.Responses[i]
		}
	}
	return &schemas.ResponseFinding{}
}

// winShare returns the share of the pairs of a score of a and one of b in which a's is higher;
// equal ones count half.
func winShare(a, b []int) float64 {
	halves := 0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				halves += 2
			case x == y:
				halves++
			}
		}
	}
	return float64(halves) / float64(2*len(a)*len(b))
}

// addResponses counts the scored responses of a prompt by length and returns their mean S.
func (t *lengthTally) addResponses(d *runs.Numbers) (level float64) {
	var own moments
	var scored []*runs.Response
	for i := range d.Responses {
		r := &d.Responses[i]
		if r.ScoreMean == nil {
			continue
		}
		own.add(float64(r.Chars), *r.ScoreMean)
		t.grid[t.bins.twentieth(*r.ScoreMean)][min(int(r.Chars)/gridChars, gridCells-1)]++
		for _, other := range scored {
			longer, shorter := r, other
			if longer.Chars < shorter.Chars {
				longer, shorter = shorter, longer
			}
			if longer.Chars == shorter.Chars {
				continue
			}
			t.longerOf++
			switch {
			case *longer.ScoreMean > *shorter.ScoreMean:
				t.longerWins++
			case *longer.ScoreMean == *shorter.ScoreMean:
				t.longerWins += 0.5
			}
		}
		scored = append(scored, r)
	}
	t.all.join(&own)
	level = own.meanY
	own.meanX, own.meanY = 0, 0 // the deviations from the prompt's means have the mean 0
	t.within.join(&own)
	return level
}

func (t *lengthTally) join(u *lengthTally) {
	for i := range t.swept {
		t.swept[i].pairs += u.swept[i].pairs
		t.swept[i].chosen += u.swept[i].chosen
		t.swept[i].difference += u.swept[i].difference
		t.swept[i].margin += u.swept[i].margin
	}
	t.all.join(&u.all)
	t.within.join(&u.within)
	t.longerWins += u.longerWins
	t.longerOf += u.longerOf
	t.shorter += u.shorter
	t.rejected += u.rejected
	t.differences = append(t.differences, u.differences...)
	t.levels = append(t.levels, u.levels...)
	t.wins = append(t.wins, u.wins...)
	for i := range t.grid {
		for k, n := range u.grid[i] {
			t.grid[i][k] += n
		}
	}
}

func (t *lengthTally) figures() Length {
	const thousand = 1000
	l := Length{
		Slope: t.all.slope() * thousand, Intercept: t.all.meanY - t.all.slope()*t.all.meanX, Correlation: t.all.correlation(),
		SlopeWithin: t.within.slope() * thousand, CorrelationWithin: t.within.correlation(),
		LongerWins: share(t.longerWins, t.longerOf), LongerWinsOf: t.longerOf,
		Grid: Grid{CharsWidth: gridChars, PointsHeight: t.bins.width(), Counts: t.grid},
	}
	for i, s := range t.swept {
		l.Rho = append(l.Rho, RhoFigures{
			Rho: t.rhos[i], Own: t.rhos[i] == t.options.Rho, Pairs: s.pairs,
			Chosen: share(s.chosen, s.pairs), Difference: share(s.difference, s.pairs), Margin: share(s.margin, s.pairs),
		})
		if t.rhos[i] == t.options.Rho {
			l.Pairs, l.Chosen, l.Difference = s.pairs, share(s.chosen, s.pairs), share(s.difference, s.pairs)
			l.Rejected, l.Shorter = share(t.rejected, s.pairs), share(t.shorter, s.pairs)
		}
	}
	l.Control = control(t.differences, t.levels, t.wins)
	return l
}

// control fits P(win) = σ(θ + φ·tanh(d/s) + ψ·γ); see [Control]. It returns nil with fewer than two
// pairs.
func control(differences, levels, wins []float64) *Control {
	if len(wins) < 2 {
		return nil
	}
	c := &Control{WinShare: stat.Mean(wins, nil), Scale: stat.StdDev(differences, nil)}
	rows := make([][]float64, len(wins))
	for i, d := range differences {
		rows[i] = []float64{1, 0, 0}
		if c.Scale > 0 {
			rows[i][1] = math.Tanh(d / c.Scale)
		}
	}
	mean, deviation := stat.PopMeanStdDev(levels, nil)
	if deviation > minDeviation {
		for i, level := range levels {
			rows[i][2] = (mean - level) / deviation
		}
	}
	fitted := glm.Fit(rows, wins, nil, glm.Ridge, nil)
	c.Theta, c.Phi, c.Psi = fitted[0], fitted[1], fitted[2]
	for i := range rows {
		c.Controlled += glm.Logistic(c.Theta+c.Psi*rows[i][2]) / float64(len(rows))
	}
	return c
}

// minDeviation of the prompts' mean scores is above the deviation of equal means with different
// roundings.
const minDeviation = 1e-9
