package world

import (
	"fmt"
	"math"
	"testing"

	"coeval/schemas"
)

func pairOfTexts(chosen, rejected string) schemas.Pair {
	return schemas.Pair{
		Chosen:   []schemas.Message{{Role: "assistant", Content: chosen}},
		Rejected: []schemas.Message{{Role: "assistant", Content: rejected}},
	}
}

// truePairs returns n pairs of responses of which the truly better one is chosen, and their swapped
// ones.
func truePairs(w *World, n int) (right, wrong []schemas.Pair) {
	for i := range n {
		texts := askModel(w, "m", fmt.Sprintf("Question %d", i), 2)
		if w.Truth(texts[0]).Quality < w.Truth(texts[1]).Quality {
			texts[0], texts[1] = texts[1], texts[0]
		}
		right = append(right, pairOfTexts(texts[0], texts[1]))
		wrong = append(wrong, pairOfTexts(texts[1], texts[0]))
	}
	return right, wrong
}

// True pairs improve the actor, wrong ones spoil it by as much, and foreign texts teach nothing.
func TestLearnActor(t *testing.T) {
	w := quiet()
	right, wrong := truePairs(w, 100)
	up, down := w.Learn(Skill{}, w.Lesson(right, nil)), w.Learn(Skill{}, w.Lesson(wrong, nil))
	if up.Quality <= 0 || math.Abs(up.Quality+down.Quality) > 1e-12 || up.Noise != 0 {
		t.Errorf("true pairs give %+v, wrong ones %+v", up, down)
	}
	// Of two normal qualities with the deviation 0.6 the better lies 0.6·2/√π = 0.68 above the other.
	if l := w.Lesson(right, nil); math.Abs(l.QualityGap-0.68) > 4*0.051 || l.ActorPairs != 100 {
		t.Errorf("lesson is %+v; want a gap of 0.68", l)
	}
	if s := w.Learn(Skill{}, w.Lesson([]schemas.Pair{pairOfTexts("a real text", "another")}, nil)); s != (Skill{}) {
		t.Errorf("foreign texts give %+v", s)
	}
}

// True judgments sharpen the judge, and more pairs teach more.
func TestLearnJudge(t *testing.T) {
	w := quiet()
	page := "Judge <response-0123456789ab>\nan answer\n</response-0123456789ab>"
	texts := askModel(w, "m", page, 200)
	var right []schemas.Pair
	for i := 0; i < len(texts); i += 2 {
		a, b := texts[i], texts[i+1]
		if w.Truth(a).Error > w.Truth(b).Error {
			a, b = b, a
		}
		right = append(right, pairOfTexts(a, b))
	}
	some, all := w.Learn(Skill{}, w.Lesson(nil, right[:20])), w.Learn(Skill{}, w.Lesson(nil, right))
	if some.Noise >= 0 || all.Noise >= some.Noise || all.Quality != 0 {
		t.Errorf("20 pairs give %+v, 100 %+v", some, all)
	}
}

// Quality never passes the ceiling, with any lesson.
func TestLearnCeiling(t *testing.T) {
	w := quiet()
	s := Skill{}
	for range 200 {
		s = w.Learn(s, Lesson{ActorPairs: 10_000, JudgePairs: 10_000, QualityGap: 2, ErrorGap: 2, LengthGap: 2})
	}
	if w.QualityMean+s.Quality > ceiling+1e-9 || s.Noise < -maxNoise || s.Length > 5 {
		t.Errorf("after 200 trainings the skill is %+v", s)
	}
}
