package compare

import (
	"math"
	"strings"
	"testing"

	"coeval/runners/calibrate"
)

// judged is a run whose judge agrees with people on some of 100 pairs, each on another prompt: on those
// before agree, and on half of the two after them.
func judged(out string, agree int) Iteration {
	f := &calibrate.Figures{}
	f.Labels.SHA256 = "l"
	for i := range 100 {
		value := 0.0
		switch {
		case i < agree:
			value = 1
		case i < agree+2:
			value = 0.5
		}
		f.Responses = append(f.Responses, calibrate.Response{PromptID: string(rune('A' + i))})
		f.Pairs = append(f.Pairs, calibrate.Pair{First: i, Agree: &value})
	}
	share := float64(agree+1) / 100
	return Iteration{Out: out, Labels: "l", Agreement: &share, people: f}
}

func TestPeople(t *testing.T) {
	unknown := Iteration{Out: "none", unknown: "coeval calibrate --out none has not been run"}
	other := judged("other", 90)
	other.Labels = "another"
	fewer := judged("fewer", 90)
	fewer.people.Judge.Judgments = 3
	for name, c := range map[string]struct {
		runs        []Iteration
		seen, known bool
		evidence    string
	}{
		"it climbs":        {[]Iteration{judged("a", 60), judged("b", 70)}, false, true, "agreement 61.0 % → 71.0 %"},
		"it stays":         {[]Iteration{judged("a", 70), judged("b", 70)}, false, true, "+0.0 points ± 0.0"},
		"it falls back":    {[]Iteration{judged("a", 60), judged("b", 80), judged("c", 70)}, true, true, "61.0 % → 81.0 % → 71.0 %"},
		"it falls at once": {[]Iteration{judged("a", 80), judged("b", 70)}, true, true, "on 100 pairs"},
		"a little":         {[]Iteration{judged("a", 72), judged("b", 70)}, false, true, "-2.0 points"},
		"a gap":            {[]Iteration{judged("a", 80), unknown, judged("b", 70)}, true, true, "81.0 % → 71.0 %"},
		"not at the end":   {[]Iteration{judged("a", 80), unknown}, false, false, "--out none has not been run"},
		"alone":            {[]Iteration{unknown, judged("b", 70)}, false, false, "--out none has not been run"},
		"other labels":     {[]Iteration{other, judged("b", 70)}, false, false, "the labels in other are not those in b"},
		"fewer judgments":  {[]Iteration{fewer, judged("b", 70)}, false, false, "requested 3 judgments of a response in fewer and 0 in b"},
	} {
		s := people(c.runs)
		if s.Seen != c.seen || s.Known != c.known || !strings.Contains(s.Evidence, c.evidence) {
			t.Errorf("%s: %+v, want seen %v, known %v, %q", name, s, c.seen, c.known, c.evidence)
		}
	}
}

// A fall that is within the noise of the pairs is none: where both judges err on other pairs, four
// pairs more or less are nothing.
func TestPeopleWithinNoise(t *testing.T) {
	before, after := judged("a", 70), judged("b", 70)
	one, zero := 1.0, 0.0
	// 24 pairs change to 0 and 20 to 1: a fall of 4 points.
	for i := range 24 {
		before.people.Pairs[i].Agree, after.people.Pairs[i].Agree = &one, &zero
	}
	for i := 24; i < 44; i++ {
		before.people.Pairs[i].Agree, after.people.Pairs[i].Agree = &zero, &one
	}
	fall, err, pairs := difference(before.people, after.people)
	// The mean square of 44 differences of ±1 is 0.44: √(0.44 − 0.04²)/10 = 0.0662.
	if pairs != 100 || math.Abs(fall-0.04) > 1e-12 || math.Abs(err-math.Sqrt(0.44-0.0016)/10) > 1e-12 {
		t.Errorf("%v ± %v on %d", fall, err, pairs)
	}
	if s := people([]Iteration{before, after}); s.Seen {
		t.Errorf("%+v", s)
	}
	// Two pairs of one prompt that go together count as one: of pairs 0 and 1 only the sum matters.
	for i := range before.people.Responses {
		after.people.Responses[i].PromptID = string(rune('A' + i/2))
	}
	// 22 groups of ±2 instead of 44 single ones: Σ(Σ(d − 0.04))² = 12·1.92² + 10·2.08² + 28·0.08².
	want := math.Sqrt(12*1.92*1.92+10*2.08*2.08+28*0.08*0.08) / 100
	if _, err, _ := difference(before.people, after.people); math.Abs(err-want) > 1e-12 {
		t.Errorf("the error of pairs in twos is %v, want %v", err, want)
	}
}
