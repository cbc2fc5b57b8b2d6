package score_test

import (
	"context"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

func init() {
	register.Function1x1(contestedOf)
	register.Function1x0(printContested)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// unparsed marks a judgment without a score.
const unparsed = -1

// response returns a response with judgments of these scores, in thousandths.
func response(id string, scores ...int) schemas.Response {
	r := schemas.Response{ID: id, Status: schemas.Complete}
	for i, s := range scores {
		j := schemas.Judgment{ID: fmt.Sprint(id, i), Replicate: i, Score: s}
		if s == unparsed {
			j.Score, j.Unparsed = 0, "missing"
		}
		r.Judgments = append(r.Judgments, j)
	}
	return r
}

func ofPool(pool string, r schemas.Response) schemas.Response {
	r.Pool = pool
	return r
}

func dossier(responses ...schemas.Response) schemas.Dossier {
	return schemas.Dossier{Responses: responses}
}

func TestDossier(t *testing.T) {
	d := dossier(
		// S = (4 + 3 + 5)/3 = 4; V = (16 + 9 + 25)/3 − 16 = 2/3. The unparsed one is no 0:
		// with it S would be 3.
		response("a", 4000, 3000, unparsed, 5000),
		// S = 3; V = (4.5² + 1.5²)/2 − 9 = 2.25.
		response("b", 4500, 1500),
		// One score is too few, though more than none.
		response("c", 2000, unparsed),
		response("d"),
	)
	score.Dossier(&d, score.Options{})
	want := []schemas.Score{
		{N: 3, Sum: 12_000, Squares: 50_000_000, Scored: true},
		{N: 2, Sum: 6_000, Squares: 22_500_000, Scored: true},
		{N: 1, Sum: 2_000, Squares: 4_000_000},
		{},
	}
	for i, r := range d.Responses {
		if diff := cmp.Diff(want[i], r.Score); diff != "" {
			t.Errorf("response %s: %s", r.ID, diff)
		}
	}
	if got := d.Responses[0].Score.Mean(); got != 4 {
		t.Errorf("S_a is %v, want 4", got)
	}
	if got := d.Responses[0].Score.Variance(); math.Abs(got-2.0/3) > 1e-15 {
		t.Errorf("V_a is %v, want 2/3", got)
	}
	if d.ContestedID != "b" {
		t.Errorf("contested is %q, want b", d.ContestedID)
	}
}

func TestContested(t *testing.T) {
	tests := []struct {
		name string
		min  int
		d    schemas.Dossier
		want string
	}{
		{"no response", 0, dossier(), ""},
		{"no variance", 0, dossier(response("a", 3000, 3000), response("b", 5000, 5000)), ""},
		{"one score each", 1, dossier(response("a", 3000), response("b", 5000)), ""},
		{"too few scores", 3, dossier(response("a", 0, 5000), response("b", 2000, 2000, 3000)), "b"},
		{"equal", 0, dossier(response("b", 1000, 2000), response("a", 4000, 3000)), "a"},
		// 2/9 of three scores and 2/9 of six are equal, but floats may differ.
		{"equal fractions", 0, dossier(response("b", 1000, 1000, 2000), response("a", 3000, 3000, 4000, 3000, 3000, 4000)), "a"},
		// Population variance 0.25 each, but sample variance 0.33 for a and 0.5 for b.
		{"population, tie", 0, dossier(response("b", 1000, 2000), response("a", 1000, 2000, 1000, 2000)), "a"},
		// Population variance 0.25 for a and 0.5025² for b, but sample variance 0.5 for a and 0.34 for b.
		{"population, no tie", 0, dossier(response("a", 1000, 2000), response("b", 1000, 2005, 1000, 2005)), "b"},
		// 0.25 for a and 0.5005² for b.
		// Responses of other models are never contested, whatever their variance.
		{"past", 0, dossier(ofPool(schemas.RolePast, response("a", 0, 5000)), response("b", 1000, 2000)), "b"},
		{"past alone", 0, dossier(ofPool(schemas.RolePast, response("a", 0, 5000))), ""},
		{"one in a thousand", 0, dossier(response("a", 1000, 2000), response("b", 1000, 2001)), "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			score.Dossier(&tt.d, score.Options{MinJudgments: tt.min})
			if tt.d.ContestedID != tt.want {
				t.Errorf("contested is %q, want %q", tt.d.ContestedID, tt.want)
			}
		})
	}
}

// The order of responses and of judgments decides nothing.
func TestContestedPermuted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var d schemas.Dossier
		for k := range 1 + rng.IntN(7) {
			scores := make([]int, rng.IntN(5))
			for i := range scores {
				scores[i] = 1000*rng.IntN(7) - 1000
				if scores[i] < 0 {
					scores[i] = unparsed
				}
			}
			d.Responses = append(d.Responses, response(fmt.Sprint("r", k), scores...))
		}
		score.Dossier(&d, score.Options{})
		want := d.ContestedID
		rng.Shuffle(len(d.Responses), func(i, k int) { d.Responses[i], d.Responses[k] = d.Responses[k], d.Responses[i] })
		for _, r := range d.Responses {
			rng.Shuffle(len(r.Judgments), func(i, k int) { r.Judgments[i], r.Judgments[k] = r.Judgments[k], r.Judgments[i] })
		}
		score.Dossier(&d, score.Options{})
		if d.ContestedID != want {
			t.Fatalf("contested was %q and is %q after a shuffle: %+v", want, d.ContestedID, d)
		}
	}
}

