package score

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
)

func calibration(points ...CalibrationPoint) *Calibration {
	return &Calibration{
		Version: 1, Date: "2026-11-25", Judge: CalibratedJudge{Model: "m", Judgments: 11, Template: "t"}, Responses: 40, Prompts: 20,
		Labels: CalibrationLabels{File: "labels.jsonl", SHA256: strings.Repeat("0f", 32)}, Points: points,
	}
}

func scored(n int, sum int64) schemas.Score {
	return schemas.Score{N: n, Sum: sum, Squares: 7, Scored: true}
}

func TestApply(t *testing.T) {
	c := calibration(CalibrationPoint{1000, 500}, CalibrationPoint{2000, 1000}, CalibrationPoint{4000, 4500})
	for _, x := range []struct {
		name   string
		n      int
		sum    int64
		images int64
	}{
		{"a point", 1, 2000, 1000},
		{"before the first", 2, 600, 500},
		{"after the last", 3, 14_999, 4500},
		{"the last", 3, 12_000, 4500},
		// 500 + (1500 − 1000)/1000 · 500 = 750
		{"in the middle", 2, 3000, 750},
		// The mean is 7000/3: 1000 + (1000/3)/2000 · 3500 = 1583.33…
		{"a third", 3, 7000, 1583},
		// 500 + 1/1000 · 500 = 500.5, and halves go up.
		{"a half", 1, 1001, 501},
	} {
		got := c.Apply(scored(x.n, x.sum))
		want := scored(x.n, int64(x.n)*x.images)
		want.Shift = want.Sum - x.sum
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", x.name, diff)
		}
		if got.Written() != x.sum {
			t.Errorf("%s: written is %d, want %d", x.name, got.Written(), x.sum)
		}
	}
	unscored := schemas.Score{N: 1, Sum: 3000, Squares: 9e6}
	if got := c.Apply(unscored); got != unscored {
		t.Errorf("unscored: %+v", got)
	}
	var none *Calibration
	if got := none.Apply(scored(2, 5000)); got != scored(2, 5000) {
		t.Errorf("no calibration: %+v", got)
	}
}

// Of two means the higher one never gets the lower image, whatever the map and the numbers of judgments.
func TestCalibrationReversesNoOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		c := randomCalibration(r)
		for range 200 {
			n, m := 1+r.Int64N(256), 1+r.Int64N(256)
			a, b := r.Int64N(5000*n+1), r.Int64N(5000*m+1)
			if a*m > b*n {
				a, b, n, m = b, a, m, n
			}
			low, high := c.image(n, a), c.image(m, b)
			if low > high || low < 0 || high > 5000 {
				t.Fatalf("%d/%d has the image %d, %d/%d has %d, by %+v", a, n, low, b, m, high, c.Points)
			}
		}
	}
}

func randomCalibration(r *rand.Rand) *Calibration {
	n := 2 + r.IntN(20)
	scores, people := map[Points]bool{}, make([]Points, n)
	for len(scores) < n {
		scores[Points(r.IntN(5001))] = true
	}
	for i := range people {
		people[i] = Points(r.IntN(5001))
	}
	slices.Sort(people)
	people[n-1] = max(people[n-1], people[0]+1)
	c := calibration()
	for s := range scores {
		c.Points = append(c.Points, CalibrationPoint{Score: s})
	}
	slices.SortFunc(c.Points, func(a, b CalibrationPoint) int { return int(a.Score - b.Score) })
	for i := range c.Points {
		c.Points[i].People = min(people[i], 5000)
	}
	return c
}

