package compare

import (
	"fmt"
	"math"
)

// The thresholds of the signs, all from the first run to the last. In the paper (arXiv 2407.19594) mean
// scores rose from 4.1 to 4.7. The meta-judge preferred the higher score in 63 and later in 97.7 % of
// cases, and followed position in 44 and later in 68 %. Our sources do not define its metric of
// position, so there are two figures here.
const (
	// climb is the increase of the mean score in points, fall the smallest decrease of spread and of
	// variance, as a share.
	climb, fall = 0.2, 0.1
	// moreHigher is the increase of the share of the higher score's wins, maxHigher its smallest final
	// value.
	moreHigher, maxHigher = 0.1, 0.75
	// moreConflicts is the increase of the share of order conflicts. moreFirst is the increase of the
	// distance between a half and the share of the first judgment shown, maxFirst its smallest final value.
	moreConflicts, moreFirst, maxFirst = 0.1, 0.05, 0.1
	// growth is the increase of the mean length of chosen responses, as a share.
	growth = 0.1
	// fallBack is the distance of agreement with people below its peak, fallErrors the same in standard
	// errors. Both are about the same labels. A few hundred labels separate 3 points from chance only if
	// the two judges mostly agree with each other.
	fallBack, fallErrors = 0.03, 2
)

// The signs.
const (
	Ceiling  = "scores approach the maximum"
	Higher   = "the meta-judge prefers high scores"
	Position = "the meta-judge prefers a position"
	Longer   = "chosen responses grow longer"
	People   = "agreement with people falls after its peak"
)

// Sign is a sign of saturation that publications describe.
type Sign struct {
	Name string `json:"name"`
	// Seen reports whether the sign was found, Known whether its figures exist.
	Seen  bool `json:"seen"`
	Known bool `json:"known"`
	// Evidence has the figures, Threshold the condition, Advice the remedy.
	Evidence  string `json:"evidence"`
	Threshold string `json:"threshold"`
	Advice    string `json:"advice"`
}

// signs looks for each sign between two runs.
func signs(first, last *Iteration) []Sign {
	return []Sign{ceiling(first, last), higher(first, last), position(first, last), longer(first, last)}
}

func ceiling(first, last *Iteration) Sign {
	falls := func(before, after float64) bool { return before > 0 && after <= (1-fall)*before }
	known := first.Responses > 0 && last.Responses > 0
	return Sign{
		Name: Ceiling, Known: known,
		Seen: known && last.MeanScore-first.MeanScore >= climb && falls(first.Spread, last.Spread) && falls(first.Variance, last.Variance),
		Evidence: fmt.Sprintf("mean score %.2f → %.2f, spread within a prompt %.2f → %.2f, variance of judgments %.2f → %.2f",
			first.MeanScore, last.MeanScore, first.Spread, last.Spread, first.Variance, last.Variance),
		Threshold: fmt.Sprintf("the mean rises by at least %.1f points while spread and variance each fall by at least %.0f %%", climb, 100*fall),
		Advice:    "the judge no longer separates good answers: use a stricter rubric (judge.template), another judge, or a calibration against people",
	}
}

func higher(first, last *Iteration) Sign {
	s := Sign{
		Name: Higher, Evidence: "one of the runs has no comparisons",
		Threshold: fmt.Sprintf("the higher score wins in at least %.0f %%, and in %.0f points more than at first", 100*maxHigher, 100*moreHigher),
		Advice:    "judge pairs would teach high scores: set method.hide_scores, or use another meta_judge.model",
	}
	if first.HigherWins == nil || last.HigherWins == nil {
		return s
	}
	before, after := *first.HigherWins, *last.HigherWins
	s.Known, s.Seen = true, after >= maxHigher && after-before >= moreHigher
	s.Evidence = fmt.Sprintf("the higher score wins %.1f %% → %.1f %%", 100*before, 100*after)
	return s
}

func position(first, last *Iteration) Sign {
	s := Sign{
		Name: Position, Evidence: "one of the runs has no comparisons in both orders",
		Threshold: fmt.Sprintf("order conflicts grow by at least %.0f points, or the share of the first shown moves at least %.0f points further from 50 %%, to at least %.0f points from it",
			100*moreConflicts, 100*moreFirst, 100*maxFirst),
		Advice: "verdicts carry less information: use a stronger meta_judge.model, or a lower meta_judge.temperature",
	}
	if first.First == nil || last.First == nil || first.Conflicts == nil || last.Conflicts == nil {
		return s
	}
	before, after := math.Abs(*first.First-0.5), math.Abs(*last.First-0.5)
	s.Known = true
	s.Seen = *last.Conflicts-*first.Conflicts >= moreConflicts || after-before >= moreFirst && after >= maxFirst
	s.Evidence = fmt.Sprintf("order conflicts %.1f %% → %.1f %%, the first shown wins %.1f %% → %.1f %%", 100**first.Conflicts, 100**last.Conflicts, 100**first.First, 100**last.First)
	return s
}

func longer(first, last *Iteration) Sign {
	return Sign{
		Name: Longer, Known: first.ChosenPairs > 0 && last.ChosenPairs > 0,
		Seen:      first.ChosenPairs > 0 && last.ChosenPairs > 0 && last.ChosenChars >= (1+growth)*first.ChosenChars,
		Evidence:  fmt.Sprintf("at one ρ, chosen responses have %.0f → %.0f characters in the mean of %d and %d pairs", first.ChosenChars, last.ChosenChars, first.ChosenPairs, last.ChosenPairs),
		Threshold: fmt.Sprintf("they grow by at least %.0f %%", 100*growth),
		Advice:    "a larger method.rho; coeval report shows the effect of each value",
	}
}
