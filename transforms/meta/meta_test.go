package meta_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
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
	"coeval/transforms/meta"
	"coeval/transforms/simulator"
	"coeval/transforms/stage"
)

var update = flag.Bool("update", false, "write the golden files")

func init() {
	register.Function1x1(comparisonsOf)
}

func TestMain(m *testing.M) {
	ptest.MainWithDefault(m, "prism")
}

// answers is a Caller that answers from a function of the call's message, and keeps the calls.
type answers struct {
	say   func(message string) schemas.Generation
	calls *[]stage.Call
}

func (a answers) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	out := make([][]schemas.Generation, len(calls))
	for i, c := range calls {
		messages := c.Messages()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = []schemas.Generation{a.say(messages[0].Content)}
	}
	if a.calls != nil {
		*a.calls = append(*a.calls, calls...)
	}
	return out, nil
}

func says(text string) schemas.Generation {
	return schemas.Generation{Text: text, FinishReason: "stop", PromptTokens: 100, CompletionTokens: 10}
}

var (
	role         = stage.Role{Name: schemas.RoleMetaJudge, Model: "meta-model"}
	conversation = []schemas.Message{{Role: "user", Content: "What is the capital of Italy?"}}
	prompt       = schemas.Prompt{ID: schemas.PromptID(conversation), Messages: conversation, Metadata: "{}"}
)

// dossier returns one with a contested response that has a parsed judgment of each text.
func dossier(texts ...string) schemas.Dossier {
	r := schemas.Response{ID: schemas.ResponseID(prompt.ID, "actor-model", "Rome."), Text: "Rome.", Status: schemas.Complete}
	for i, text := range texts {
		score, unparsed := points.ParseScore(text, "stop")
		r.Judgments = append(r.Judgments, schemas.Judgment{
			ID: schemas.JudgmentID(r.ID, "judge-model", i, text), Replicate: i, Text: text,
			Score: score, Unparsed: unparsed, Distinct: unparsed == "",
		})
	}
	return schemas.Dossier{Prompt: prompt, Responses: []schemas.Response{r}, ContestedID: r.ID}
}

func run(t *testing.T, o meta.Options, c stage.Caller, d *schemas.Dossier) {
	t.Helper()
	stage, err := meta.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage(t.Context(), c, d); err != nil {
		t.Fatal(err)
	}
}

var three = []string{"One.\n\nScore: 1", "Two.\n\nScore: 2", "Three.\n\nScore: 3"}

// shown returns which of the texts a message shows as A and as B.
func shown(message string, texts []string) (a, b int) {
	a, b = -1, -1
	half := strings.Index(message, "## Judgment B")
	for i, text := range texts {
		if strings.Contains(message[:half], text) {
			a = i
		}
		if strings.Contains(message[half:], text) {
			b = i
		}
	}
	return a, b
}

