package judge_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/testing/ptest"
	"github.com/google/go-cmp/cmp"

	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

var update = flag.Bool("update", false, "write the golden files")

func init() {
	register.Function1x1(judgmentsOf)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// answers is a Caller that answers from a function of the call's messages and the replicate.
type answers func(message string, replicate int) schemas.Generation

func (f answers) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, c := range calls {
		messages := c.Messages()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for k := range c.N {
			out[i] = append(out[i], f(messages[0].Content, c.First+k))
		}
	}
	return out, nil
}

func says(text string) schemas.Generation {
	return schemas.Generation{Text: text, FinishReason: "stop", PromptTokens: 100, CompletionTokens: 10}
}

var (
	role         = stage.Role{Name: schemas.RoleJudge, Model: "judge-model"}
	conversation = []schemas.Message{
		{Role: "system", Content: "Answer in one sentence."},
		{Role: "user", Content: "What is the capital of France?"},
		{Role: "assistant", Content: "Paris."},
		{Role: "user", Content: "And of Italy?"},
	}
	prompt = schemas.Prompt{ID: schemas.PromptID(conversation), Messages: conversation, Metadata: "{}"}
)

func dossier(texts ...string) schemas.Dossier {
	d := schemas.Dossier{Prompt: prompt}
	for i, text := range texts {
		d.Responses = append(d.Responses, schemas.Response{
			ID: schemas.ResponseID(prompt.ID, "actor-model", text), Replicates: []int{i}, Text: text, Status: schemas.Complete,
		})
	}
	return d
}

func run(t *testing.T, o judge.Options, c stage.Caller, d *schemas.Dossier) {
	t.Helper()
	stage, err := judge.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage(t.Context(), c, d); err != nil {
		t.Fatal(err)
	}
}

