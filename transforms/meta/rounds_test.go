package meta_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/meta"
	"coeval/transforms/pairs"
	"coeval/transforms/rating"
	"coeval/transforms/stage"
)

// eleven are judgments with the scores 0 to 5 in halves.
func eleven() []string {
	var texts []string
	for i := range 11 {
		texts = append(texts, fmt.Sprintf("Reasons of judgment %c.\n\nScore: %g", 'a'+i, float64(i)/2))
	}
	return texts
}

// memory is a Caller with a journal: it answers each key once, by the shown judgments, and counts the
// new calls of each Do. It fails once it has made limit calls, if limit is set.
type memory struct {
	texts  []string
	answer func(a, b int) schemas.Generation
	known  map[string]schemas.Generation
	rounds []int
	shown  [][2]int
	limit  int
}

var errLimit = errors.New("killed")

func (l *memory) Do(_ context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	asked := 0
	for i := range calls {
		key := calls[i].Key()
		g, ok := l.known[key]
		if !ok {
			if l.limit > 0 && len(l.known) == l.limit {
				return nil, errLimit
			}
			a, b := shown(calls[i].Messages()[0].Content, l.texts)
			l.shown = append(l.shown, [2]int{a, b})
			g = l.answer(a, b)
			l.known[key] = g
			asked++
		}
		out[i] = []schemas.Generation{g}
	}
	l.rounds = append(l.rounds, asked)
	return out, nil
}

// nearest prefers the judgment whose score is nearer to 3.5, judgment 7; some verdicts prefer the first.
func nearest(a, b int) schemas.Generation {
	distance := func(i int) int { return max(i-7, 7-i) }
	if distance(a) < distance(b) || distance(a) == distance(b) || (a+b)%5 == 0 {
		return says("Winner: A")
	}
	return says("Winner: B")
}

func newMemory() *memory {
	return &memory{texts: eleven(), answer: nearest, known: map[string]schemas.Generation{}}
}

func budget(p rating.Policy) meta.Options { return meta.Options{Role: role, Budget: &p} }

// A round is at most two pairs in both orders; no pair is asked twice, and asking stops long before
// all 110 comparisons, with the best and the worst judgment or their neighbours.
func TestRounds(t *testing.T) {
	d, l := dossier(eleven()...), newMemory()
	run(t, budget(rating.Policy{}), l, &d)
	for i, n := range l.rounds {
		if n != 4 && (n != 2 || i < len(l.rounds)-1) {
			t.Errorf("round %d asked %d comparisons, want both orders of two pairs", i+1, n)
		}
	}
	for i := 0; i < len(l.shown); i += 2 {
		if l.shown[i][0] != l.shown[i+1][1] || l.shown[i][1] != l.shown[i+1][0] {
			t.Errorf("comparisons %v and %v are not one pair in both orders", l.shown[i], l.shown[i+1])
		}
	}
	if again := slices.Clone(l.shown); len(slices.CompactFunc(sorted(again), func(a, b [2]int) bool { return a == b })) != len(l.shown) {
		t.Error("a comparison was asked twice")
	}
	if d.Asking == nil || d.Asking.Stopped != schemas.StopSettled || len(d.Comparisons) > 60 || d.Asking.Regret > rating.DefaultRegret*d.Asking.Spread {
		t.Fatalf("%d comparisons, asking ended with %+v; want settled", len(d.Comparisons), d.Asking)
	}
	rounds := map[int]int{}
	for _, c := range d.Comparisons {
		rounds[c.Round]++
	}
	for i, n := range l.rounds {
		if rounds[i+1] != n {
			t.Errorf("round %d has %d comparisons, %d were asked", i+1, rounds[i+1], n)
		}
	}
	if !slices.IsSortedFunc(d.Comparisons, func(a, b schemas.Comparison) int { return strings.Compare(a.FirstID+a.SecondID, b.FirstID+b.SecondID) }) {
		t.Error("comparisons are not in the order of first and second ID")
	}
	f := schemas.NewFinding(&d)
	selection := pairs.Judge(&f, schemas.PositionWeights{First: .5, Second: .5}, pairs.JudgeOptions{Rating: pairs.ScoresRating})
	// A fifth of the verdicts prefers the first judgment, so that a neighbour of 7 may look better.
	at := func(id string) int {
		return slices.IndexFunc(d.Responses[0].Judgments, func(j schemas.Judgment) bool { return j.ID == id })
	}
	if best, worst := at(selection.ChosenID), at(selection.RejectedID); best < 6 || best > 8 || worst > 1 {
		t.Errorf("the selection is judgment %d against %d, want 6 to 8 against 0 or 1", best, worst)
	}
}

func sorted(shown [][2]int) [][2]int {
	slices.SortFunc(shown, func(a, b [2]int) int { return 100*(a[0]-b[0]) + a[1] - b[1] })
	return shown
}

