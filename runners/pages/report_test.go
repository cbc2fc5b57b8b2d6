package pages

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"coeval/datasets/rundir"
	"coeval/runners/compare"
	"coeval/runners/estimate"
	"coeval/runners/figures"
	"coeval/runners/pages/charts"
	"coeval/runners/runs"
	"coeval/runners/runs/runstest"
	"coeval/runners/summary"
	"coeval/schemas"
	scale "coeval/transforms/judge/points"
)

// The elements and attributes of the page's templates: any others came from a text.
var (
	elements        = set("html head meta link title style body header h1 p code nav a main section h2 h3 h4 b dl div dt dd ul li figure figcaption span table thead tbody tr th td article mark footer details summary pre rect svg g path text i br")
	plainAttributes = set("lang charset name content http-equiv rel href id class tabindex role aria-label dir data-label viewbox style d transform x y width height")
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

func TestHostileTexts(t *testing.T) {
	r := runstest.Hostile(t)
	_, name, err := Write(t.Context(), r, Options{Prices: estimate.Prices{PromptTokens: 1, GPUHour: 2}})
	if err != nil {
		t.Fatal(err)
	}
	page := checkPage(t, name)
	// Of each 1 MB text the page has the beginning, and 10 pairs of at most 4 texts are shown.
	const maxText = 4000 // characters, as package examples cuts texts
	if most := 10*4*(2*maxText) + 1<<18; len(page) > most {
		t.Errorf("the page has %d bytes, want at most %d", len(page), most)
	}
	for _, want := range []string{"␛[31mred", "⟨U&#43;202E⟩", "&lt;script&gt;alert(1)", "characters left out"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestHostileComparison(t *testing.T) {
	runs := []*runs.Run{runstest.Hostile(t), runstest.Hostile(t)}
	c, err := compare.Runs(t.Context(), runs, false)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), ComparisonFile)
	if err := WriteComparison(t.Context(), name, c); err != nil {
		t.Fatal(err)
	}
	if page := checkPage(t, name); !bytes.Contains(page, []byte("&lt;script&gt;alert(1)")) || len(page) > 1<<18 {
		t.Errorf("the page has %d bytes, or lacks the judge's name", len(page))
	}
}

// checkPage wants a page that is made of nothing but its own elements, and returns it.
func checkPage(t *testing.T, name string) []byte {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(page) {
		t.Error("the page is no UTF-8")
	}
	for _, acts := range runstest.Acting {
		if bytes.Contains(page, []byte(acts)) {
			t.Errorf("the page has the character %U in it", []rune(acts)[0])
		}
	}
	z := html.NewTokenizer(bytes.NewReader(page))
	for z.Next() != html.ErrorToken {
		token := z.Token()
		if token.Type != html.StartTagToken && token.Type != html.SelfClosingTagToken {
			continue
		}
		if !elements[token.Data] {
			t.Errorf("the page has the element %s", token)
		}
		for _, a := range token.Attr {
			if !plainAttributes[strings.ToLower(a.Key)] {
				t.Errorf("the page has the attribute %s of %s", a.Key, token)
			}
			if a.Key == "href" && !strings.HasPrefix(a.Val, "#") && a.Val != "data:," {
				t.Errorf("the page links to %s", a.Val)
			}
		}
	}
	return page
}

// The same run gives the same page.
func TestSamePage(t *testing.T) {
	r := runstest.Hostile(t)
	var pages [2][]byte
	for i := range pages {
		_, name, err := Write(t.Context(), r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if pages[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(pages[0], pages[1]) {
		at := 0
		for at < min(len(pages[0]), len(pages[1])) && pages[0][at] == pages[1][at] {
			at++
		}
		t.Errorf("two pages of one run differ from byte %d on: %q", at, pages[0][max(0, at-200):min(at+200, len(pages[0]))])
	}
}

// The page of a run without operations/ states that. It asks for no prices without the numbers to
// multiply.
func TestWithoutOperations(t *testing.T) {
	r := runstest.Hostile(t)
	if err := os.RemoveAll(filepath.Join(r.Dir, rundir.OperationsFolder)); err != nil {
		t.Fatal(err)
	}
	_, name, err := Write(t.Context(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, []byte("no attempt is known")) {
		t.Error("the page doesn't state that operations/ is missing")
	}
}

// The page names the end of the judge's own scale.
func TestScaleOfTheJudge(t *testing.T) {
	r := runstest.Hostile(t)
	for of, want := range map[scale.Scale]string{{}: "on a scale up to 5 points", {Min: 1000, Max: 10_000}: "on a scale up to 10 points"} {
		r.Settings.Judge.Scale = of
		_, name, err := Write(t.Context(), r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if page := checkPage(t, name); !bytes.Contains(page, []byte(want)) {
			t.Errorf("with the scale %v the page doesn't state %q", of, want)
		}
	}
}

// The page names attempts that were killed.
func TestAttempts(t *testing.T) {
	r := runstest.Hostile(t)
	killed := `{"attempt": "killed", "unfinished": true, "seconds": 9, "asking_seconds": 8, "calls": {"judge": {"requests": 5, "prompt_tokens": 700}}}`
	if err := os.WriteFile(filepath.Join(r.Dir, rundir.OperationsFolder, "killed.json"), []byte(killed), 0o600); err != nil {
		t.Fatal(err)
	}
	_, name, err := Write(t.Context(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if page := checkPage(t, name); !bytes.Contains(page, []byte("One of them did not finish")) {
		t.Error("the page doesn't state that an attempt was killed")
	}
}

func TestSentences(t *testing.T) {
	s := &summary.Summary{
		Prompts: 1200, Lines: 1300, BadLines: 3,
		Actor:    &summary.Role{Paired: 1198, Dropped: 1, Failed: 1, DroppedByReason: map[string]int64{"margin": 1}, FailedByCode: map[string]int64{"timeout": 1}, ScoreMargin: 1.5, LengthDifference: -95.4},
		Judge:    &summary.Role{Paired: 1200},
		Collapse: &summary.Collapse{HigherChosen: 0.85, ScoreDifference: -0.25},
	}
	f := &figures.Figures{Length: figures.Length{Control: &figures.Control{Controlled: 0.9}}, Meta: &figures.Meta{BothOrders: 9, Consistent: 0.6}}
	want := []string{
		"Of 1,200 prompts, 1,198 (99.8 %) gave a pair for the actor, and all gave a pair for the judge.",
		"In the actor's pairs the chosen response scores 1.50 points more than the rejected one and is 95 characters shorter in the mean; at equal length a single judgment would prefer it in 90.0 % of cases.",
		"In the judge's pairs the chosen judgment gives the higher score in 85.0 %, by −0.25 points in the mean; the meta-judge picks the same winner in both orders in 60.0 % of cases, where tossing a coin would in 50 %.",
		"No pair for the actor came of 2 prompts: margin 1, timeout 1.",
		"3 of 1,300 lines of the input were no prompt.",
		"2 figures crossed a threshold: look at them before training on this data.",
	}
	var got []string
	for _, sentence := range sentences(s, f, 2) {
		got = append(got, strings.ReplaceAll(sentence, "\u00a0", " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	nothing := sentences(&summary.Summary{Prompts: 1, Actor: &summary.Role{Dropped: 1, DroppedByReason: map[string]int64{"equal_scores": 1}}}, &figures.Figures{}, 0)
	if nothing[0] != "Of 1 prompt, none gave a pair for the actor." || !strings.HasPrefix(nothing[len(nothing)-1], "No figure crossed a threshold") {
		t.Errorf("%q", nothing)
	}
}

func TestSaturation(t *testing.T) {
	sign := func(seen, known bool) compare.Sign { return compare.Sign{Name: "a sign", Seen: seen, Known: known} }
	for want, signs := range map[string][]compare.Sign{
		"None of the 2 known signs of saturation is seen.":                                                     {sign(false, true), sign(false, true)},
		"2 of 2 known signs of saturation: a sign; a sign. 1 more can't be judged: their figures are missing.": {sign(true, true), sign(false, false), sign(true, true)},
	} {
		if got := saturation(&compare.Comparison{Signs: signs}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Each check looks beyond its threshold, and not at it. One without figures is not known.
func TestChecks(t *testing.T) {
	figure := func() *figures.Figures {
		return &figures.Figures{
			Scores:      figures.Scores{Top: maxTop, Judgments: 9},
			Length:      figures.Length{CorrelationWithin: maxWithin, LongerWinsOf: 9, Control: &figures.Control{Controlled: minControlled}},
			CrossFit:    &figures.CrossFit{Margin: 0.01},
			Reliability: &figures.Reliability{Within: new(figures.EnoughReliability), Needed: new(11.2)},
			Meta:        &figures.Meta{Verdicts: 9, First: maxFirst, BothOrders: 9, Consistent: minConsistent},
		}
	}
	// A difference of a tenth of the mean length, pairs of which 9 of 10 choose the higher score.
	s := &summary.Summary{
		Actor:           &summary.Role{Paired: 10, LengthDifference: -10, MeanLength: 100},
		Judge:           &summary.Role{Paired: 10, LengthDifference: 10, MeanLength: 100},
		Collapse:        &summary.Collapse{Pairs: 10, HigherChosen: summary.MaxHigher, ChosenScores: []summary.ScoreShare{{Score: 5, Share: summary.MaxOneScore}}},
		UnparsedByStage: map[string]float64{"judge": summary.MaxUnparsed, "meta": summary.MaxUnparsed},
	}
	looked := func(f *figures.Figures) (warnings []string) {
		for _, c := range checksOf(s, f) {
			if !c.Known || c.Value == "" || c.Threshold == "" {
				t.Errorf("%s is not known: %+v", c.Name, c)
			}
			if c.Look {
				warnings = append(warnings, c.Warning)
			}
		}
		return warnings
	}
	if got := looked(figure()); got != nil {
		t.Errorf("at the thresholds: %q", got)
	}
	for wanted, change := range map[string]func(*figures.Figures){
		"give the highest score":               func(f *figures.Figures) { f.Scores.Top += 0.01 },
		"score and length correlate":           func(f *figures.Figures) { f.Length.CorrelationWithin += 0.01 },
		"at equal length a single judgment":    func(f *figures.Figures) { f.Length.Control.Controlled -= 0.01 },
		"the judgment shown first wins 66.0":   func(f *figures.Figures) { f.Meta.First = 0.66 },
		"the judgment shown first wins 34.0":   func(f *figures.Figures) { f.Meta.First = 0.34 },
		"the same winner in both orders (less": func(f *figures.Figures) { f.Meta.Consistent -= 0.01 },
		"raise judge.n to about 12":            func(f *figures.Figures) { *f.Reliability.Within -= 0.01 },
		"judgments that did not choose":        func(f *figures.Figures) { f.CrossFit.Margin = 0 },
	} {
		f := figure()
		change(f)
		if got := looked(f); len(got) != 1 || !strings.Contains(got[0], wanted) {
			t.Errorf("%q, want %q alone", got, wanted)
		}
	}
	for _, c := range checksOf(&summary.Summary{Actor: &summary.Role{}, Judge: &summary.Role{}}, &figures.Figures{}) {
		if c.Known || c.Look {
			t.Errorf("%s of no rows is %+v", c.Name, c)
		}
	}
}

// The chart of generations in flight has a layer for each stage that a run can ask, also those that ask other
// models for answers.
func TestEveryStageIsInFlight(t *testing.T) {
	var drawn []string
	for _, l := range layers {
		drawn = append(drawn, l.stages...)
	}
	for _, stage := range schemas.Stages {
		if !slices.Contains(drawn, stage) {
			t.Errorf("no layer has the stage %s", stage)
		}
	}
	series := []summary.Point{{}, {Seconds: 1, InFlight: 15, InFlightByStage: map[string]int64{}}}
	for i, stage := range schemas.Stages {
		series[1].InFlightByStage[stage] = int64(1 + i)
	}
	keys, err := flight(charts.New("x", "y"), series, 1)
	if err != nil || len(keys) != 3 {
		t.Errorf("%d keys, %v; want 3", len(keys), err)
	}
	series[1].InFlightByStage = map[string]int64{schemas.StageReads: 15}
	keys, err = flight(charts.New("x", "y"), series, 1)
	if err != nil || len(keys) != 3 || keys[1].Name != schemas.StageReads {
		t.Errorf("keys of a run with reads alone are %v, %v", keys, err)
	}
}