// The largest numbers there can be neither overflow nor tie by mistake.
func TestContestedLargest(t *testing.T) {
	half := make([]int, 256)
	for i := range 128 {
		half[i] = 5000
	}
	most := response("b", half...)
	less := response("a", half...)
	less.Judgments[0].Score = 4999
	d := dossier(less, most)
	score.Dossier(&d, score.Options{})
	if v := d.Responses[1].Score.Variance(); v != 6.25 {
		t.Errorf("V_b is %v, want 6.25", v)
	}
	if d.ContestedID != "b" {
		t.Errorf("contested is %q, want b", d.ContestedID)
	}
}

// The contested response is one that the meta-judge can compare, if there is one: b has the
// highest variance, but two distinct parsed judgments; of those with three, c has the higher one.
func TestContestedHasEnoughJudgments(t *testing.T) {
	build := func() schemas.Dossier {
		return dossier(response("a", 1000, 2000, 1500), response("b", 0, 5000), response("c", 1000, 3000, 2000), response("d", 4000, 4000, 4000))
	}
	for least, want := range map[int]string{0: "b", 2: "b", 3: "c", 4: "b"} {
		d := build()
		for i := range d.Responses {
			for k := range d.Responses[i].Judgments {
				d.Responses[i].Judgments[k].Distinct = true
			}
		}
		score.Dossier(&d, score.Options{MinDistinct: least})
		if d.ContestedID != want {
			t.Errorf("min_distinct %d: contested is %q, want %q", least, d.ContestedID, want)
		}
	}
	// Copies of one text are one judgment.
	d := dossier(response("a", 0, 5000, 2500), response("b", 1000, 3000, 2000))
	for i, n := range []int{2, 3} {
		for k := range n {
			d.Responses[i].Judgments[k].Distinct = true
		}
	}
	score.Dossier(&d, score.Options{MinDistinct: 3})
	if d.ContestedID != "b" {
		t.Errorf("contested is %q, want b", d.ContestedID)
	}
}

// On a scale of 100 points and with 256 judgments the products of a comparison exceed 64 bits:
// V_a = 50² and V_b is less by half a millionth.
func TestContestedOnAWideScale(t *testing.T) {
	half := make([]int, 256)
	for i := range 128 {
		half[i] = 100_000
	}
	less := response("a", half...)
	less.Judgments[0].Score--
	d := dossier(less, response("b", half...))
	score.Dossier(&d, score.Options{})
	if d.ContestedID != "b" {
		t.Errorf("contested is %q, want b", d.ContestedID)
	}
}

func TestOptions(t *testing.T) {
	for _, n := range []int{-1, 257} {
		if _, err := score.Spec(score.Options{MinJudgments: n}); err == nil || !strings.Contains(err.Error(), "min_judgments") {
			t.Errorf("min_judgments %d: got %v", n, err)
		}
	}
}

func TestStage(t *testing.T) {
	spec, err := score.Spec(score.Options{MinJudgments: 3})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := stage.Chain([]stage.Spec{spec})
	if err != nil {
		t.Fatal(err)
	}
	d := dossier(response("a", 1000, 2000), response("b", 1000, 1000, 1500))
	if err := stage(t.Context(), nil, &d); err != nil {
		t.Fatal(err)
	}
	if d.ContestedID != "b" || d.Responses[0].Score.Scored {
		t.Errorf("contested is %q, want b", d.ContestedID)
	}
}

