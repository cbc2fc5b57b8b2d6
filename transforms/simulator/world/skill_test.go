package world

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"coeval/schemas"
)

// askModel returns n answers of a model to one message.
func askModel(w *World, model, content string, n int) []string {
	texts := make([]string, n)
	for seed := range n {
		texts[seed] = w.Answer([]schemas.Message{{Role: "user", Content: content}}, model, int64(seed), 0).Text
	}
	return texts
}

func quiet() *World {
	w := Default()
	w.Empty, w.Truncated, w.Duplicates, w.JudgeUnparsed, w.JudgeCutOff, w.MetaUnparsed, w.MetaCutOff, w.Messy = 0, 0, 0, 0, 0, 0, 0, 0
	return &w
}

// A name and its skill are one: to four decimals.
func TestSkillNames(t *testing.T) {
	for _, s := range []Skill{{}, {Quality: 0.25, Length: -1.5, Noise: 0.125}, {Quality: -5, Length: 5, Noise: -3}} {
		got, err := ParseSkill(s.Model())
		if err != nil || got != s {
			t.Errorf("ParseSkill(%q) = %+v, %v; want %+v", s.Model(), got, err, s)
		}
	}
	if s, err := ParseSkill("meta-llama/Llama"); s != (Skill{}) || err != nil {
		t.Errorf("a real name has the skill %+v, %v", s, err)
	}
	for _, model := range []string{"sim:", "sim:quality", "sim:quality=x", "sim:quality=6", "sim:noise=-4", "sim:wit=1", "sim:quality=NaN"} {
		if s, err := ParseSkill(model); err == nil {
			t.Errorf("ParseSkill(%q) = %+v; want an error", model, s)
		}
	}
}

// A model of quality +0.5 and length +1 writes responses that are better by 0.5 points and longer
// by 1 standard deviation, and Truth reads both in the text. A shift is the same for every
// response, so that the difference is exact.
func TestSkillShiftsResponses(t *testing.T) {
	w := quiet()
	skilled := Skill{Quality: 0.5, Length: 1}.Model()
	for i := range 50 {
		prompt := fmt.Sprintf("Question %d", i)
		for _, text := range askModel(w, skilled, prompt, 3) {
			truth := w.Truth(text)
			var plain code
			scan(text, func(c code, _ note) { plain = c })
			if plain.shift != (shift{quality: 50, length: 100}) {
				t.Fatalf("the code of %q has the shift %+v", text, plain.shift)
			}
			plain.shift = shift{}
			quality, z := w.hidden(plain)
			if math.Abs(truth.Quality-quality-0.5) > 1e-9 || math.Abs(truth.LengthZ-z-1) > 1e-9 {
				t.Errorf("truth is %+v; without the skill %v and %v", truth, quality, z)
			}
		}
	}
}

// The error of a judge with noise −1 is e⁻¹ of the error that its world has.
func TestSkillSharpensJudges(t *testing.T) {
	w := quiet()
	w.ScoreStep, w.QualityMean, w.PromptSpread, w.Spread = 0, 2.5, 0, 0 // no rounding and no clipping
	page := "Judge <response-0123456789ab>\nan answer\n</response-0123456789ab>"
	spread := func(noise float64) float64 {
		sum, squares, n := 0.0, 0.0, 400
		for _, text := range askModel(w, Skill{Noise: noise}.Model(), page, n) {
			s := w.Truth(text).Score
			sum, squares = sum+s, squares+s*s
		}
		mean := sum / float64(n)
		return math.Sqrt(squares/float64(n) - mean*mean)
	}
	// The standard error of a standard deviation of 400 draws is 1/√800 = 3.5 % of it.
	if ratio := spread(-1) / spread(0); math.Abs(ratio-math.Exp(-1)) > 0.06 {
		t.Errorf("noise −1 scales the spread of scores by %v; want %v", ratio, math.Exp(-1))
	}
}

// A pairwise judge prefers the truly better answer in both orders, ties near ones, and offers only
// the verdicts that the page names.
func TestPairwise(t *testing.T) {
	w := quiet()
	good := askModel(w, Skill{Quality: 2}.Model(), "Question", 1)[0]
	poor := askModel(w, Skill{Quality: -2}.Model(), "Question", 1)[0]
	page := func(first, second, choices string) string {
		return "Compare by " + choices + ".\n<answer-0a1b>\n" + first + "\n</answer-0a1b>\n<answer-0a1c>\n" + second + "\n</answer-0a1c>"
	}
	for _, test := range []struct{ first, second, choices, want string }{
		{good, poor, "A>>B, A>B, A=B, B>A or B>>A", "A>>B"},
		{poor, good, "A>>B, A>B, A=B, B>A or B>>A", "B>>A"},
		{good, poor, "A or B", "A"},
		{poor, good, "A or B", "B"},
	} {
		right := 0
		for _, text := range askModel(w, Skill{Noise: -maxNoise}.Model(), page(test.first, test.second, test.choices), 50) {
			if strings.HasSuffix(text, "Verdict: "+test.want) {
				right++
			}
		}
		// A difference of 4 points and more is at least three standard deviations of both errors.
		if right < 45 {
			t.Errorf("%s: %d of 50 verdicts are %s", test.choices, right, test.want)
		}
	}
	foreign := askModel(w, "judge", page("somebody's answer", "another", "A or B"), 20)
	for _, text := range foreign {
		if !strings.Contains(text, "Verdict: ") {
			t.Errorf("answers without codes are not compared: %q", text)
		}
	}
}

// Under our rule a judge's error about answers that are better by half a point is twice that about its
// world's own, and about those of a much better model e^1.5 times.
func TestBetterAnswersAreHarderToJudge(t *testing.T) {
	w := quiet()
	w.ScoreStep, w.QualityMean, w.PromptSpread, w.Spread = 0, 0, 0, 0 // no rounding, and no clipping
	w.Leniency, w.JudgeNoise, w.JudgePersistent, w.JudgeLengthBias = 1, 0.05, 0, 0
	spread := func(quality float64) float64 {
		q := w.Read([]schemas.Message{{Role: "user", Content: askModel(w, Skill{Quality: quality}.Model(), "Question", 1)[0]}}, "judge")
		level := *w
		level.Leniency /= math.Exp(math.Min(Hardness*quality, maxNoise)) // leniency is an error too
		sum, squares, n := 0.0, 0.0, 2000
		for i := range n {
			r := Rand(i)
			s := float64(level.score(&q, &r)) / 1000
			sum, squares = sum+s, squares+s*s
		}
		mean := sum / float64(n)
		return math.Sqrt(squares/float64(n) - mean*mean)
	}
	base := spread(0)
	for _, test := range []struct{ quality, want float64 }{{0.5, 2}, {-0.5, 0.5}, {2, math.Exp(1.5)}} {
		// The standard error of a deviation of 2,000 normals is 1/√4000 = 1.6 % of it.
		if got := spread(test.quality) / base; math.Abs(got/test.want-1) > 4*0.016*math.Sqrt2 {
			t.Errorf("the error about answers of quality %+.1f is %.3f times the base's; want %.3f", test.quality, got, test.want)
		}
	}
}
