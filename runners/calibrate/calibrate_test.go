package calibrate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/datasets/labels"
	"coeval/runners/calibrate/isotonic"
	"coeval/schemas"
	"coeval/transforms/score"
)

var near = cmpopts.EquateApprox(0, 1e-12)

// builder makes a set with its judged dossiers.
type builder struct {
	set      *labels.Set
	dossiers []schemas.Dossier
}

func newBuilder(kind labels.Kind) *builder {
	return &builder{set: &labels.Set{File: "l.jsonl", SHA256: strings.Repeat("0", 64), Kind: kind, Prompts: map[string]schemas.Prompt{}}}
}

// response adds a response of this length in characters with judgments of these scores in thousandths;
// −1 is a judgment without a score.
func (b *builder) response(prompt, name string, chars int, scores ...int) string {
	text := name + strings.Repeat(".", chars-len(name))
	if len(b.dossiers) == 0 || b.dossiers[len(b.dossiers)-1].Prompt.ID != prompt {
		b.dossiers = append(b.dossiers, schemas.Dossier{Prompt: schemas.Prompt{ID: prompt}})
		b.set.Prompts[prompt] = schemas.Prompt{ID: prompt}
	}
	d := &b.dossiers[len(b.dossiers)-1]
	r := schemas.Response{ID: prompt + name, Text: text, Status: schemas.Complete}
	for _, s := range scores {
		j := schemas.Judgment{Score: s}
		if s < 0 {
			j = schemas.Judgment{Unparsed: "missing"}
		}
		r.Judgments = append(r.Judgments, j)
	}
	d.Responses = append(d.Responses, r)
	return text
}

func (b *builder) pair(prompt, first, second string, preferred schemas.Winner) {
	b.set.Pairs = append(b.set.Pairs, labels.Pair{Line: int64(len(b.set.Pairs) + 1), PromptID: prompt, First: first, Second: second, Preferred: preferred})
}

func (b *builder) score(prompt, text string, points float64) {
	b.set.Scores = append(b.set.Scores, labels.Score{Line: int64(len(b.set.Scores) + 1), PromptID: prompt, Response: text, Points: points})
}

func (b *builder) figures(t *testing.T) *Figures {
	t.Helper()
	for i := range b.dossiers {
		score.Dossier(&b.dossiers[i], score.Options{})
	}
	return Of(b.set, b.dossiers, Asked{
		Judge: Judge{CalibratedJudge: score.CalibratedJudge{Model: "m", Judgments: 2, Template: "t"}, MinJudgments: 2},
		Scale: labels.RubricScale, Resamples: 200,
	})
}

// Six pairs on six prompts:
//
//	p1  a 1000 chars 4 4    b 1600 chars 2 3    people a  judge a   agree 1    better shorter by 600
//	p2  a 1000 chars 4 3    b 1050 chars 3 4    people a  judge tie agree ½    within 99
//	p3  a 1000 chars 1 1    b 1300 chars 5 5    people a  judge b   agree 0    shorter by 300
//	p4  a 1000 chars 2 2    b 1100 chars 4 4    people b  judge b   agree 1    longer by 100
//	p5  a 1000 chars 2 4    b 1000 chars 3 3    people tie, judge tie          agree 1
//	p6  a 1000 chars 3, –   b 1000 chars 3 3    unscored: one judgment is too few
func sixPairs() *builder {
	b := newBuilder(labels.Pairs)
	add := func(prompt string, aScores []int, bChars int, bScores []int, preferred schemas.Winner) {
		a := b.response(prompt, "a", 1000, aScores...)
		b.pair(prompt, a, b.response(prompt, "b", bChars, bScores...), preferred)
	}
	add("p1", []int{4000, 4000}, 1600, []int{2000, 3000}, schemas.First)
	add("p2", []int{4000, 3000}, 1050, []int{3000, 4000}, schemas.First)
	add("p3", []int{1000, 1000}, 1300, []int{5000, 5000}, schemas.First)
	add("p4", []int{2000, 2000}, 1100, []int{4000, 4000}, schemas.Second)
	add("p5", []int{2000, 4000}, 1000, []int{3000, 3000}, schemas.NoWins)
	add("p6", []int{3000, -1}, 1000, []int{3000, 3000}, schemas.First)
	return b
}