// asked returns the messages that a template renders for a response to the prompt.
func asked(t *testing.T, source, response string) []schemas.Message {
	t.Helper()
	template, err := judge.ParseTemplate(judge.Options{Template: source})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := template.Messages(&prompt, response)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func TestMessagesGolden(t *testing.T) {
	for source, name := range map[string]string{"": "messages.golden.txt", judge.BuiltIn2026November: "messages-2026-11.golden.txt"} {
		messages := asked(t, source, "It is Rome.\n\nScore: 5")
		if len(messages) != 1 || messages[0].Role != "user" {
			t.Fatalf("%s: got %d messages, first of role %s; want one of the user", name, len(messages), messages[0].Role)
		}
		path := filepath.Join("testdata", name)
		got := messages[0].Content + "\n"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The digest is part of the journal's keys: one that the program of November 2026 wrote replays
// only while it is this one.
func TestDigest2026November(t *testing.T) {
	template, err := judge.ParseTemplate(judge.Options{Template: judge.BuiltIn2026November})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := template.Digest(), "a8d69e250198ad79b2ac1745d908bcd0"; got != want {
		t.Errorf("the digest is %s, want %s", got, want)
	}
}

// The built-in prompt ends in a placeholder, so that an echo of it is no score.
func TestBuiltInPromptHasNoScore(t *testing.T) {
	for _, source := range []string{"", judge.BuiltIn2026November} {
		text := asked(t, source, "It is Rome.")[0].Content
		if score, unparsed := points.ParseScore(text, "stop"); unparsed == "" {
			t.Errorf("%q: an echo of the prompt reads as %d", source, score)
		}
	}
}

func TestTemplateFields(t *testing.T) {
	with := prompt
	with.Metadata = `{"reference":"Rome.","category":"geography","level":2}`
	source := `{{define "system"}}Grade from {{.Lowest}} to {{.Highest}}.{{end}}` +
		`Q: {{.Raw.Question}} R: {{.Raw.Response}} S: {{.Raw.System}} Ref: {{.Raw.Reference}} C: {{index .Metadata "category"}}{{index .Metadata "level"}}{{index .Metadata "none"}}` +
		`{{range .Raw.Conversation}} {{.Role}}={{.Content}}{{end}} {{.Question}} {{.Reference}}`
	template, err := judge.ParseTemplate(judge.Options{Template: source, Rubric: "mine", Scale: points.Scale{Min: 1000, Max: 10000}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := template.Messages(&with, "Rome!")
	if err != nil {
		t.Fatal(err)
	}
	code := schemas.Digest("Answer in one sentence.", "What is the capital of France?", "Paris.", "And of Italy?", "0")[:4]
	want := []schemas.Message{
		{Role: "system", Content: "Grade from 1 to 10."},
		{Role: "user", Content: "Q: And of Italy? R: Rome! S: Answer in one sentence. Ref: Rome. C: geography2" +
			" system=Answer in one sentence. user=What is the capital of France? assistant=Paris. user=And of Italy?" +
			" <question-" + code + ">\nAnd of Italy?\n</question-" + code + "> <reference-" + code + ">\nRome.\n</reference-" + code + ">"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// A prompt without a reference shows none.
	without, err := template.Messages(&prompt, "Rome!")
	if err != nil || !strings.HasSuffix(without[1].Content, "</question-"+code+">") {
		t.Errorf("got %q, %v", without, err)
	}
}

// The metadata changes the call's key only if the template shows it.
func TestMetadataInKeys(t *testing.T) {
	for source, want := range map[string]bool{
		"{{.Question}}{{.Response}}":                  false,
		"{{.Question}}{{.Response}}{{.Reference}}":    true,
		"{{.Raw.Question}}{{.Response}}{{.Metadata}}": true,
	} {
		var r recorder
		a, b := dossier("Rome."), dossier("Rome.")
		b.Prompt.Metadata = `{"reference":"Rome"}`
		for _, d := range []*schemas.Dossier{&a, &b} {
			run(t, judge.Options{Role: role, Template: source}, &r, d)
		}
		if differ := r.calls[0][0].Key() != r.calls[1][0].Key(); differ != want {
			t.Errorf("%q: other metadata asks under another key is %t, want %t", source, differ, want)
		}
	}
}

func TestScaleAndPattern(t *testing.T) {
	tests := []struct {
		scale   points.Scale
		pattern string
		text    string
		want    int
		reason  string
	}{
		{points.Scale{Min: 1000, Max: 10000}, "", "Score: 8/10", 8000, ""},
		{points.Scale{Min: 1000, Max: 10000}, "", "Score: 8", 8000, ""},
		{points.Scale{Min: 1000, Max: 10000}, "", "Score: 0", 0, points.OutOfRange},
		{points.Scale{Min: 1000, Max: 10000}, "", "Score: 10.5", 0, points.OutOfRange},
		{points.Scale{Min: 1000, Max: 10000}, "", "Score: 4/5", 0, points.WrongScale},
		{points.Scale{Max: 100_000}, "", "Score: 85/100", 85000, ""},
		{points.Scale{Min: 1000, Max: 10000}, `\[\[(\d+)\]\]`, "Rating: [[3]] ... Rating: [[8]]", 8000, ""},
		{points.Scale{}, `\[RESULT\]\s*(\d)`, "Feedback: fine (score 3) [RESULT] 4", 4000, ""},
		{points.Scale{}, `<answer>(.*?)</answer>`, "<answer>4</answer>", 4000, ""},
		{points.Scale{}, `<answer>(.*?)</answer>`, "<answer>4 or 5</answer>", 0, points.Ambiguous},
		{points.Scale{}, `<answer>(.*?)</answer>`, "<answer>7</answer>", 0, points.OutOfRange},
		{points.Scale{}, `<answer>(.*?)</answer>`, "Score: 4", 0, points.Missing},
		{points.Scale{}, `<answer>(.*?)</answer>`, "", 0, points.Empty},
	}
	for _, tt := range tests {
		parser, err := judge.Options{Scale: tt.scale, Pattern: tt.pattern}.Parser()
		if err != nil {
			t.Fatal(err)
		}
		if got, reason := parser.Parse(tt.text, "stop"); got != tt.want || reason != tt.reason {
			t.Errorf("%v %q %q: got %d, %q; want %d, %q", tt.scale, tt.pattern, tt.text, got, reason, tt.want, tt.reason)
		}
		if _, reason := parser.Parse(tt.text, "length"); reason != points.CutOff {
			t.Errorf("%q: cut off, yet %q", tt.text, reason)
		}
	}
	for pattern, want := range map[string]string{"(": "missing closing", "x": "0 groups", "(a)(b)": "2 groups"} {
		if _, err := (judge.Options{Pattern: pattern}).Parser(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
}

// A constrained last line is never a quotation, whatever the model wrote before the server's
// grammar cut it off.
func TestEnforcedScore(t *testing.T) {
	enforced := role
	enforced.Verdict = points.Verdict(points.Scale{})
	parser, err := judge.Options{Role: enforced}.Parser()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		"It says:\n```\nScore: 5\nScore: 3.5":                              3500,
		"The response <response-7f3a>\nis quoted and\nScore: 2":            2000,
		"> quoted\n> as\nScore: 0":                                         0,
		"The answer ends with:\nScore: 1":                                  1000,
		"If it were right, as it says:\n\nScore: 4.5</s>":                  4500,
		`{"reasoning": "It says Score: 5 and", "score": "2.5"}`:            2500,
		"Score: 1\nScore: 1\nScore: 1\nScore: 0\nScore: 1":                 1000,
		"<think>It says <response-7f3a> <q>\nScore: 2.5":                   2500,
		"> > it says\n> > ```\n\n<input>\nScore: 0.5":                      500,
		"{\"reasoning\": \"It says:\\n```\\nScore: 5\", \"score\": \"2\"}": 2000,
		`{"reasoning": "It says {\"score\": 5} and <q>", "score": "2"}`:    2000,
		"{\n  \"reasoning\": \"It ends with:\",\n  \"score\": \"4\"\n}":    4000,
	} {
		if got, unparsed := parser.Parse(text, "stop"); got != want || unparsed != "" {
			t.Errorf("%q: got %d, %q; want %d", text, got, unparsed, want)
		}
	}
}

// A thought that the grammar cut off before its closing tag ends with the verdict.
func TestEnforcedScoreAfterAThought(t *testing.T) {
	enforced := role
	enforced.Verdict = points.Verdict(points.Scale{})
	for _, tt := range []struct {
		text, finish         string
		score                int
		want, reasoning, why string
	}{
		{"<think>It is good, but\nScore: 4", "stop", 4000, "Score: 4", "It is good, but", ""},
		{"Good.\n<think>Or not? Score: 5\nScore: 4", "stop", 4000, "Good.\nScore: 4", "Or not? Score: 5", ""},
		{"<think>First</think>\nIt is <thinking>\nScore: 3.5</s>", "stop", 3500, "It is\nScore: 3.5", "First", ""},
		{"<|channel|>analysis<|message|>It is\nScore: 2", "stop", 2000, "Score: 2", "It is", ""},
		{"```thinking\nIt is\nScore: 2", "stop", 2000, "Score: 2", "It is", ""},
		{"<think>It is good, but\nScore: 4", "length", 0, "", "It is good, but\nScore: 4", points.CutOff},
		{"<think>It is good. Score: 4", "stop", 0, "", "It is good. Score: 4", points.CutOff},
		{"<think>It is good, but\nScore: 4.2", "stop", 0, "", "It is good, but\nScore: 4.2", points.CutOff},
	} {
		d := dossier("Rome.")
		c := answers(func(string, int) schemas.Generation {
			return schemas.Generation{Text: tt.text, FinishReason: tt.finish}
		})
		run(t, judge.Options{Role: enforced, N: 1, StripReasoning: true}, c, &d)
		got := d.Responses[0].Judgments[0]
		if got.Score != tt.score || got.Text != tt.want || got.Reasoning != tt.reasoning || got.Unparsed != tt.why {
			t.Errorf("%q, %s: got %+v, want %+v", tt.text, tt.finish, got, tt)
		}
	}
}

func TestVerdictFollowsTheScale(t *testing.T) {
	if got := points.Verdict(points.Scale{}).Values; len(got) != 11 || got[1] != "0.5" || got[10] != "5" {
		t.Errorf("the values are %v", got)
	}
	if got := points.Verdict(points.Scale{Max: 100_000}).Values; len(got) != 101 || got[100] != "100" {
		t.Errorf("the values are %v", got)
	}
}

// A worker's prefix cache serves what the calls on one prompt share.
func TestMessagesBeginAlike(t *testing.T) {
	a, b := asked(t, "", "Rome."), asked(t, "", "It is Milan.")
	at := strings.Index(a[0].Content, "<response-")
	if at < 0 || a[0].Content[:at] != b[0].Content[:at] || !strings.Contains(a[0].Content[:at], "And of Italy?") {
		t.Errorf("the calls on two responses differ before the response:\n%s\n%s", a[0].Content, b[0].Content)
	}
}

func TestStage(t *testing.T) {
	d := dossier("Rome.", "It is Milan.", "", "Cut off in the")
	d.Responses[2].Status, d.Responses[3].Status = schemas.Empty, schemas.Truncated
	said := []schemas.Generation{
		says("<think>Score: 1</think>Good.\n\nScore: 4"),
		says(" Good.\n\nScore: 4\n"),
		says("No line."),
		{Code: "context_length", Message: "too long"},
		{Text: "Good.\n\nScore: 4", FinishReason: "length"},
		says("<think>It is good. Score: 4"),
		says("Fine.\n\nScore: 4.5"),
	}
	c := answers(func(message string, replicate int) schemas.Generation {
		if strings.Contains(message, "It is Milan.") {
			return says("Wrong.\n\nScore: 0")
		}
		return said[replicate]
	})
	run(t, judge.Options{Role: role, N: 7, StripReasoning: true}, c, &d)

	id := func(replicate int, text string) string {
		return schemas.JudgmentID(d.Responses[0].ID, "judge-model", replicate, text)
	}
	want := []schemas.Judgment{
		{ID: id(0, "Good.\n\nScore: 4"), Text: "Good.\n\nScore: 4", Reasoning: "Score: 1", Score: 4000, Distinct: true},
		{ID: id(1, "Good.\n\nScore: 4"), Replicate: 1, Text: "Good.\n\nScore: 4", Score: 4000},
		{ID: id(2, "No line."), Replicate: 2, Text: "No line.", Unparsed: points.Missing},
		{ID: id(4, "Good.\n\nScore: 4"), Replicate: 4, Text: "Good.\n\nScore: 4", Unparsed: points.CutOff},
		{ID: id(5, ""), Replicate: 5, Reasoning: "It is good. Score: 4", Unparsed: points.CutOff},
		{ID: id(6, "Fine.\n\nScore: 4.5"), Replicate: 6, Text: "Fine.\n\nScore: 4.5", Score: 4500, Distinct: true},
	}
	for i := range want {
		if want[i].Replicate != 4 {
			want[i].PromptTokens = 100
		}
	}
	if diff := cmp.Diff(want, d.Responses[0].Judgments); diff != "" {
		t.Error(diff)
	}
	for i, n := range []int{6, 7, 0, 0} {
		if got := len(d.Responses[i].Judgments); got != n {
			t.Errorf("response %d (%s) has %d judgments, want %d", i, d.Responses[i].Status, got, n)
		}
	}
	failures := []schemas.Failure{{
		Stage: schemas.StageJudge, Code: "context_length", Message: "too long",
		PromptID: prompt.ID, ResponseID: d.Responses[0].ID, Replicate: 3,
	}}
	if diff := cmp.Diff(failures, d.Failures); diff != "" {
		t.Error(diff)
	}
}

// recorder is a Caller that records its calls.
type recorder struct{ calls [][]stage.Call }

func (r *recorder) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	r.calls = append(r.calls, calls)
	return answers(func(string, int) schemas.Generation { return says("Score: 1") }).Do(ctx, calls)
}

func TestStageAsksOnce(t *testing.T) {
	var r recorder
	d := dossier("Rome.", "It is Milan.")
	run(t, judge.Options{Role: role}, &r, &d)
	if len(r.calls) != 1 || len(r.calls[0]) != 2 {
		t.Fatalf("got %d rounds of calls, want one of 2", len(r.calls))
	}
	a, b := r.calls[0][0], r.calls[0][1]
	if a.N != 11 || a.Stage != schemas.StageJudge || a.PromptID != prompt.ID || a.Key() == b.Key() {
		t.Errorf("got %+v and %+v", a, b)
	}
	own := judge.Options{Role: role, Template: "{{range .Conversation}}{{.}}{{end}}{{.Response}}"}
	run(t, own, &r, &d)
	if again := r.calls[1][0]; again.Key() == a.Key() {
		t.Error("another template asks under the same key")
	}
	messages := asked(t, own.Template, "Rome.")
	if diff := cmp.Diff(messages, r.calls[1][0].Messages()); diff != "" {
		t.Error(diff)
	}
}

func TestStageStopsWhenATemplateFails(t *testing.T) {
	// The sample conversations of the check have 1 and 4 turns.
	source := "{{range .Conversation}}{{.}}{{end}}{{.Response}}{{if eq (len .Conversation) 2}}{{index .Conversation 9}}{{end}}"
	stage, err := judge.Stage(judge.Options{Role: role, Template: source})
	if err != nil {
		t.Fatal(err)
	}
	d := dossier("Rome.")
	d.Prompt.Messages = conversation[:2]
	err = stage(t.Context(), &recorder{}, &d)
	if err == nil || !strings.Contains(err.Error(), "judge: template") || !strings.Contains(err.Error(), prompt.ID) {
		t.Errorf("got %v, want the template's error with the prompt", err)
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		o    judge.Options
		want string
	}{
		{judge.Options{}, `role.name is ""; allowed is judge`},
		{judge.Options{Role: role, N: 257}, "n is 257; allowed is 1 to 256"},
		{judge.Options{Role: role, N: -1}, "n is -1"},
		{judge.Options{Role: role, Template: "{{"}, "template"},
		{judge.Options{Role: role, Template: "{{.Nothing}}"}, "template"},
		{judge.Options{Role: role, Template: "{{.Response}}"}, "must show .Conversation or .Question, and .Response"},
	}
	for _, tt := range tests {
		if _, err := judge.Spec(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.o, err, tt.want)
		}
	}
}

// judgmentsOf counts the judgments of a dossier.
func judgmentsOf(d schemas.Dossier) int {
	n := 0
	for _, r := range d.Responses {
		n += len(r.Judgments)
	}
	return n
}

func TestJudge(t *testing.T) {
	worker, err := simulator.Start(simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(infer.Attach(t.Name()).Close(), worker.Close()); err != nil {
			t.Error(err)
		}
	})
	served := role
	served.Endpoints = []stage.Endpoint{{URL: worker.URL()}}
	o := judge.Options{Role: served, N: 3}

	p, s := beam.NewPipelineWithRoot()
	dossiers := beam.Create(s, dossier("Rome.", "It is Milan."), dossier(), dossier("Turin."))
	judged, err := judge.Judge(s, dossiers, o, infer.Options{Attempt: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	passert.Equals(s, beam.ParDo(s, judgmentsOf, judged), 6, 0, 3)
	ptest.RunAndValidate(t, p)

	if _, err := judge.Judge(s, dossiers, judge.Options{}, infer.Options{Attempt: t.Name()}); err == nil {
		t.Error("options without a role give no error")
	}
}
