package simulator

import (
	"math"

	"coeval/schemas"
)

// A Lesson is what a training set teaches a simulated model: the mean differences between chosen and
// rejected texts in what is hidden behind them. Texts of another world teach nothing and don't count.
type Lesson struct {
	// ActorPairs and JudgePairs count the pairs.
	ActorPairs int `json:"actor_pairs"`
	JudgePairs int `json:"judge_pairs"`
	// QualityGap is the mean true quality of chosen less rejected responses, in points, LengthGap
	// that of log length, in standard deviations.
	QualityGap float64 `json:"quality_gap"`
	LengthGap  float64 `json:"length_gap"`
	// ErrorGap is the mean error of rejected less chosen judgments, in points: above 0 where the chosen
	// ones are truer.
	ErrorGap float64 `json:"error_gap"`
}

// Lesson reads what pairs teach.
func (w *World) Lesson(actor, judge []schemas.Pair) Lesson {
	var l Lesson
	for i := range actor {
		chosen, rejected := w.Truth(text(actor[i].Chosen)), w.Truth(text(actor[i].Rejected))
		if chosen.Kind != "response" || rejected.Kind != "response" {
			continue
		}
		l.ActorPairs++
		l.QualityGap += chosen.Quality - rejected.Quality
		l.LengthGap += chosen.LengthZ - rejected.LengthZ
	}
	for i := range judge {
		chosen, rejected := w.Truth(text(judge[i].Chosen)), w.Truth(text(judge[i].Rejected))
		if chosen.Kind != "judgment" || rejected.Kind != "judgment" {
			continue
		}
		l.JudgePairs++
		l.ErrorGap += rejected.Error - chosen.Error
	}
	if l.ActorPairs > 0 {
		l.QualityGap /= float64(l.ActorPairs)
		l.LengthGap /= float64(l.ActorPairs)
	}
	if l.JudgePairs > 0 {
		l.ErrorGap /= float64(l.JudgePairs)
	}
	return l
}

func text(messages []schemas.Message) string {
	if len(messages) == 0 {
		return ""
	}
	return messages[len(messages)-1].Content
}

// The constants of our rule of learning. They are chosen, not measured: with the pairs of 200
// prompts of the moderate world a model gains a few tenths of a point and a few per cent of
// its judging error an iteration, which is the size of the effects that the paper reports.
const (
	// qualityRate, lengthRate and noiseRate are the shares of a gap that a large set teaches.
	qualityRate, lengthRate, noiseRate = 0.25, 0.35, 0.35
	// halfPairs is the number of pairs that teaches half of what a large set does.
	halfPairs = 100.0
	// ceiling is the mean quality in points that no training passes; room for improvement shrinks
	// linearly towards it.
	ceiling = 5.0
	// maxNoise bounds the logarithm of the judge's error either way.
	maxNoise = 1.5
)

// Learn returns the skill of a model after training on a lesson, under our rule:
//
//	Δquality = 0.25 · n/(n+100) · QualityGap · (5 − quality)/(5 − quality of the world's own model)
//	Δlength  = 0.35 · n/(n+100) · LengthGap
//	Δnoise   = −0.35 · m/(m+100) · ErrorGap
//
// with n actor pairs and m judge pairs. Pairs that are wrong, whose chosen text is truly the worse,
// have a gap below 0 and move the model the wrong way.
func (w *World) Learn(s Skill, l Lesson) Skill {
	n, m := float64(l.ActorPairs), float64(l.JudgePairs)
	room := 1.0
	if free := ceiling - w.QualityMean; free > 0 {
		room = math.Min(math.Max((ceiling-w.QualityMean-s.Quality)/free, 0), 1)
	}
	next := Skill{
		Quality: s.Quality + qualityRate*n/(n+halfPairs)*l.QualityGap*room,
		Length:  s.Length + lengthRate*n/(n+halfPairs)*l.LengthGap,
		Noise:   s.Noise - noiseRate*m/(m+halfPairs)*l.ErrorGap,
	}
	next.Quality = math.Min(math.Max(next.Quality, -5), 5)
	next.Length = math.Min(math.Max(next.Length, -5), 5)
	next.Noise = math.Min(math.Max(next.Noise, -maxNoise), maxNoise)
	return next
}
