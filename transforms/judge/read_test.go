package judge_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/stage"
)

// Reads go to every complete response, in their own stage, with one token and no constraint, and a failed
// one is a failure of that stage.
func TestReads(t *testing.T) {
	o := judge.Options{Role: role, N: 4, Reads: 2}
	o.Role.Stop, o.Role.Verdict, o.Role.MaxTokens = []string{"\n"}, points.Verdict(points.Scale{}), 1024
	reads, err := o.ReadOptions()
	if err != nil {
		t.Fatal(err)
	}
	d := dossier("good", "bad")
	d.Responses = append(d.Responses, schemas.Response{ID: "cut", Status: schemas.Truncated, Text: "x"})
	var asked []stage.Call
	caller := answers(func(message string, replicate int) schemas.Generation {
		switch {
		case strings.Contains(message, "\nbad\n") && replicate == 1:
			return schemas.Generation{Code: "timeout"}
		case strings.Contains(message, "\nbad\n"):
			return schemas.Generation{LogProbs: map[string]float64{"1": math.Log(0.1)}}
		}
		return schemas.Generation{Text: "4", FinishReason: "length", LogProbs: map[string]float64{"3": math.Log(0.25), "5": math.Log(0.25)}, PromptTokens: 7}
	})
	run(t, reads, watched{caller, &asked}, &d)
	read := schemas.Read{LogProbs: map[string]float64{"3": math.Log(0.25), "5": math.Log(0.25)}, MassMicros: 500_000, ValueMicros: 4_000_000, VarianceMicros: 1_000_000, PromptTokens: 7}
	second := read
	second.Replicate = 1
	if diff := cmp.Diff([]schemas.Read{read, second}, d.Responses[0].Reads); diff != "" {
		t.Errorf("good: %s", diff)
	}
	if r := d.Responses[1].Reads; len(r) != 1 || r[0].Unparsed != stage.LowMass || r[0].MassMicros != 100_000 {
		t.Errorf("bad: %+v", r)
	}
	if r := d.Responses[2].Reads; r != nil {
		t.Errorf("a response that was cut off has the reads %+v", r)
	}
	if len(d.Failures) != 1 || d.Failures[0].Stage != schemas.StageReads || d.Failures[0].Replicate != 1 || d.Failures[0].ResponseID != d.Responses[1].ID {
		t.Errorf("failures are %+v", d.Failures)
	}
	for _, c := range asked {
		if c.Stage != schemas.StageReads || c.N != 2 || c.Role.MaxTokens != 1 || c.Role.Verdict != nil || c.Role.Stop != nil || c.Role.Temperature != role.Temperature {
			t.Errorf("asked %+v of %+v", c, c.Role)
		}
	}

	// Then judgments go to the contested response alone.
	d.ContestedID = d.Responses[1].ID
	asked = nil
	run(t, o, watched{answers(func(string, int) schemas.Generation { return says("Score: 3") }), &asked}, &d)
	if len(asked) != 1 || asked[0].N != 4 || asked[0].Stage != schemas.StageJudge || len(d.Responses[1].Judgments) != 4 || len(d.Responses[0].Judgments) != 0 {
		t.Errorf("%d calls for judgments, want one for the contested response", len(asked))
	}
}

// watched keeps the calls.
type watched struct {
	answers
	calls *[]stage.Call
}

func (w watched) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	*w.calls = append(*w.calls, calls...)
	return w.answers.Do(ctx, calls)
}

// The prompt of a read ends so that the next token is the label, and begins as that of a judgment, for the
// servers' prefix caches.
func TestReadPrompts(t *testing.T) {
	own := "Rate {{.Question}} and {{.Response}}. Explain at length."
	with := "Rate {{.Question}} and {{.Response}}.{{if .Read}} Only {{.Labels}}!{{else}} Explain.{{end}}"
	for _, tt := range []struct{ template, end, without string }{
		{"", "rounded to one of these: 0, 1, 2, 3, 4 or 5.", "Score: <points>"},
		{judge.BuiltIn2026November, "reply with nothing but one of these: 0, 1, 2, 3, 4 or 5.", ""},
		{own, "reply with nothing but one of these: 0, 1, 2, 3, 4 or 5.", ""},
		{with, "Only 0, 1, 2, 3, 4 or 5!", "Explain"},
	} {
		o := judge.Options{Role: role, N: 1, Reads: 1, Template: tt.template}
		texts, err := judge.ParseTemplate(o)
		if err != nil {
			t.Fatal(err)
		}
		ro, err := o.ReadOptions()
		if err != nil {
			t.Fatal(err)
		}
		reads, err := judge.ParseTemplate(ro)
		if err != nil {
			t.Fatal(err)
		}
		a, err := texts.Messages(&prompt, "an answer")
		if err != nil {
			t.Fatal(err)
		}
		b, err := reads.Messages(&prompt, "an answer")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(b[0].Content, tt.end) || tt.without != "" && strings.Contains(b[0].Content, tt.without) {
			t.Errorf("%.20q: the read ends with %q", tt.template, b[0].Content[max(0, len(b[0].Content)-200):])
		}
		if texts.Digest() == reads.Digest() {
			t.Errorf("%.20q: both have the digest %s", tt.template, texts.Digest())
		}
		if at := strings.Index(a[0].Content, "an answer"); !strings.HasPrefix(b[0].Content, a[0].Content[:at]) {
			t.Errorf("%.20q: the two begin differently", tt.template)
		}
		if strings.Contains(a[0].Content, "nothing but") {
			t.Errorf("%.20q: a judgment is asked for as a read", tt.template)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, tt := range []struct {
		scale  points.Scale
		labels []string
	}{
		{points.Scale{}, []string{"0", "1", "2", "3", "4", "5"}},
		{points.Scale{Min: 500, Max: 3500}, []string{"1", "2", "3"}},
		{points.Scale{Min: 8000, Max: 10_000}, []string{"8", "9", "10"}},
	} {
		labels, values := tt.scale.Labels()
		if !slices.Equal(labels, tt.labels) || len(values) != len(labels) || values[0]%1000 != 0 {
			t.Errorf("%+v: labels %v with values %v, want %v", tt.scale, labels, values, tt.labels)
		}
	}
	if _, err := (judge.Options{Role: role, N: 1, Reads: 1, Scale: points.Scale{Min: 100, Max: 900}}).ReadOptions(); err == nil {
		t.Error("a scale without whole points has reads")
	}
}
