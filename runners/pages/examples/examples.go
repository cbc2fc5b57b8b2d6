// Package examples picks the pairs of a run that a person should read, and marks where the texts of a pair
// differ.
package examples

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sergi/go-diff/diffmatchpatch"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// The number of characters of a text that the page shows.
const maxText, maxPrompt = 4000, 1500

// A Group is pairs of one role with something in common.
type Group struct {
	Role, Title string
	Pairs       []Example
}

// An Example is a pair to read.
type Example struct {
	PromptID string
	// Prompt is the conversation. Response is the response of both judgments, nil for an actor pair.
	Prompt           Text
	Response         *Text
	Chosen, Rejected Text
	Pair             *schemas.Pair
}

// A Text is shown in spans. In the middle of a long text the page leaves characters out: the end of a
// judgment is its score.
type Text struct {
	Spans []Span
	// Left is the number of characters left out between Spans and End.
	Left int
	End  []Span
}

// A Span is marked where the other text of a pair differs.
type Span struct {
	Text   string
	Marked bool
}

// Read picks pairs to read from the tables: the widest and the narrowest margins, and
// the longest chosen text.
func Read(ctx context.Context, r *runs.Run) ([]Group, error) {
	var groups []Group
	for _, t := range []struct {
		role  string
		table shards.Table
	}{{schemas.RoleActor, shards.Actor}, {schemas.RoleJudge, shards.Judge}} {
		if !r.Settings.Wants(t.role) {
			continue
		}
		picks := newPicks()
		err := runs.EachRow[schemas.Pair](ctx, r, t.table, func(p *schemas.Pair) error {
			for i := range picks {
				picks[i].offer(p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		asked, err := readAsked(ctx, r, picks)
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, pick := range picks {
			group := Group{Role: t.role, Title: pick.title}
			for _, p := range pick.best {
				if !seen[p.ID] {
					seen[p.ID] = true
					group.Pairs = append(group.Pairs, newExample(p, asked))
				}
			}
			if len(group.Pairs) > 0 {
				groups = append(groups, group)
			}
		}
	}
	return groups, nil
}

// askedPrompt and askedResponse are the subject of judgments.
type askedPrompt struct {
	ID     string            `parquet:"id"`
	Prompt []schemas.Message `parquet:"prompt,list"`
}

type askedResponse struct {
	ID   string `parquet:"id"`
	Text string `parquet:"text"`
}

// readAsked returns, by their IDs, the conversations and the contested responses of the judge pairs
// among picks: the prompt of a judge pair begins with the rubric, which is the same in all.
func readAsked(ctx context.Context, r *runs.Run, picks []pick) (map[string]string, error) {
	texts, wanted := map[string]string{}, map[int]bool{}
	for _, pick := range picks {
		for _, p := range pick.best {
			if p.ResponseID != nil {
				texts[p.PromptID], texts[*p.ResponseID] = "", ""
				wanted[schemas.Shard(p.PromptID, r.Shards)] = true
			}
		}
	}
	for shard := range wanted {
		err := runs.EachShardRow[schemas.PromptRow](ctx, r, shards.Prompts, shard, func(p *askedPrompt) error {
			if _, ok := texts[p.ID]; ok {
				texts[p.ID] = conversation(p.Prompt)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = runs.EachShardRow[schemas.ResponseRow](ctx, r, shards.Responses, shard, func(a *askedResponse) error {
			if _, ok := texts[a.ID]; ok {
				texts[a.ID] = a.Text
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// A pick keeps the best pairs by an order.
type pick struct {
	title string
	most  int
	order func(a, b *schemas.Pair) int
	// only selects pairs; nil means all.
	only func(*schemas.Pair) bool
	best []*schemas.Pair
}

func newPicks() []pick {
	margin := func(a, b *schemas.Pair) int { return cmp.Compare(a.ScoreMargin, b.ScoreMargin) }
	return []pick{
		{title: "Widest margins", most: 2, order: func(a, b *schemas.Pair) int { return margin(b, a) }},
		{title: "Narrowest margins", most: 2, order: func(a, b *schemas.Pair) int {
			return cmp.Compare(math.Abs(a.ScoreMargin), math.Abs(b.ScoreMargin))
		}},
		// A judgment may win with the lower score: the meta-judge preferred its reasoning.
		{title: "Lower score chosen", most: 1, order: margin, only: func(p *schemas.Pair) bool { return p.ScoreMargin < 0 }},
		{title: "Longest chosen", most: 1, order: func(a, b *schemas.Pair) int { return cmp.Compare(b.ChosenChars, a.ChosenChars) }},
	}
}

// offer takes a pair that is among the best, of equals the one with the lower ID.
func (p *pick) offer(pair *schemas.Pair) {
	if p.only != nil && !p.only(pair) {
		return
	}
	order := func(a, b *schemas.Pair) int { return cmp.Or(p.order(a, b), cmp.Compare(a.ID, b.ID)) }
	at, _ := slices.BinarySearchFunc(p.best, pair, order)
	if at >= p.most {
		return
	}
	p.best = slices.Insert(p.best, at, pair)
	if len(p.best) > p.most {
		p.best = p.best[:p.most]
	}
}

func newExample(p *schemas.Pair, asked map[string]string) Example {
	e := Example{PromptID: p.PromptID, Pair: p}
	chosen, rejected := contents(p.Chosen), contents(p.Rejected)
	if p.ResponseID == nil {
		e.Chosen, e.Rejected = newText(chosen, maxText), newText(rejected, maxText)
		e.Prompt = newText(conversation(p.Prompt), maxPrompt)
		return e
	}
	e.Chosen, e.Rejected = differing(chosen, rejected)
	e.Prompt = newText(asked[p.PromptID], maxPrompt)
	response := newText(asked[*p.ResponseID], maxPrompt)
	e.Response = &response
	return e
}

func contents(messages []schemas.Message) string {
	parts := make([]string, len(messages))
	for i, m := range messages {
		parts[i] = m.Content
	}
	return strings.Join(parts, "\n\n")
}

// conversation names the roles where there is more than one turn.
func conversation(messages []schemas.Message) string {
	if len(messages) == 1 {
		return messages[0].Content
	}
	parts := make([]string, len(messages))
	for i, m := range messages {
		parts[i] = fmt.Sprintf("%s: %s", m.Role, m.Content)
	}
	return strings.Join(parts, "\n\n")
}

func newText(s string, most int) Text {
	head, left, end := cutMiddle(s, most)
	t := Text{Spans: []Span{{Text: sanitize.Text(head)}}, Left: left}
	if left > 0 {
		t.End = []Span{{Text: sanitize.Text(end)}}
	}
	return t
}

// endChars is how much of the end of a long text is shown.
const endChars = 300

// cutMiddle returns the beginning and the end of a text of more than most characters, with the number of
// characters between them.
func cutMiddle(s string, most int) (head string, left int, end string) {
	all := utf8.RuneCountInString(s)
	if all <= most {
		return s, 0, ""
	}
	head, _ = sanitize.Cut(s, most-endChars)
	before, _ := sanitize.Cut(s, all-endChars)
	return head, all - most, s[len(before):]
}

// differing marks the words in which two texts differ. If more than half of a text differs, marks are
// useless and omitted.
func differing(a, b string) (left, right Text) {
	headA, leftA, endA := cutMiddle(a, maxText)
	headB, leftB, endB := cutMiddle(b, maxText)
	left.Left, right.Left = leftA, leftB
	left.Spans, right.Spans = markDifferences(sanitize.Text(headA), sanitize.Text(headB))
	if leftA > 0 {
		left.End = []Span{{Text: sanitize.Text(endA)}}
	}
	if leftB > 0 {
		right.End = []Span{{Text: sanitize.Text(endB)}}
	}
	return left, right
}

// maxMarked is the share of a text above which its marks are left out.
const maxMarked = 0.5

func markDifferences(a, b string) (left, right []Span) {
	wordsA, wordsB := words(a), words(b)
	known := map[string]rune{}
	var names []string
	encode := func(list []string) []rune {
		out := make([]rune, len(list))
		for i, word := range list {
			if _, ok := known[word]; !ok {
				known[word] = rune(len(names)) + 1
				names = append(names, word)
			}
			out[i] = known[word]
		}
		return out
	}
	differ := diffmatchpatch.New()
	differ.DiffTimeout = 0 // a clock must not decide which words are marked
	marked := [2]int{}
	// The clean-up drops short matches between differences, which are matches by chance.
	for _, d := range differ.DiffCleanupSemantic(differ.DiffMainRunes(encode(wordsA), encode(wordsB), false)) {
		var b strings.Builder
		for _, r := range d.Text {
			b.WriteString(names[r-1])
		}
		s := Span{Text: b.String(), Marked: d.Type != diffmatchpatch.DiffEqual && strings.TrimSpace(b.String()) != ""}
		if d.Type != diffmatchpatch.DiffInsert {
			left = append(left, s)
		}
		if d.Type != diffmatchpatch.DiffDelete {
			right = append(right, s)
		}
		if s.Marked && d.Type == diffmatchpatch.DiffDelete {
			marked[0] += len(s.Text)
		} else if s.Marked {
			marked[1] += len(s.Text)
		}
	}
	if float64(marked[0]) > maxMarked*float64(len(a)) || float64(marked[1]) > maxMarked*float64(len(b)) {
		return []Span{{Text: a}}, []Span{{Text: b}}
	}
	return left, right
}

// words cuts a text before each word, so that the parts together are the text.
func words(s string) []string {
	var out []string
	start, space := 0, true
	for i, r := range s {
		blank := unicode.IsSpace(r)
		if space != blank && i > start {
			out = append(out, s[start:i])
			start = i
		}
		space = blank
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}
