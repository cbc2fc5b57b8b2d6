package world

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Skill is the difference between a simulated model and its world's own. The model's name encodes
// it, as in sim:quality=+0.30,length=-0.10,noise=0.80, so that a trained model needs no files. The
// zero Skill is the world's own model.
type Skill struct {
	// Quality is added to the true quality of the model's responses, in points, −5 to 5.
	Quality float64 `json:"quality"`
	// Length is added to the log length of its responses, in standard deviations, −5 to 5.
	Length float64 `json:"length"`
	// Noise is the natural logarithm of a factor, −3 to 3. It multiplies the errors of the model as a
	// judge: noise, persistent error, length bias and leniency. As a meta-judge it divides the
	// slope and multiplies the position bias and the taste for high scores.
	Noise float64 `json:"noise"`
}

// skillMark is the prefix of the names of models with a skill.
const skillMark = "sim:"

// Model returns the name of the model with this skill.
func (s Skill) Model() string {
	return fmt.Sprintf("%squality=%+.4f,length=%+.4f,noise=%+.4f", skillMark, s.Quality, s.Length, s.Noise)
}

// ParseSkill decodes the skill in a model's name. A name without the mark has the zero Skill. It
// returns an error for a name with the mark and a field that is unknown or out of range.
func ParseSkill(model string) (Skill, error) {
	var s Skill
	fields, ok := strings.CutPrefix(model, skillMark)
	if !ok {
		return s, nil
	}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(field, "=")
		x, err := strconv.ParseFloat(value, 64)
		var at *float64
		limit := 5.0
		switch name {
		case "quality":
			at = &s.Quality
		case "length":
			at = &s.Length
		case "noise":
			at, limit = &s.Noise, 3
		default:
			return Skill{}, fmt.Errorf("simulator: model %q has the field %q; allowed are quality, length and noise", model, name)
		}
		if err != nil || !(math.Abs(x) <= limit) {
			return Skill{}, fmt.Errorf("simulator: model %q has %s=%s; allowed is a number from %v to %v", model, name, value, -limit, limit)
		}
		*at = x
	}
	return s, nil
}

// apply returns the world of a judge with this skill.
func (s Skill) apply(w *World) *World {
	if s.Noise == 0 {
		return w
	}
	factor := math.Exp(s.Noise)
	skilled := *w
	skilled.JudgeNoise *= factor
	skilled.JudgePersistent *= factor
	skilled.JudgeLengthBias *= factor
	skilled.Leniency *= factor
	skilled.MetaSlope /= factor
	skilled.FirstBias *= factor
	skilled.Taste *= factor
	return &skilled
}

// Hardness is how much harder it is to judge better answers, under our rule: a judge's errors about an
// answer of a model with the skill Quality grow by the factor exp(Hardness·Quality). They double with
// every half point, and halve for worse models. The answers of the world's own model have the errors
// that the world's fields say.
//
// The logarithm of the factor is bounded as that of a judge's skill is, to ±1.5.
//
// It is the mechanism by which an actor outgrows a judge that stays the same. It is chosen so that the
// signs of package compare come as the paper (arXiv 2407.19594) has them: with a judge that isn't
// trained, within four or five iterations, and not with one that is.
const Hardness = 2 * math.Ln2

// about returns the world of a judge that reads an answer with this shift.
func (w *World) about(c code) *World {
	harder := Hardness * float64(c.shift.quality) / 100
	return Skill{Noise: math.Min(math.Max(harder, -maxNoise), maxNoise)}.apply(w)
}

// shift is the part of a skill that a response's code contains, in hundredths.
func (s Skill) shift() shift {
	return shift{quality: int16(math.Round(100 * s.Quality)), length: int16(math.Round(100 * s.Length))}
}
