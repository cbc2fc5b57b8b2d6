package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"coeval/datasets/shards"
	"coeval/datasets/shards/shardstest"
	"coeval/runners/dossiers"
	"coeval/runners/estimate"
	"coeval/runners/plain"
	"coeval/schemas"
	"coeval/transforms/sink"
)

// hostile stands in every text of the run.
const hostile = `<script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`" + `{{.Out}} javascript:alert(1) </style></textarea><!-- ` +
	"\x1b[31mred\x1b]0;title\x07\x00\u009b \u202etxet\u2066\u200f\ufeff \u2028 \U000e0041"

// hostileRun writes a run of two prompts in which every text is bad, one of them of 1 MB.
func hostileRun(t *testing.T) *dossiers.Run {
	t.Helper()
	out := filepath.Join(t.TempDir(), "<b>out")
	long := hostile + strings.Repeat("w", 1<<20)
	said := func(text string) []schemas.Message { return []schemas.Message{{Role: "user", Content: text}} }
	pair := func(id, text string, elo *float64) schemas.Pair {
		var response *string
		if elo != nil {
			response = new("r1")
		}
		return schemas.Pair{
			ResponseID: response, ID: id, PromptID: "p" + id, Prompt: said(text), Chosen: said("chosen " + text), Rejected: said("rejected " + text),
			ChosenScore: 4, RejectedScore: 3, ScoreMargin: 1, ChosenChars: 1 << 20, RejectedChars: 1 << 20, ChosenElo: elo, RejectedElo: elo, Metadata: hostile,
		}
	}
	shardstest.WriteFile(t, out, shards.Actor, []schemas.Pair{pair("1", hostile, nil), pair("2", long, nil)}...)
	shardstest.WriteFile(t, out, shards.Judge, []schemas.Pair{pair("1", hostile, new(1.0)), pair("2", long, new(1.0))}...)
	shardstest.WriteFile(t, out, shards.Prompts, []schemas.PromptRow{
		{ID: "p1", Prompt: said(hostile), SourceFile: hostile, Metadata: hostile, ActorReason: new(hostile), ContestedResponseID: new("r1")},
		{ID: "p2", Prompt: said(long), SourceFile: hostile, Metadata: hostile},
	}...)
	shardstest.WriteFile(t, out, shards.Responses, []schemas.ResponseRow{
		{ID: "r1", PromptID: "p1", Model: hostile, Text: hostile, Status: "complete", Chars: 10, ParsedJudgments: 2, ScoreMean: new(4.0), ScoreVariance: new(1.0)},
		{ID: "r2", PromptID: "p1", Model: hostile, Text: long, Status: "complete", Chars: 20, ParsedJudgments: 2, ScoreMean: new(3.0), ScoreVariance: new(0.0)},
		{ID: "r3", PromptID: "p2", Model: hostile, Text: long, Status: hostile, Chars: 1 << 20},
	}...)
	shardstest.WriteFile(t, out, shards.Judgments, []schemas.JudgmentRow{
		{ID: "j1", PromptID: "p1", ResponseID: "r1", Model: hostile, Text: hostile, Score: new(5.0), Distinct: true, Elo: new(0.5)},
		{ID: "j2", PromptID: "p1", ResponseID: "r1", Model: hostile, Text: long, Score: new(3.0), Distinct: true, Elo: new(-0.5)},
		{ID: "j3", PromptID: "p1", ResponseID: "r2", Model: hostile, Text: hostile, Score: new(3.0), Distinct: true},
		{ID: "j4", PromptID: "p1", ResponseID: "r2", Model: hostile, Text: hostile, Score: new(3.0)},
		{ID: "j5", PromptID: "p1", ResponseID: "r2", Model: hostile, Text: hostile, UnparsedReason: new(hostile)},
	}...)
	shardstest.WriteFile(t, out, shards.Comparisons, []schemas.ComparisonRow{
		{ID: "c1", PromptID: "p1", ResponseID: "r1", FirstID: "j1", SecondID: "j2", Model: hostile, Text: hostile, Winner: "first"},
		{ID: "c2", PromptID: "p1", ResponseID: "r1", FirstID: "j2", SecondID: "j1", Model: hostile, Text: long, Winner: "none", UnparsedReason: new(hostile)},
	}...)
	shardstest.WriteFile(t, out, shards.Failures, []schemas.FailureRow{
		{Stage: hostile, Code: hostile, Message: long, SourceFile: new(hostile), SourceLine: new(int64(1))},
		{Stage: "judge", Code: hostile, Message: long, PromptID: new("p1"), ResponseID: new("r1"), Replicate: new(int32(1))},
	}...)
	run := schemas.Run{
		Format: schemas.RunFormat,
		Config: json.RawMessage(fmt.Sprintf(`{"roles":["actor","judge"],"actor":{"role":{"model":%[1]q}},"judge":{"role":{"model":%[1]q}},"meta_judge":{"role":{"model":%[1]q}}}`, "<script>m")),
		Ledger: schemas.Ledger{Lines: 3, Bad: 1, Findings: 2, Roles: map[string]schemas.Outcomes{
			"actor": {Paired: 1, Dropped: map[string]int64{hostile: 1}, Failed: map[string]int64{hostile: 1}}, "judge": {Paired: 2},
		}},
		Stats: schemas.Stats{FailedCalls: map[string]map[string]int64{"judge": {hostile: 3}}, Actor: schemas.ActorPairStats{Pairs: 1}},
		Files: []schemas.File{{Path: shards.Path(shards.Prompts, 0, 1)}},
	}
	writeJSON(t, filepath.Join(out, sink.RunFile), run)
	writeJSON(t, filepath.Join(out, sink.OperationsFolder, "a.json"), attempt{
		Attempt: hostile, Runner: hostile, Version: hostile, SlotUse: new(0.5), SlotUseOf: hostile, Warnings: []string{hostile},
		Calls: map[string]schemas.CallTally{"judge": {Generations: 1}, hostile: {Generations: 5}},
	})
	r, err := dossiers.Open(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writeJSON[T any](t *testing.T, name string, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The elements and attributes that the page is made of: what else is on it came from a text.
var (
	elements        = set("html head meta link title style body header h1 p code nav a main section h2 h3 h4 b dl div dt dd ul li figure figcaption span table thead tbody tr th td article mark footer svg g path text i br")
	plainAttributes = set("lang charset name content http-equiv rel href id class tabindex role aria-label dir data-label viewbox style d transform x y")
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

func TestHostileTexts(t *testing.T) {
	r := hostileRun(t)
	_, name, err := Write(t.Context(), r, Options{Prices: estimate.Prices{PromptTokens: 1, GPUHour: 2}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(page) {
		t.Error("the page is no UTF-8")
	}
	for _, acts := range []string{"\x1b", "\x07", "\x00", "\u009b", "\u202e", "\u2066", "\u200f", "\ufeff", "\u2028", "\U000e0041"} {
		if bytes.Contains(page, []byte(acts)) {
			t.Errorf("the page has the character %U in it", []rune(acts)[0])
		}
	}
	// Of each 1 MB text the page has the beginning, and 10 pairs of at most 4 texts are shown.
	if most := 10*4*(2*mostText) + 1<<18; len(page) > most {
		t.Errorf("the page has %d bytes, want at most %d", len(page), most)
	}
	for _, want := range []string{"␛[31mred", "⟨U&#43;202E⟩", "&lt;script&gt;alert(1)", "more characters"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
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
}

// The same run gives the same page.
func TestSamePage(t *testing.T) {
	r := hostileRun(t)
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

// A run without operations/ has a page that says so; prices are not asked for what is not known.
func TestWithoutOperations(t *testing.T) {
	r := hostileRun(t)
	if err := os.RemoveAll(filepath.Join(r.Dir, sink.OperationsFolder)); err != nil {
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
	if !bytes.Contains(page, []byte("nothing is known of the attempts")) {
		t.Error("the page doesn't say that operations/ is not there")
	}
}

func TestDiffering(t *testing.T) {
	a, b := differing("The answer is good. Score: 4", "The answer is very good. Score: 2")
	if got, want := marked(a), "The answer is good. Score: [4]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Which of the blanks belongs to the word more is the diff's choice.
	if got, want := marked(b), "The answer is [very ]good. Score: [2]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Marked or not, the spans together are the text.
func FuzzDiffering(f *testing.F) {
	f.Add("a b c", "a x c")
	f.Add("", "only one")
	f.Add("\x1b one  two\n", "one\ttwo \u202e\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		left, right := differing(a, b)
		for _, c := range []struct {
			shown text
			said  string
		}{{left, a}, {right, b}} {
			var got strings.Builder
			for _, s := range c.shown.Spans {
				got.WriteString(s.Text)
			}
			head, cut := plain.Cut(c.said, mostText)
			if want := plain.Text(head); got.String() != want || c.shown.Left != cut {
				t.Errorf("%q is shown as %q with %d left", c.said, got.String(), c.shown.Left)
			}
		}
	})
}

func marked(t text) string {
	var b strings.Builder
	for _, s := range t.Spans {
		if s.Marked {
			fmt.Fprintf(&b, "[%s]", s.Text)
		} else {
			b.WriteString(s.Text)
		}
	}
	return b.String()
}

func TestLabels(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1 + 0.2: "0.3", -200: "−200", 2.5: "2.5", 4000: "4,000", -1234567: "−1,234,567"} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestPicks(t *testing.T) {
	picks := newPicks()
	for _, p := range []schemas.Pair{
		{ID: "a", ScoreMargin: 2, ChosenChars: 5},
		{ID: "b", ScoreMargin: -3},
		{ID: "c", ScoreMargin: 0.5},
		{ID: "d", ScoreMargin: 3},
		{ID: "e", ScoreMargin: 2, ChosenChars: 9},
		{ID: "f", ScoreMargin: -0.5},
		{ID: "g", ScoreMargin: 1},
	} {
		for k := range picks {
			picks[k].offer(&p)
		}
	}
	got := map[string]string{}
	for _, pick := range picks {
		for _, p := range pick.best {
			got[pick.title] += p.ID
		}
	}
	// Of equals the lower ID: a before e, c before f.
	want := map[string]string{"Widest margins": "da", "Narrowest margins": "cf", "Lower score chosen": "b", "Longest chosen": "e"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
