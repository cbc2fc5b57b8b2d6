package world

import (
	"cmp"
	"math"
	"slices"
	"testing"
)

// readOf returns the probabilities of a read of a page.
func readOf(t *testing.T, w *World, page string, seed int64) map[string]float64 {
	t.Helper()
	q := w.Read(user(page), "m")
	found := map[string]float64{}
	c, likely := w.ReadToken(&q, seed)
	for _, p := range likely {
		found[p.Token] += p.P
	}
	if !slices.IsSortedFunc(likely, func(a, b Probability) int { return cmp.Compare(b.P, a.P) }) {
		t.Errorf("the probabilities do not fall: %v", likely)
	}
	if c.Tokens != 1 || c.FinishReason != "length" || found[c.Text] == 0 {
		t.Fatalf("the answer is %+v", c)
	}
	return found
}

// A read has the probabilities of the hidden truth, over both spellings of a label: for two judgments that of
// the verdict in words, for a response that of the rounded scores; and the labels have read_mass together.
func TestReadToken(t *testing.T) {
	w := Default()
	w.MetaUnparsed, w.JudgeUnparsed, w.ReadOther, w.ScoreStep, w.Truncated, w.Empty, w.JudgeCutOff = 0, 0, 0.2, 0, 0, 0, 0
	response := w.Answer(user("a question"), "m", 1, 0).Text
	judgment := func(seed int64) string { return w.Answer(user("judge this: "+response), "m", seed, 0).Text }
	page := judgment(1) + "\n" + judgment(2)
	q := w.Read(user(page), "m")
	want := w.firstWins(q.first, q.second)
	got := readOf(t, &w, page, 1)
	a, b := got["A"]+got[" A"], got["B"]+got[" B"]
	if math.Abs(a+b-0.8) > 1e-9 || math.Abs(a/(a+b)-want) > 1e-9 || got[" A"] == 0 {
		t.Errorf("A has %v and B %v of a mass of 0.8, want a share of A of %v", a, b, want)
	}
	if again := readOf(t, &w, page, 99); again["A"] != got["A"] {
		t.Error("a read depends on the seed: a model's probabilities do not")
	}

	// Without discrimination only position and taste are left.
	blind := w
	blind.ReadLoss, blind.FirstBias, blind.Taste = 1, 0, 0
	got = readOf(t, &blind, page, 1)
	if p := (got["A"] + got[" A"]) / 0.8; math.Abs(p-0.5) > 1e-9 {
		t.Errorf("a blind read has %v", p)
	}

	// The mean of a response's distribution is that of many scores, but for rounding to whole points, whose error
	// is at most a few hundredths at a deviation of 0.8. 400 scores have a standard error of 0.04.
	got = readOf(t, &w, "judge this: "+response, 1)
	var mass, mean float64
	for _, label := range scoreLabels {
		p := got[string(label)] + got[" "+string(label)]
		mass += p
		mean += p * float64(label-'0')
	}
	mean /= mass
	var scores float64
	for seed := range int64(400) {
		scores += w.Truth(judgment(seed)).Score / 400
	}
	if math.Abs(mass-0.8) > 1e-9 || math.Abs(mean-scores) > 0.2 {
		t.Errorf("the read has the mean %v over a mass of %v, scores have %v", mean, mass, scores)
	}
}

// Every word has its own number.
func TestWords(t *testing.T) {
	for number := range Words {
		if got, ok := WordNumber(Word(number)); !ok || got != number {
			t.Errorf("word %d, %s, has the number %d, %v", number, Word(number), got, ok)
		}
	}
	for _, text := range []string{"", "A", "method", "method20", "method-0", "method00", " method0"} {
		if number, ok := WordNumber(text); ok {
			t.Errorf("%q has the number %d", text, number)
		}
	}
}
