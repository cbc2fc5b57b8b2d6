package world

import (
	"math"

	"coeval/schemas"
)

// A Lesson is the effect of a training set on a simulated model: the mean differences between chosen
// and rejected texts in their hidden truth. Texts of another world have no effect and do not count.
type Lesson struct {
	// ActorPairs and JudgePairs count the pairs.
	ActorPairs int `json:"actor_pairs"`
	JudgePairs int `json:"judge_pairs"`
	// QualityGap is the mean true quality of chosen less rejected responses, in points, LengthGap
	// that of log length, in standard deviations.
	QualityGap float64 `json:"quality_gap"`
	LengthGap  float64 `json:"length_gap"`
	// ErrorGap is the mean error of rejected less chosen judgments, in points. It is above 0 when the
	// chosen judgments are the more accurate ones.
	ErrorGap float64 `json:"error_gap"`
}

// Lesson computes the lesson of pairs.
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

// The constants of our rule of learning. They are chosen, not measured.
const (
	// rate is the share of a gap by which a large set moves the model. The mean of the chosen texts lies
	// half a gap above the mean of chosen and rejected ones, so that the model becomes like the chosen
	// texts. It is the same for quality, length, and the judge's errors.
	rate = 0.5
	// halfPairs is the number of pairs that transfers half as much as a large set. With the pairs of 100
	// prompts of the moderate world an iteration adds a quarter of a point of quality at first: a few per
	// cent of win rate, as the paper reports.
	halfPairs = 100.0
	// ceiling is the mean quality in points that no training exceeds. The gain shrinks linearly towards
	// it.
	ceiling = 5.0
	// maxNoise bounds the logarithm of the judge's error either way.
	maxNoise = 1.5
)

// Learn returns the skill of a model after training on a lesson, under our rule:
//
//	Δquality = ½ · n/(n+100) · QualityGap · (5 − quality)/(5 − quality of the world's own model)
//	Δlength  = ½ · n/(n+100) · LengthGap
//	Δnoise   = −½ · m/(m+100) · ErrorGap
//
// with n actor pairs and m judge pairs. Wrong pairs, whose chosen text is truly the worse one, have a
// gap below 0 and make the model worse. The other half of our rule is [Hardness].
func (w *World) Learn(s Skill, l Lesson) Skill {
	n, m := float64(l.ActorPairs), float64(l.JudgePairs)
	room := 1.0
	if free := ceiling - w.QualityMean; free > 0 {
		room = math.Min(math.Max((ceiling-w.QualityMean-s.Quality)/free, 0), 1)
	}
	next := Skill{
		Quality: s.Quality + rate*n/(n+halfPairs)*l.QualityGap*room,
		Length:  s.Length + rate*n/(n+halfPairs)*l.LengthGap,
		Noise:   s.Noise - rate*m/(m+halfPairs)*l.ErrorGap,
	}
	next.Quality = math.Min(math.Max(next.Quality, -5), 5)
	next.Length = math.Min(math.Max(next.Length, -5), 5)
	next.Noise = math.Min(math.Max(next.Noise, -maxNoise), maxNoise)
	return next
}