// A call has the same key under every budget. A second budget sends only the missing calls, and its
// result is that of an empty journal.
func TestBudgetsShareAJournal(t *testing.T) {
	options := map[string]meta.Options{
		"all": {Role: role}, "settled": budget(rating.Policy{}), "loose": budget(rating.Policy{Regret: 0.5}),
		"strict": budget(rating.Policy{Regret: 0.02, MaxComparisons: 200}), "bound": budget(rating.Policy{Regret: 0.02, MaxComparisons: 11}),
	}
	fresh, asked := map[string]schemas.Dossier{}, map[string]map[string]schemas.Generation{}
	for name, o := range options {
		d, l := dossier(eleven()...), newMemory()
		run(t, o, l, &d)
		fresh[name], asked[name] = d, l.known
	}
	if n := len(asked["all"]); n != 110 {
		t.Fatalf("all asks %d comparisons, want 11·10", n)
	}
	// Both orders count, so that of 11 comparisons 10 are asked.
	if n, a := len(asked["bound"]), fresh["bound"].Asking; n != 10 || a.Stopped != schemas.StopBound {
		t.Errorf("a budget of 11 asks %d comparisons and ends with %s", n, a.Stopped)
	}
	for first := range options {
		for second, o := range options {
			l := newMemory()
			maps.Copy(l.known, asked[first])
			missing := 0
			for key := range asked[second] {
				if _, ok := l.known[key]; !ok {
					missing++
				}
			}
			d := dossier(eleven()...)
			run(t, o, l, &d)
			if len(l.shown) != missing {
				t.Errorf("%s after %s asks %d comparisons, %d are missing", second, first, len(l.shown), missing)
			}
			if diff := cmp.Diff(fresh[second], d); diff != "" {
				t.Errorf("%s after %s gives another dossier: %s", second, first, diff)
			}
		}
	}
}

// A run that is killed after any number of answers and begins again asks for the rest only, and ends as
// one that was not.
func TestRoundsGoOn(t *testing.T) {
	want, whole := dossier(eleven()...), newMemory()
	o := budget(rating.Policy{})
	run(t, o, whole, &want)
	stage, err := meta.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	l := newMemory()
	for l.limit = 1; ; l.limit++ {
		d := dossier(eleven()...)
		if err := stage(t.Context(), l, &d); err == nil {
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("another dossier after kills: %s", diff)
			}
			break
		} else if !errors.Is(err, errLimit) {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(whole.shown, l.shown); diff != "" {
		t.Errorf("asked otherwise after kills: %s", diff)
	}
}

// Failed and unparsed comparisons are not asked again, and asking ends without a verdict.
func TestRoundsWithoutVerdicts(t *testing.T) {
	for name, g := range map[string]schemas.Generation{"failed": {Code: "timeout"}, "unparsed": says("I can't tell.")} {
		d, l := dossier(eleven()...), newMemory()
		l.answer = func(int, int) schemas.Generation { return g }
		run(t, budget(rating.Policy{MaxComparisons: 24}), l, &d)
		if len(l.shown) != 24 || d.Asking == nil || d.Asking.Stopped != schemas.StopBound || len(d.Comparisons)+len(d.Failures) != 24 {
			t.Errorf("%s: asked %d, %d comparisons, %d failures, %+v", name, len(l.shown), len(d.Comparisons), len(d.Failures), d.Asking)
		}
		f := schemas.NewFinding(&d)
		c := pairs.Judge(&f, schemas.PositionWeights{First: .5, Second: .5}, pairs.JudgeOptions{Rating: pairs.ScoresRating})
		if c.Outcome == schemas.Paired || name == "failed" && c.Reason != "timeout" || name == "unparsed" && c.Reason != schemas.TooFewVerdicts {
			t.Errorf("%s: the selection is %+v", name, c)
		}
	}
}

// Judgments with equal shown texts are one call, even in different rounds.
func TestRoundsShowAlikeOnce(t *testing.T) {
	texts := []string{"Same.\n\nScore: 1", "Same.\n\nScore: 2", "Same.\n\nScore: 4", "Other.\n\nScore: 5"}
	d, l := dossier(texts...), newMemory()
	l.texts = []string{"Same.", "Other."}
	l.answer = func(int, int) schemas.Generation { return says("Winner: B") }
	o := budget(rating.Policy{Regret: 1e-9})
	o.HideScores = true
	run(t, o, l, &d)
	// All 12 comparisons come from 3 calls: same and same, same and other, other and same.
	if d.Asking.Stopped != schemas.StopAllPairs || len(d.Comparisons) != 12 || len(l.known) != 3 {
		t.Errorf("%d comparisons of %d calls, %+v", len(d.Comparisons), len(l.known), d.Asking)
	}
}

func TestBudgetIsChecked(t *testing.T) {
	for _, p := range []rating.Policy{{Regret: -1}, {Regret: 1}, {MaxComparisons: 1}, {Prior: rating.Prior{Own: -1}}} {
		if _, err := meta.Stage(budget(p)); err == nil || !strings.Contains(err.Error(), "allowed is") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