// The contested response and the variances follow from the scores as written.
func TestCalibrationLeavesVarianceAndContested(t *testing.T) {
	dossier := func() *schemas.Dossier {
		response := func(id string, scores ...int) schemas.Response {
			r := schemas.Response{ID: id, Status: schemas.Complete}
			for _, s := range scores {
				r.Judgments = append(r.Judgments, schemas.Judgment{Score: s})
			}
			return r
		}
		return &schemas.Dossier{Responses: []schemas.Response{response("a", 0, 2000), response("b", 4000, 4500)}}
	}
	plain, mapped := dossier(), dossier()
	Dossier(plain, Options{})
	// Level where a's scores lie and steep where b's do.
	Dossier(mapped, Options{Calibration: calibration(CalibrationPoint{0, 0}, CalibrationPoint{3000, 1}, CalibrationPoint{5000, 5000})})
	for i := range plain.Responses {
		was, is := plain.Responses[i].Score, mapped.Responses[i].Score
		if was.Variance() != is.Variance() || was.Sum != is.Written() || was.Sum == is.Sum {
			t.Errorf("response %d: %+v became %+v", i, was, is)
		}
	}
	if plain.ContestedID != "a" || mapped.ContestedID != "a" {
		t.Errorf("contested are %q and %q, want a: V is 1 and 1/16", plain.ContestedID, mapped.ContestedID)
	}
	// b: the mean 4250 has the image 1 + 1250/2000 · 4999 = 3125.4.
	if got := mapped.Responses[1].Score.Mean(); got != 3.125 {
		t.Errorf("S of b is %v, want 3.125", got)
	}
}

func TestParseCalibration(t *testing.T) {
	c := calibration(CalibrationPoint{1000, 500}, CalibrationPoint{2500, 4125})
	c.Judge.Revision = "step-400"
	file, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCalibration(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Errorf("the written map differs from the one that is read: %s", diff)
	}
	for _, x := range []struct{ was, is, want string }{
		{`"version": 1`, `"version": 2`, "version is 2; this program reads version 1"},
		{`"version": 1,`, ``, "version is missing"},
		{`"date"`, `"day"`, `unknown field "day"`},
		{`2026-11-25`, `25.11.2026`, `date is "25.11.2026"`},
		{`"model": "m"`, `"model": ""`, "judge.model is empty"},
		{`"judgments": 11`, `"judgments": 0`, "judge.judgments is 0; allowed is 1 to 256"},
		{`"prompts": 20`, `"prompts": 41`, "no more prompts than responses"},
		{`0f0f`, `0f0g`, "labels.sha256 is"},
		{`"score": 2.5`, `"score": 1`, "points[1].score is 1 after 1; scores must rise"},
		{`"people": 4.125`, `"people": 0.25`, "points[1].people is 0.25 after 0.5; a map may not reverse an order"},
		{`"people": 4.125`, `"people": 0.5`, "would tie all responses"},
		{`"people": 4.125`, `"people": 41.25`, "points[1].people is 41.25; allowed is 0 to 5"},
		{`"score": 1,`, `"score": -1,`, "points[0].score is -1; allowed is 0 to 5"},
		{`"people": 4.125`, `"people": 4.1255`, "4.1255 is no number of points with at most 3 decimals"},
		{`"people": 4.125`, `"people": "4"`, "no number of points"},
		{"{\n  \"version\"", "[\n  \"version\"", "no JSON object of a calibration"},
	} {
		if !strings.Contains(string(file), x.was) {
			t.Fatalf("the file lacks %s:\n%s", x.was, file)
		}
		_, err := ParseCalibration([]byte(strings.Replace(string(file), x.was, x.is, 1)))
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s for %s: %v, want one line with %q", x.is, x.was, err, x.want)
		}
	}
	if _, err := ParseCalibration(append(slices.Clone(file), "{}"...)); err == nil {
		t.Error("two objects are taken for one")
	}
	c.Points = c.Points[:1]
	if _, err := c.Encode(); err == nil || !strings.Contains(err.Error(), "at least 2") {
		t.Errorf("one point: %v", err)
	}
}

// Every file is rejected, or is a map that reverses no order and survives a round trip.
func FuzzParseCalibration(f *testing.F) {
	file, err := calibration(CalibrationPoint{1000, 500}, CalibrationPoint{2500, 4125}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"version":1,"points":[{"score":1e0,"people":5}]}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := ParseCalibration(file)
		if err != nil {
			return
		}
		for sum := range int64(5000) {
			if c.image(1, sum) > c.image(1, sum+1) {
				t.Fatalf("%d has a higher image than %d by %+v", sum, sum+1, c.Points)
			}
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCalibration(again)
		if diff := cmp.Diff(c, back); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}