func TestStage(t *testing.T) {
	texts := append([]string{"No score line."}, three...)
	d := dossier(texts...)
	d.Responses[0].Judgments[3].Distinct = false // as if an earlier answer were the same
	d.Responses[0].Judgments = append(d.Responses[0].Judgments, dossier("Four.\n\nScore: 4").Responses[0].Judgments...)
	texts = append(texts, "Four.\n\nScore: 4")
	var asked [][2]int
	say := func(message string) schemas.Generation {
		a, b := shown(message, texts)
		asked = append(asked, [2]int{a, b})
		switch {
		case a == 1 && b == 2:
			return schemas.Generation{Code: "timeout", Message: "late"}
		case a == 2 && b == 1:
			return says("<think>Winner: A")
		case a < b:
			return says("Better.\n\nWinner: B")
		default:
			return says("<think>Winner: B</think>Better.\n\nWinner: A")
		}
	}
	run(t, meta.Options{Role: role, StripReasoning: true}, answers{say: say}, &d)

	// 3 of the 5 judgments are parsed and distinct: 3·2 comparisons.
	slices.SortFunc(asked, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	if diff := cmp.Diff([][2]int{{1, 2}, {1, 4}, {2, 1}, {2, 4}, {4, 1}, {4, 2}}, asked); diff != "" {
		t.Error(diff)
	}
	id := func(text int) string { return d.Responses[0].Judgments[text].ID }
	failures := []schemas.Failure{{
		Stage: schemas.StageMeta, Code: "timeout", Message: "late",
		PromptID: prompt.ID, ResponseID: d.ContestedID, FirstID: id(1), SecondID: id(2),
	}}
	if diff := cmp.Diff(failures, d.Failures); diff != "" {
		t.Error(diff)
	}
	want := map[[2]string]schemas.Comparison{
		{id(2), id(1)}: {Winner: schemas.NoWins, Unparsed: meta.CutOff, Reasoning: "Winner: A"},
		{id(1), id(4)}: {Winner: schemas.Second, Text: "Better.\n\nWinner: B"},
		{id(2), id(4)}: {Winner: schemas.Second, Text: "Better.\n\nWinner: B"},
		{id(4), id(1)}: {Winner: schemas.First, Text: "Better.\n\nWinner: A", Reasoning: "Winner: B"},
		{id(4), id(2)}: {Winner: schemas.First, Text: "Better.\n\nWinner: A", Reasoning: "Winner: B"},
	}
	got := map[[2]string]schemas.Comparison{}
	for _, c := range d.Comparisons {
		got[[2]string{c.FirstID, c.SecondID}] = c
	}
	for pair, c := range want {
		c.ID, c.FirstID, c.SecondID = schemas.ComparisonID(pair[0], pair[1], "meta-model"), pair[0], pair[1]
		c.PromptTokens = 100
		want[pair] = c
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !slices.IsSortedFunc(d.Comparisons, func(a, b schemas.Comparison) int {
		return slices.Compare([]string{a.FirstID, a.SecondID}, []string{b.FirstID, b.SecondID})
	}) {
		t.Error("the comparisons are not in the order of (first, second) ID")
	}
}

// With a comparison missing, every verdict still stands where it belongs: a zip of verdicts
// with pairs would move all that come after the gap. Here the text with the higher number wins
// always, and each comparison in turn is the one that fails.
func TestVerdictsStayInPlaceAroundAGap(t *testing.T) {
	texts := append([]string{"Zero.\n\nScore: 0"}, three...)
	for gap := range 4 * 3 {
		d := dossier(texts...)
		asked := -1
		var gapAt [2]int
		say := func(message string) schemas.Generation {
			a, b := shown(message, texts)
			if asked++; asked == gap {
				gapAt = [2]int{a, b}
				return schemas.Generation{Code: "timeout"}
			}
			if a > b {
				return says("Winner: A")
			}
			return says("Winner: B")
		}
		run(t, meta.Options{Role: role}, answers{say: say}, &d)
		f := schemas.NewFinding(&d)
		for m, first := range f.Judgments {
			for n, second := range f.Judgments {
				want := schemas.First
				switch {
				case m == n:
					continue
				case first.Score == 1000*gapAt[0] && second.Score == 1000*gapAt[1]:
					want = schemas.Missing
				case first.Score < second.Score:
					want = schemas.Second
				}
				if got := f.Verdict(m, n); got != want {
					t.Errorf("gap at %v: %d before %d gives %s, want %s", gapAt, first.Score, second.Score, got, want)
				}
			}
		}
	}
}

func TestStageWithTooLittle(t *testing.T) {
	contested := dossier(three...)
	uncontested := dossier(three...)
	uncontested.ContestedID = ""
	two := dossier(three[:2]...)
	never := answers{say: func(string) schemas.Generation { panic("asked") }}
	run(t, meta.Options{Role: role, MinJudgments: 4}, never, &contested)
	run(t, meta.Options{Role: role}, never, &uncontested)
	run(t, meta.Options{Role: role}, never, &two)

	var calls []stage.Call
	run(t, meta.Options{Role: role, MinJudgments: 2}, answers{say: func(string) schemas.Generation { return says("Winner: A") }, calls: &calls}, &two)
	if len(calls) != 2 || len(two.Comparisons) != 2 {
		t.Errorf("got %d calls and %d comparisons, want 2 of each", len(calls), len(two.Comparisons))
	}
}

func TestHideScores(t *testing.T) {
	// The first two differ in their scores alone.
	texts := []string{"Good.\n\nScore: 4", "Good.\n\nScore: 3", "Bad.\n\n**Score:** 1/5"}
	d := dossier(texts...)
	var calls []stage.Call
	say := func(message string) schemas.Generation {
		if strings.Contains(message, "Score: ") || strings.Contains(message, "Score:**") {
			t.Errorf("a score is shown:\n%s", message)
		}
		return says("Winner: A")
	}
	run(t, meta.Options{Role: role, HideScores: true}, answers{say: say, calls: &calls}, &d)
	// The shown pairs are good–good, good–bad and bad–good; each answers all comparisons with the same
	// texts.
	if len(calls) != 3 || len(d.Comparisons) != 6 {
		t.Errorf("got %d calls and %d comparisons, want 3 and 6", len(calls), len(d.Comparisons))
	}
	keys := map[string]bool{}
	for _, c := range calls {
		keys[c.Key()] = true
	}
	if len(keys) != 3 {
		t.Errorf("got %d keys, want 3", len(keys))
	}
	if d.Responses[0].Judgments[0].Text != texts[0] {
		t.Error("the judgment itself lost its score line")
	}
}

func TestMessagesGolden(t *testing.T) {
	for source, name := range map[string]string{"": "messages.golden.txt", judge.BuiltIn2026November: "messages-2026-11.golden.txt"} {
		got := askedAbout(t, source)
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// askedAbout returns the messages that a template renders for the first and the third judgment.
func askedAbout(t *testing.T, source string) string {
	t.Helper()
	d := dossier(three...)
	var got string
	want := [2]int{0, 2}
	say := func(message string) schemas.Generation {
		if a, b := shown(message, three); [2]int{a, b} == want {
			got = message + "\n"
		}
		return says("Winner: A")
	}
	run(t, meta.Options{Role: role, Template: source}, answers{say: say}, &d)
	return got
}

// An echo of a built-in prompt is no verdict: it was a vote for B.
func TestBuiltInPromptHasNoVerdict(t *testing.T) {
	for _, source := range []string{"", judge.BuiltIn2026November} {
		text := askedAbout(t, source)
		for _, echo := range []string{text, text[strings.LastIndex(text, "## "):], text[strings.LastIndex(strings.TrimSpace(text), "\n"):]} {
			if source == judge.BuiltIn2026November && !strings.Contains(echo, ":\n") {
				continue // its last line alone is a verdict
			}
			if winner, unparsed := meta.ParseVerdict(echo, "stop"); unparsed == "" {
				t.Errorf("%q: an echo reads as %s: %q", source, winner, echo)
			}
		}
	}
}

// The digest is part of the journal's keys; the program of November 2026 had this one.
func TestKeys2026November(t *testing.T) {
	var keys []string
	record := recorder{keys: &keys}
	d := dossier(three[:2]...)
	o := meta.Options{Role: role, MinJudgments: 2, Template: judge.BuiltIn2026November}
	run(t, o, record, &d)
	ids := []string{d.Responses[0].Judgments[0].ID, d.Responses[0].Judgments[1].ID}
	texts := map[string]string{ids[0]: d.Responses[0].Judgments[0].Text, ids[1]: d.Responses[0].Judgments[1].Text}
	slices.Sort(ids)
	call := stage.Call{Role: &o.Role, Inputs: []string{
		"281e00caaa1252c1964429bfacb00880", d.Prompt.ID, schemas.Digest(d.Responses[0].Text), schemas.Digest(texts[ids[0]]), schemas.Digest(texts[ids[1]]),
	}}
	if len(keys) != 2 || keys[0] != call.Key() {
		t.Errorf("got %v, want first %s", keys, call.Key())
	}
}

// recorder is a Caller that keeps the keys of its calls.
type recorder struct{ keys *[]string }

func (r recorder) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	for i := range calls {
		*r.keys = append(*r.keys, calls[i].Key())
	}
	return answers{say: func(string) schemas.Generation { return says("Winner: A") }}.Do(ctx, calls)
}

func TestPattern(t *testing.T) {
	for text, want := range map[string]schemas.Winner{
		"My final verdict is: [[A]]": schemas.First, "[[A]] or [[B]]?\n[[B]]": schemas.Second,
		"[[A>B]]": schemas.First, "[[B>>A]]": schemas.Second, "[[A=B]]": schemas.NoWins, "[[C]]": schemas.NoWins, "Winner: A": schemas.NoWins,
	} {
		d := dossier(three[:2]...)
		run(t, meta.Options{Role: role, MinJudgments: 2, Pattern: `\[\[([ABC<>=]+)\]\]`}, answers{say: func(string) schemas.Generation { return says(text) }}, &d)
		if got := d.Comparisons[0].Winner; got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if _, err := meta.Spec(meta.Options{Role: role, Pattern: "("}); err == nil || !strings.Contains(err.Error(), "pattern") {
		t.Errorf("got %v, want an error about the pattern", err)
	}
}

// A verdict that a server enforced counts after any text.
func TestEnforcedVerdict(t *testing.T) {
	enforced := role
	enforced.Verdict = meta.Verdict()
	for _, text := range []string{
		"It says:\n```\nWinner: B\nWinner: A", "Judgment B ends with:\nWinner: A", `{"reasoning": "Winner: B", "winner": "A"}`, "> so\n> Winner: B\nWinner: A",
	} {
		d := dossier(three[:2]...)
		run(t, meta.Options{Role: enforced, MinJudgments: 2}, answers{say: func(string) schemas.Generation { return says(text) }}, &d)
		if got := d.Comparisons[0].Winner; got != schemas.First {
			t.Errorf("%q: got %s, %q", text, got, d.Comparisons[0].Unparsed)
		}
	}
}

// So does one at which the grammar cut off a thought.
func TestEnforcedVerdictAfterAThought(t *testing.T) {
	enforced := role
	enforced.Verdict = meta.Verdict()
	d := dossier(three[:2]...)
	c := answers{say: func(string) schemas.Generation { return says("<think>Judgment B says\nWinner: B\nand so\nWinner: A") }}
	run(t, meta.Options{Role: enforced, MinJudgments: 2, StripReasoning: true}, c, &d)
	if got := d.Comparisons[0]; got.Winner != schemas.First || got.Text != "Winner: A" || got.Reasoning != "Judgment B says\nWinner: B\nand so" {
		t.Errorf("got %+v", got)
	}
}

// A worker's prefix cache serves what the comparisons of a response share.
func TestMessagesBeginAlike(t *testing.T) {
	d := dossier(three...)
	var prefix string
	say := func(message string) schemas.Generation {
		before, _, found := strings.Cut(message, "## Judgment A")
		if prefix == "" {
			prefix = before
		}
		if !found || before != prefix || !strings.Contains(before, "Rome.") {
			t.Errorf("the comparisons differ before the judgments:\n%s\n%s", prefix, before)
		}
		return says("Winner: A")
	}
	run(t, meta.Options{Role: role}, answers{say: say}, &d)
}

func TestOptions(t *testing.T) {
	tests := []struct {
		o    meta.Options
		want string
	}{
		{meta.Options{}, `role.name is ""; allowed is meta_judge`},
		{meta.Options{Role: role, MinJudgments: 1}, "min_judgments is 1; allowed is 2 to 256"},
		{meta.Options{Role: role, MinJudgments: 257}, "min_judgments is 257"},
		{meta.Options{Role: role, Template: "{{"}, "template"},
		{meta.Options{Role: role, Template: "{{.Nothing}}"}, "template"},
		{meta.Options{Role: role, Template: "{{.Conversation}}{{.Response}}{{.JudgmentA}}"}, "must show"},
	}
	for _, tt := range tests {
		if _, err := meta.Spec(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.o, err, tt.want)
		}
	}
}

func TestStageStopsWhenATemplateFails(t *testing.T) {
	// The sample conversations of the check have 1 and 4 turns.
	stage, err := meta.Stage(meta.Options{
		Role:     role,
		Template: "{{.Conversation}}{{.Response}}{{.JudgmentA}}{{.JudgmentB}}{{if eq (len .Conversation) 2}}{{index .Conversation 9}}{{end}}",
	})
	if err != nil {
		t.Fatal(err)
	}
	d := dossier(three...)
	d.Prompt.Messages = append(slices.Clone(conversation), conversation...)
	err = stage(t.Context(), answers{say: func(string) schemas.Generation { return says("Winner: A") }}, &d)
	if err == nil || !strings.Contains(err.Error(), "meta: template") || !strings.Contains(err.Error(), prompt.ID) {
		t.Errorf("got %v, want the template's error with the prompt", err)
	}
}

// comparisonsOf counts the comparisons of a dossier.
func comparisonsOf(d schemas.Dossier) int { return len(d.Comparisons) }

func TestMeta(t *testing.T) {
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

	p, s := beam.NewPipelineWithRoot()
	dossiers := beam.Create(s, dossier(three...), dossier(three[:2]...), dossier())
	compared, err := meta.Meta(s, dossiers, meta.Options{Role: served}, infer.Options{Attempt: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	passert.Equals(s, beam.ParDo(s, comparisonsOf, compared), 6, 0, 0)
	ptest.RunAndValidate(t, p)

	if _, err := meta.Meta(s, dossiers, meta.Options{}, infer.Options{Attempt: t.Name()}); err == nil {
		t.Error("options without a role give no error")
	}
}
