package simulator

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// readOf returns the probabilities of a read of a page.
func readOf(t *testing.T, w *World, page string, seed int64) map[string]float64 {
	t.Helper()
	q := w.Read(user(page), "m")
	found := map[string]float64{}
	c := w.ReadToken(&q, seed, func(next []probability) []probability { return next })
	for _, p := range (*c.next)[1:] {
		found[p.token] += p.p
	}
	if c.Tokens != 1 || c.FinishReason != "length" || found[c.Text] == 0 {
		t.Fatalf("the answer is %+v", c)
	}
	return found
}

// A read has the probabilities of the hidden truth, over both spellings of a label: for two judgments that of
// the verdict in words, for a response that of the rounded scores; and the labels have read_mass together.
func TestReadToken(t *testing.T) {
	w := DefaultWorld()
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

	// The mean of a response's distribution is that of many scores, but for rounding to whole points, whose error is at
	// most a few hundredths at a deviation of 0.8. 400 scores have a standard error of 0.04.
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

// The server reports at most 20 tokens, the tokens of vLLM's form however unlikely they are, and the written token.
func TestReadsOverHTTP(t *testing.T) {
	s := start(t, Options{})
	response := s.Server().world.Answer(user("a question"), "m", 1, 0).Text
	type entry struct {
		Token   string  `json:"token"`
		LogProb float64 `json:"logprob"`
		Top     []entry `json:"top_logprobs"`
	}
	ask := func(fields map[string]any) (int, []entry) {
		fields["logprobs"], fields["max_tokens"] = true, 1
		status, b := post(t, s.URL()+"/chat/completions", body("judge this: "+response, fields))
		var answer struct {
			Choices []struct {
				LogProbs struct {
					Content []entry `json:"content"`
				} `json:"logprobs"`
			} `json:"choices"`
		}
		if status == 200 {
			if err := json.Unmarshal([]byte(b), &answer); err != nil || len(answer.Choices[0].LogProbs.Content) != 1 {
				t.Fatalf("%v: %s", err, b)
			}
			return status, answer.Choices[0].LogProbs.Content
		}
		if !strings.Contains(b, "top_logprobs") {
			t.Errorf("refused with %s", b)
		}
		return status, nil
	}
	if status, _ := ask(map[string]any{"top_logprobs": 21}); status != 400 {
		t.Errorf("21 tokens give status %d", status)
	}
	if _, got := ask(map[string]any{"top_logprobs": 3}); len(got[0].Top) != 3 || got[0].Top[0].LogProb < got[0].Top[2].LogProb {
		t.Errorf("3 tokens are %+v", got)
	}
	_, got := ask(map[string]any{"logprob_token_ids": []int{'0', '5', 256 + '0', 'A'}})
	if top := got[0].Top; len(top) != 4 || top[0].Token != "0" || top[2].Token != " 0" || top[3].Token != "A" || top[3].LogProb > -60 {
		t.Errorf("the tokens of four IDs are %+v", top)
	}
}