func TestPairs(t *testing.T) {
	f := sixPairs().figures(t)
	share := func(x float64) *float64 { return &x }
	want := &Agreement{
		Pairs: 5, Unscored: 1, JudgeTies: 2, PeopleTies: 1, BothTie: 1, Decided: 3,
		// Without ties p1, p3, p4; with ties 1 + ½ + 0 + 1 + 1 of 5.
		WithoutTies: &Estimate{Value: 2.0 / 3}, WithTies: &Estimate{Value: 0.7},
		ByLength: []Slice{
			{lengthSlices[0].name, 1, share(1)},
			{lengthSlices[1].name, 1, share(0)},
			{lengthSlices[2].name, 1, share(0.5)},
			{lengthSlices[3].name, 1, share(1)},
			{lengthSlices[4].name, 0, nil},
		},
		// First is the better one in p1, p2 and p3: 1 + ½ + 0 of 3.
		ByPosition:  []Slice{{f.Agreement.ByPosition[0].Name, 3, share(0.5)}, {f.Agreement.ByPosition[1].Name, 1, share(1)}},
		PeopleFirst: share(0.75), JudgeFirst: share(1.0 / 3),
	}
	noInterval := cmpopts.IgnoreFields(Estimate{}, "Low", "High")
	if diff := cmp.Diff(want, f.Agreement, near, noInterval); diff != "" {
		t.Error(diff)
	}
	// Confidence of the favoured one, of four pairs of judgments each: p1 4/4, observed 1; p2 half
	// wins 2·(4>3) + (4=4) + (3=3) = 4 of 8, none favoured, ½; p3 4/4, 0; p4 4/4, 1; p5 4 of 8, ½.
	// The bin at ½ has no error; the last has |2/3 − 1| of 3 of 5 pairs: 0.2.
	reliability := &Reliability{Pairs: 5, Error: 0.2, Bins: []Bin{{0.5, 0.55, 2, 0.5, 0.5}, {0.95, 1, 3, 1, 2.0 / 3}}}
	if diff := cmp.Diff(reliability, f.Reliability, near); diff != "" {
		t.Error(diff)
	}
	// Differences 1.5, 0, −4, −2, 0 with 1, 1, 1, 0, ½ and their mirror images. In order: −4: 1,
	// −2: 0, −1.5: 0, 0: 1 ½ 0 ½ (mean ½), 1.5: 1, 2: 1, 4: 0. The first three pool to 1/3, the last
	// three to 2/3.
	curve := []isotonic.Block{block(-4, -1.5, -2.5, 1.0/3, 3), block(0, 0, 0, 0.5, 4), block(1.5, 4, 2.5, 2.0/3, 3)}
	if diff := cmp.Diff(curve, f.Curve, near); diff != "" {
		t.Error(diff)
	}
	if f.Labels.Unscored != 1 || f.Labels.Responses != 12 || f.Unparsed.Unparsed != 1 || f.Unparsed.Judgments != 24 || f.Fit != nil {
		t.Errorf("%+v %+v", f.Labels, f.Unparsed)
	}
	if _, err := f.Calibration("2026-11-25"); err == nil || !strings.Contains(err.Error(), "labels with scores") {
		t.Errorf("a map of preferences: %v", err)
	}
	if f.Ranks.Of != 5 || f.Ranks.Spearman == nil || f.Ranks.Kendall == nil {
		t.Errorf("%+v", f.Ranks)
	}
}

// Which response stands first in the file changes the figures about position alone.
func TestPositionDecidesNothing(t *testing.T) {
	straight, swapped := sixPairs(), sixPairs()
	for i := range swapped.set.Pairs {
		p := &swapped.set.Pairs[i]
		p.First, p.Second = p.Second, p.First
		p.Preferred = map[schemas.Winner]schemas.Winner{schemas.First: schemas.Second, schemas.Second: schemas.First, schemas.NoWins: schemas.NoWins}[p.Preferred]
	}
	a, b := straight.figures(t), swapped.figures(t)
	ignore := cmpopts.IgnoreFields(Agreement{}, "ByPosition", "PeopleFirst", "JudgeFirst")
	if diff := cmp.Diff(a, b, near, ignore, cmpopts.IgnoreFields(Figures{}, "Pairs", "Responses"), cmpopts.IgnoreUnexported(Response{})); diff != "" {
		t.Error(diff)
	}
	if *a.Agreement.PeopleFirst != 1-*b.Agreement.PeopleFirst {
		t.Errorf("people prefer the first in %v and %v", *a.Agreement.PeopleFirst, *b.Agreement.PeopleFirst)
	}
}

