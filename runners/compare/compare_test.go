package compare

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/stage"
)

func TestSpearman(t *testing.T) {
	for name, c := range map[string]struct {
		pairs []pair
		want  float64
	}{
		"the same order":  {[]pair{{1, 10}, {2, 100}, {3, 1000}}, 1},
		"the other order": {[]pair{{1, 3}, {2, 2}, {3, 1}}, -1},
		// Ranks 0 1 2 3 and 1 0 3 2: 1 − 6·Σd²/(n(n²−1)) = 1 − 6·4/60 = 0.6.
		"two swaps": {[]pair{{1, 2}, {2, 1}, {3, 4}, {4, 3}}, 0.6},
		// Ranks 0.5 0.5 2 and 0 1 2: Sxy = −0.5·−1 + −0.5·0 + 1·1 = 1.5, Sxx = 1.5, Syy = 2.
		"a tie": {[]pair{{1, 1}, {1, 2}, {3, 3}}, 1.5 / math.Sqrt(3)},
	} {
		if got := spearman(c.pairs); got == nil || math.Abs(*got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := spearman([]pair{{1, 1}, {2, 2}}); got != nil {
		t.Errorf("two pairs give %v", *got)
	}
	if got := spearman([]pair{{1, 1}, {1, 2}, {1, 3}}); got != nil {
		t.Errorf("values without spread give %v", *got)
	}
}

func TestStep(t *testing.T) {
	text := func(letter byte) digest { return digest{letter} }
	before := map[string]prompt{
		"p": {text('a'): 1, text('b'): 2, text('c'): 3}, "q": {text('d'): 1, text('e'): 2}, "r": {text('f'): 4}, "alone": {text('x'): 1},
	}
	after := map[string]prompt{
		"p": {text('a'): 2, text('b'): 1, text('c'): 5}, "q": {text('d'): 3, text('e'): 3, text('n'): 0}, "r": {}, "other": {text('y'): 1},
	}
	// Past wrote a and b, which score 1 and 2 points before and 2 and 1 after, d with 1 and 3, and n, which is new. The
	// mean change is (1 − 1 + 2)/3.
	past := map[answer]bool{{"p", text('a')}: true, {"p", text('b')}: true, {"q", text('d')}: true, {"q", text('n')}: true}
	got := newStep(before, after, past)
	// Ranks before are 0.5 (a), 2 (b), 0.5 (d), after 1, 0, 2: Sxy = −0.5·0 + 1·(−1) + −0.5·1 = −1.5, Sxx = 1.5, Syy = 2.
	if got.PastResponses != 3 || math.Abs(*got.PastShift-2.0/3) > 1e-9 || math.Abs(*got.PastRanks+1.5/math.Sqrt(3)) > 1e-12 {
		t.Errorf("drift: %d texts, shift %v, ranks %v", got.PastResponses, *got.PastShift, *got.PastRanks)
	}
	// Shared are p, q and r of four. Of p's pairs, a and b are swapped and the other two alike;
	// d and e are tied in the second run, which is no order.
	third := 2.0 / 3
	if got.Prompts != 3 || got.Overlap != 0.75 || got.Responses != 5 || got.OrderedPairs != 3 || *got.OrderAgreement != third || got.PromptRanks != nil {
		t.Errorf("%+v", got)
	}
	// Of the smaller run, on either side: p and q of two.
	delete(after, "r")
	delete(after, "other")
	if a, b := newStep(before, after, nil).Overlap, newStep(after, before, nil).Overlap; a != 1 || b != 1 {
		t.Errorf("the overlap is %v and %v, want 1", a, b)
	}
	if empty := newStep(before, map[string]prompt{}, nil); empty.Prompts != 0 || empty.OrderAgreement != nil || empty.PastShift != nil {
		t.Errorf("%+v", empty)
	}
}

// Each sign appears from its threshold on, and not below it.
func TestSigns(t *testing.T) {
	share := func(x float64) *float64 { return &x }
	first := Iteration{Responses: 1, ChosenPairs: 1, MeanScore: 4, Spread: 1, Variance: 0.5, ChosenChars: 1000, First: share(0.5), Conflicts: share(0.3), HigherWins: share(0.65)}
	for name, c := range map[string]struct {
		change func(*Iteration)
		want   []string
	}{
		"nothing":                         {func(*Iteration) {}, nil},
		"ceiling":                         {func(i *Iteration) { i.MeanScore, i.Spread, i.Variance = 4.5, 0.8, 0.4 }, []string{Ceiling}},
		"a climb that keeps its spread":   {func(i *Iteration) { i.MeanScore, i.Variance = 4.5, 0.4 }, nil},
		"a climb that keeps its variance": {func(i *Iteration) { i.MeanScore, i.Spread = 4.5, 0.8 }, nil},
		"less spread without a climb":     {func(i *Iteration) { i.Spread, i.Variance = 0.8, 0.4 }, nil},
		"higher":                          {func(i *Iteration) { i.HigherWins = share(0.76) }, []string{Higher}},
		"higher, but only a little":       {func(i *Iteration) { i.HigherWins = share(0.74) }, nil},
		"conflicts":                       {func(i *Iteration) { i.Conflicts = share(0.41) }, []string{Position}},
		"conflicts, a few":                {func(i *Iteration) { i.Conflicts = share(0.39) }, nil},
		"the first shown":                 {func(i *Iteration) { i.First = share(0.61) }, []string{Position}},
		"the second shown":                {func(i *Iteration) { i.First = share(0.39) }, []string{Position}},
		"the first shown, a little":       {func(i *Iteration) { i.First = share(0.59) }, nil},
		"longer":                          {func(i *Iteration) { i.ChosenChars = 1101 }, []string{Longer}},
		"a little longer":                 {func(i *Iteration) { i.ChosenChars = 1099 }, nil},
		"nothing scored": {func(i *Iteration) {
			*i = Iteration{MeanScore: 9, ChosenChars: 9999, First: i.First, Conflicts: i.Conflicts, HigherWins: i.HigherWins}
		}, nil},
		"nothing compared": {func(i *Iteration) { i.First, i.Conflicts, i.HigherWins = nil, nil, nil }, nil},
	} {
		last := first
		c.change(&last)
		var seen []string
		for _, s := range signs(&first, &last) {
			if s.Seen {
				seen = append(seen, s.Name)
			}
			if s.Known == (name == "nothing compared" && (s.Name == Higher || s.Name == Position) || name == "nothing scored" && (s.Name == Ceiling || s.Name == Longer)) {
				t.Errorf("%s: %s is known: %v", name, s.Name, s.Known)
			}
		}
		if diff := cmp.Diff(c.want, seen); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// A sign needs growth: a constant figure is none.
	steady := first
	steady.HigherWins, steady.First = share(0.9), share(0.7)
	for _, s := range signs(&steady, &steady) {
		if s.Seen {
			t.Errorf("%s is seen between equal runs", s.Name)
		}
	}
}

// A response is found in another run by its words, under any ID: each iteration has another actor.
// Unscored ones are in none.
func TestSharedTexts(t *testing.T) {
	settings := runs.Settings{}
	settings.Actor.Role.Model = "now"
	settings.Actor.Pools = []generate.Pool{{Role: stage.Role{Name: schemas.RolePast, Model: "then"}, N: 2}}
	table := func(rows ...schemas.ResponseRow) (map[string]prompt, map[answer]bool) {
		t.Helper()
		dir := t.TempDir()
		asked := []schemas.Message{{Role: "user", Content: "?"}}
		shardstest.WriteFile(t, dir, shards.Prompts, schemas.PromptRow{ID: "p", Prompt: asked}, schemas.PromptRow{ID: "q", Prompt: asked})
		shardstest.WriteFile(t, dir, shards.Responses, rows...)
		prompts, past, err := read(t.Context(), &runs.Run{Dir: dir, Shards: 1, Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		return prompts, past
	}
	row := func(id, prompt, text string, score *float64) schemas.ResponseRow {
		return schemas.ResponseRow{ID: id, PromptID: prompt, Model: "now", Text: text, ScoreMean: score}
	}
	then := func(r schemas.ResponseRow) schemas.ResponseRow { r.Model = "then"; return r }
	before, _ := table(row("1", "p", "good", new(4.0)), row("2", "p", "bad", new(1.0)), row("3", "p", "cut", nil), row("4", "q", "good", new(2.0)))
	after, past := table(then(row("5", "p", "good", new(3.0))), row("6", "p", "bad", new(3.5)), row("7", "p", "cut", new(2.0)), then(row("8", "q", "other", new(2.0))))
	got := newStep(before, after, past)
	if got.Prompts != 2 || got.Responses != 2 || got.OrderedPairs != 1 || *got.OrderAgreement != 0 {
		t.Errorf("%+v, want both texts of p, ordered the other way round", got)
	}
	// The later run's past wrote good in p, which the actor wrote in the run before; the judge gives it 1 point less.
	if got.PastResponses != 1 || *got.PastShift != -1 || got.PastRanks != nil {
		t.Errorf("%d texts of past, shift %v, ranks %v", got.PastResponses, *got.PastShift, got.PastRanks)
	}
}