func contestedOf(d schemas.Dossier) string { return d.ContestedID }

func TestScore(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	dossiers := beam.Create(s,
		dossier(response("a", 1000, 2000), response("b", 1000, 3000)), dossier(), dossier(response("c", 0, 5000)),
	)
	scored, err := score.Score(s, dossiers, score.Options{})
	if err != nil {
		t.Fatal(err)
	}
	passert.Equals(s, beam.ParDo(s, contestedOf, scored), "b", "", "c")
	ptest.RunAndValidate(t, p)

	if _, err := score.Score(s, dossiers, score.Options{MinJudgments: -1}); err == nil {
		t.Error("min_judgments -1 gives no error")
	}
}

func ExampleDossier() {
	d := dossier(response("a", 4000, 4500, 5000), response("b", 1000, 4000, unparsed))
	score.Dossier(&d, score.Options{})
	for _, r := range d.Responses {
		fmt.Printf("%s: mean %.2f, variance %.3f of %d scores\n", r.ID, r.Score.Mean(), r.Score.Variance(), r.Score.N)
	}
	fmt.Println("contested:", d.ContestedID)
	// Output:
	// a: mean 4.50, variance 0.167 of 3 scores
	// b: mean 2.50, variance 2.250 of 2 scores
	// contested: b
}

func printContested(d schemas.Dossier) { fmt.Println("contested:", d.ContestedID) }

// The transform runs the stage alone. It makes no call.
func ExampleScore() {
	p, s := beam.NewPipelineWithRoot()
	dossiers := beam.Create(s, dossier(response("a", 4000, 4500, 5000), response("b", 1000, 4000, unparsed)))
	scored, err := score.Score(s, dossiers, score.Options{})
	if err != nil {
		log.Fatal(err)
	}
	beam.ParDo0(s, printContested, scored)
	if _, err := beam.Run(context.Background(), "prism", p); err != nil {
		log.Fatal(err)
	}
	// Output:
	// contested: b
}

// With one read V is the variance of its distribution. With several it is that of their mixture: values 3 and 4
// with variances 0.5 and 0.7 have the mean 3.5 and the variance 0.6 + 0.25 = 0.85.
func TestSumReads(t *testing.T) {
	read := func(value, variance int64) schemas.Read {
		return schemas.Read{ValueMicros: value, VarianceMicros: variance}
	}
	one := score.SumReads([]schemas.Read{read(3_000_499, 812_345)})
	if one.N != 1 || one.Mean() != 3 || one.Variance() != 0.812345 {
		t.Errorf("one read: mean %v, variance %v; want 3 and 0.812345", one.Mean(), one.Variance())
	}
	two := score.SumReads([]schemas.Read{read(3_000_000, 500_000), {Unparsed: "low_mass", ValueMicros: 1}, read(4_000_000, 700_000)})
	if two.N != 2 || two.Mean() != 3.5 || two.Variance() != 0.85 {
		t.Errorf("two reads: mean %v, variance %v; want 3.5 and 0.85", two.Mean(), two.Variance())
	}
	// Rounding up never makes a variance negative.
	if sure := score.SumReads([]schemas.Read{read(4_999_500, 0)}); sure.Mean() != 5 || sure.Variance() != 0 {
		t.Errorf("a sure read: mean %v, variance %v; want 5 and 0", sure.Mean(), sure.Variance())
	}
	d := schemas.Dossier{Responses: []schemas.Response{
		{ID: "a", Reads: []schemas.Read{read(4_000_000, 100_000)}},
		{ID: "b", Reads: []schemas.Read{read(2_000_000, 900_000)}},
		{ID: "c", Reads: []schemas.Read{{Unparsed: "low_mass"}}},
		{ID: "d", Pool: schemas.RolePast, Reads: []schemas.Read{read(2_000_000, 2_000_000)}},
	}}
	score.Dossier(&d, score.Options{Reads: true, MinDistinct: 3})
	if d.ContestedID != "b" || !d.Responses[0].Score.Scored || d.Responses[2].Score.Scored {
		t.Errorf("contested is %q, want b: the actor's read of the highest variance; %+v", d.ContestedID, d.Responses)
	}
}