// Labels of one prompt are pairs of each other, but not of a response with itself.
func TestScores(t *testing.T) {
	b := newBuilder(labels.Scores)
	x := b.response("p", "x", 10, 1000, 1000)
	y := b.response("p", "y", 10, 3000, 3000)
	z := b.response("q", "z", 10, 5000, 5000)
	b.score("p", x, 2)
	b.score("p", y, 3)
	b.score("p", x, 3)
	b.score("q", z, 4)
	f := b.figures(t)
	want := []Pair{
		{Line: 1, Other: 2, First: 0, Second: 1, People: Second, Judge: Second, Agree: new(1.0)},
		{Line: 2, Other: 3, First: 1, Second: 0, People: Tie, Judge: First, Agree: new(0.5)},
	}
	if diff := cmp.Diff(want, f.Pairs); diff != "" {
		t.Error(diff)
	}
	// S 1, 3, 1, 5 against 2, 3, 3, 4: at 1 the mean is 2.5. S − people is −1, 0, −2, 1: mean −½,
	// square 6/4.
	fit := &Fit{
		Labels: 4, Blocks: []isotonic.Block{block(1, 1, 1, 2.5, 2), block(3, 3, 3, 3, 1), block(5, 5, 5, 4, 1)}, Bias: -0.5, Error: math.Sqrt(1.5),
		Points: []score.CalibrationPoint{{Score: 1000, People: 2500}, {Score: 3000, People: 3000}, {Score: 5000, People: 4000}},
	}
	if diff := cmp.Diff(fit, f.Fit, near); diff != "" {
		t.Error(diff)
	}
	c, err := f.Calibration("2026-11-25")
	if err != nil || c.Responses != 3 || c.Prompts != 2 || c.Judge.Model != "m" {
		t.Errorf("%+v, %v", c, err)
	}
	// Ranks of S 0.5 2 0.5 3 and of people 0 1.5 1.5 3: deviations −1 ½ −1 1½ and −1½ 0 0 1½:
	// Sxy = 1.5 + 2.25 = 3.75, Sxx = 4.5, Syy = 4.5. C: (1,2) (1,4) (2,4) (3,4); D none; each has a tie.
	if s := f.Ranks.Spearman.Value; math.Abs(s-3.75/4.5) > 1e-12 {
		t.Errorf("Spearman's is %v", s)
	}
	if k := f.Ranks.Kendall.Value; math.Abs(k-4.0/5) > 1e-12 {
		t.Errorf("Kendall's is %v", k)
	}
}

// A judge that disagrees with people gives no map; neither does one that gives one score to all.
func TestNoMap(t *testing.T) {
	b := newBuilder(labels.Scores)
	for i, people := range []float64{5, 3, 1} {
		b.score(string(rune('p'+i)), b.response(string(rune('p'+i)), "x", 10, 1000+1000*i, 1000+1000*i), people)
	}
	f := b.figures(t)
	if len(f.Fit.Blocks) != 1 || f.Fit.Points != nil {
		t.Errorf("%+v", f.Fit)
	}
	if _, err := f.Calibration("2026-11-25"); err == nil || !strings.Contains(err.Error(), "don't rise with people's") {
		t.Errorf("%v", err)
	}
	silent := newBuilder(labels.Scores)
	silent.score("p", silent.response("p", "x", 10, -1, -1), 3)
	f = silent.figures(t)
	if _, err := f.Calibration("2026-11-25"); err == nil || !strings.Contains(err.Error(), "no labelled response has a score") {
		t.Errorf("%v", err)
	}
	pairs := newBuilder(labels.Pairs)
	pairs.pair("p", pairs.response("p", "x", 10, -1), pairs.response("p", "y", 10, -1), schemas.First)
	for _, f := range []*Figures{f, pairs.figures(t), newBuilder(labels.Pairs).figures(t)} {
		b, err := json.Marshal(f) // NaN would be an error
		if err != nil {
			t.Fatal(err)
		}
		var back Figures
		if err := json.Unmarshal(b, &back); err != nil || back.Ranks.Spearman != nil || back.Reliability != nil {
			t.Errorf("%v %s", err, b)
		}
		var text strings.Builder
		if err := f.Print(&text); err != nil || strings.Contains(text.String(), "NaN") {
			t.Errorf("%v\n%s", err, text.String())
		}
	}
}

// The order of labels and responses decides no figure, and a second computation gives the same.
func TestSameFigures(t *testing.T) {
	make40 := func() *builder {
		r := rand.New(rand.NewPCG(9, 9))
		b := newBuilder(labels.Pairs)
		for i := range 40 {
			prompt := string(rune('A' + i))
			scores := func() []int { return []int{500 * r.IntN(11), 500 * r.IntN(11)} }
			x, y := b.response(prompt, "x", 10, scores()...), b.response(prompt, "y", 10, scores()...)
			b.pair(prompt, x, y, []schemas.Winner{schemas.First, schemas.Second, schemas.NoWins}[r.IntN(3)])
		}
		return b
	}
	a, b := make40().figures(t), make40().figures(t)
	if diff := cmp.Diff(a, b, cmpopts.IgnoreUnexported(Response{})); diff != "" {
		t.Errorf("another time: %s", diff)
	}
	for _, e := range []*Estimate{a.Agreement.WithTies, a.Agreement.WithoutTies, a.Ranks.Spearman, a.Ranks.Kendall} {
		if e == nil || e.Low == nil || !(*e.Low <= e.Value && e.Value <= *e.High) || *e.Low == *e.High {
			t.Errorf("the interval of %+v", e)
		}
	}
}

// The interval of a mean of n independent values that are 0 or 1 is about ±1.96·√(p(1−p)/n).
func TestIntervals(t *testing.T) {
	b := newBuilder(labels.Pairs)
	const n = 400
	for i := range n {
		prompt := string(rune('A' + i))
		better := b.response(prompt, "x", 10, 5000, 5000)
		worse := b.response(prompt, "y", 10, 0, 0)
		preferred := schemas.First
		if i%5 == 0 {
			preferred = schemas.Second
		}
		b.pair(prompt, better, worse, preferred)
	}
	b.set.Kind = labels.Pairs
	for i := range b.dossiers {
		score.Dossier(&b.dossiers[i], score.Options{})
	}
	e := Of(b.set, b.dossiers, Asked{Resamples: 4000}).Agreement.WithTies
	half := 1.96 * math.Sqrt(0.8*0.2/n)
	// An end of 4,000 resamples has a standard error of √(0.025·0.975/4000)/φ(1.96) = 0.042 standard
	// deviations, 2.2 % of the half width, and values are in steps of 1/400, or 6.4 % of it: 3 errors and a
	// step. An interval of 90 % would be 16 % narrower.
	const within = 3*0.022 + 0.064
	if math.Abs(e.Value-0.8) > 1e-12 || math.Abs(e.Value-*e.Low-half) > within*half || math.Abs(*e.High-e.Value-half) > within*half {
		t.Errorf("%v (%v to %v), want 0.8 ± %v", e.Value, *e.Low, *e.High, half)
	}
}

func TestFile(t *testing.T) {
	f := sixPairs().figures(t)
	out := t.TempDir()
	if got, err := Read(t.Context(), out); got != nil || err != nil {
		t.Errorf("an empty folder has %+v, %v", got, err)
	}
	if err := f.Write(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, got, cmpopts.IgnoreUnexported(Response{})); diff != "" {
		t.Error(diff)
	}
	// Reading a changed file returns an error instead of looking for missing responses.
	for wanted, spoil := range map[string]func(*Figures){
		"pairs[5] is of responses 10 and 11; there are 11": func(f *Figures) { f.Responses = f.Responses[:11] },
		"pairs[0] is of responses 0 and -1; there are 12":  func(f *Figures) { f.Pairs[0].Second = -1 },
		"scores[0] is of response 12; there are 12":        func(f *Figures) { f.Scores = []Score{{Response: 12}} },
	} {
		bad := sixPairs().figures(t)
		spoil(bad)
		if err := bad.Write(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(t.Context(), out); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%v, want %q", err, wanted)
		}
	}
}

// docs/calibration.md gives the thresholds of the warnings and the number of bins.
func TestThresholdsInTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/calibration.md")
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[int]string{10: "ten"}
	for _, want := range []string{
		fmt.Sprintf("at least %d labels on at least %d prompts", fewLabels, fewPrompts),
		fmt.Sprintf("above %v: the judge", maxError),
		fmt.Sprintf("above %v %%: use", 100*maxUnparsed),
		fmt.Sprintf("in %s bins", numbers[bins]),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/calibration.md lacks %q", want)
		}
	}
}

// Many labels on few prompts are weak evidence: the bootstrap draws prompts.
func TestFewPrompts(t *testing.T) {
	for _, c := range []struct {
		labels, prompts int
		want            string
	}{{99, 99, "99 labels are few"}, {100, 29, "of 29 prompts only"}, {100, 30, ""}} {
		f := &Figures{Labels: Labels{Labels: c.labels, Prompts: c.prompts}}
		if got := strings.Join(f.Warnings(), "\n"); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d labels on %d prompts: %q, want %q", c.labels, c.prompts, got, c.want)
		}
	}
}

// An end of an interval is linear between the two values around its place.
func TestQuantile(t *testing.T) {
	values := []float64{1, 2, 4, 8}
	// Places are q·3: 0, 0.3, 1.5, 3.
	for q, want := range map[float64]float64{0: 1, 0.1: 1.3, 0.5: 3, 1: 8} {
		if got := quantile(values, q); math.Abs(got-want) > 1e-12 {
			t.Errorf("the quantile %v is %v, want %v", q, got, want)
		}
	}
}

func block(from, to, at, people float64, labels int) isotonic.Block {
	return isotonic.Block{From: from, To: to, At: at, People: people, Labels: labels}
}

// A map is tried on the prompts that it was not fitted to.
func TestMapped(t *testing.T) {
	var all []isotonic.Point
	var prompts []string
	for i := range 5 {
		all, prompts = append(all, isotonic.Point{At: float64(i), Value: float64(i)}), append(prompts, string(rune('p'+i)))
	}
	// Those in the middle lie on the line between their neighbours. Without the first the map is level at
	// 1 there, without the last at 3: two of five are off by 1.
	if got := mapped(all, prompts); got == nil || math.Abs(*got-math.Sqrt(0.4)) > 1e-12 {
		t.Errorf("%v, want √0.4", got)
	}
	if got := mapped(all[:4], prompts[:4]); got != nil {
		t.Errorf("four prompts give %v", *got)
	}
}

// Blocks that share a thousandth of S are one point, with the mean of all their labels.
func TestThousandths(t *testing.T) {
	blocks := []isotonic.Block{{At: 1.0001, People: 1, Labels: 1}, {At: 1.0002, People: 2, Labels: 2}, {At: 1.0003, People: 3, Labels: 5}, {At: 2, People: 4, Labels: 1}}
	// (1 + 2·2 + 5·3)/8 = 2.5.
	want := []score.CalibrationPoint{{Score: 1000, People: 2500}, {Score: 2000, People: 4000}}
	if diff := cmp.Diff(want, thousandths(blocks)); diff != "" {
		t.Error(diff)
	}
}

// A pair is in the bin of its confidence, which has its lower bound.
func TestBins(t *testing.T) {
	b := newBuilder(labels.Pairs)
	add := func(prompt string, aScores, bScores []int) {
		first := b.response(prompt, "a", 10, aScores...)
		b.pair(prompt, first, b.response(prompt, "b", 10, bScores...), schemas.First)
	}
	// Half wins of a: 2·(1 + 2) = 6 of 8, so that c is 0.75.
	add("p", []int{4000, 4000}, []int{4000, 3000})
	// 4 against 3, 3, 4: 2 + 2 + 1 = 5 for each of three: 15 of 18, c = 0.8333.
	add("q", []int{4000, 4000, 4000}, []int{3000, 3000, 4000})
	want := []Bin{{0.75, 0.8, 1, 0.75, 1}, {0.8, 0.85, 1, 15.0 / 18, 1}}
	if diff := cmp.Diff(want, b.figures(t).Reliability.Bins, near); diff != "" {
		t.Error(diff)
	}
}

// Each other warning appears beyond its threshold, and not at it.
func TestWarnings(t *testing.T) {
	figures := func() *Figures {
		low, mapped := 0.51, 0.9
		return &Figures{
			Labels: Labels{Labels: fewLabels, Prompts: fewPrompts}, Unparsed: Unparsed{Share: maxUnparsed},
			Agreement:   &Agreement{WithTies: &Estimate{Low: &low}},
			Reliability: &Reliability{Error: maxError}, Fit: &Fit{Error: 1, Mapped: &mapped},
		}
	}
	if got := figures().Warnings(); got != nil {
		t.Errorf("at the thresholds: %q", got)
	}
	for wanted, change := range map[string]func(*Figures){
		"have no score":             func(f *Figures) { f.Unparsed.Share += 0.01 },
		"tossing a coin":            func(f *Figures) { *f.Agreement.WithTies.Low = 0.5 },
		"the calibration error":     func(f *Figures) { f.Reliability.Error += 0.01 },
		"it would not improve them": func(f *Figures) { *f.Fit.Mapped = 1 },
	} {
		f := figures()
		change(f)
		if got := f.Warnings(); len(got) != 1 || !strings.Contains(got[0], wanted) {
			t.Errorf("%q, want %q alone", got, wanted)
		}
	}
}
