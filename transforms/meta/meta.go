// Package meta asks the meta-judge to compare the judgments of the contested response.
//
// Every ordered pair of distinct parsed judgments is one call: n(n−1) comparisons of n
// judgments, so that each two are shown in both orders. The meta-judge sees the rubric, the
// conversation, the response, judgment A and judgment B, and ends with "Winner: A" or
// "Winner: B"; see [ParseVerdict].
//
// It promises that every comparison names the two judgments that it is about, in the order
// in which they were shown, and that a call which failed for good is a failure of the dossier
// that names them and leaves no comparison. No verdict is ever told by its place in a list.
package meta

import (
	"context"
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/prompting"
	"coeval/transforms/stage"
)

func init() {
	stage.Register(schemas.StageMeta, decodeStage)
}

// Options say who compares, and what is shown.
type Options struct {
	// Role is the meta-judge. Required.
	Role stage.Role `json:"role"`
	// MinJudgments is how many distinct parsed judgments the contested response needs, 2 to
	// 256; with fewer nothing is compared. Zero means 3.
	MinJudgments int `json:"min_judgments"`
	// HideScores takes the score lines out of the judgments that are shown, so that the
	// meta-judge can't prefer a high score as such. Zero means that they are shown.
	HideScores bool `json:"hide_scores"`
	// StripReasoning takes thoughts out of a comparison before it is parsed. Zero means that
	// they stay in the text.
	StripReasoning bool `json:"strip_reasoning"`
	// Template is the source of a text/template that shows .Rubric, each of .Conversation,
	// .Response, .JudgmentA and .JudgmentB. Empty means the built-in one.
	Template string `json:"template,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.MinJudgments == 0 {
		o.MinJudgments = 3
	}
	return o
}

func (o Options) validate() error {
	if o.Role.Name != schemas.RoleMetaJudge {
		return fmt.Errorf("meta: role.name is %q; allowed is %s", o.Role.Name, schemas.RoleMetaJudge)
	}
	if o.MinJudgments < 2 || o.MinJudgments > 256 {
		return fmt.Errorf("meta: min_judgments is %d; allowed is 2 to 256", o.MinJudgments)
	}
	return nil
}

// Spec returns the stage with its options, for a chain. It returns an error if o is invalid.
func Spec(o Options) (stage.Spec, error) {
	if _, err := Stage(o); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(schemas.StageMeta, o)
}

// Stage returns the stage that compares the judgments of the contested response, all pairs
// asked for at once. It returns an error if o is invalid.
func Stage(o Options) (stage.Stage, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	t, err := parseTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	return (&bench{Options: o, template: t}).compare, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("meta: options: %w", err)
	}
	return Stage(o)
}

// bench is where the meta-judge sits: the options, and the template parsed once.
type bench struct {
	Options

	template *prompting.Template
}

// exhibit is a judgment as the meta-judge sees it.
type exhibit struct {
	id, digest string
	text       prompting.Text
}

func (b *bench) exhibits(r *schemas.Response) []exhibit {
	var shown []exhibit
	for _, j := range r.DistinctJudgments() {
		text := j.Text
		if b.HideScores {
			text = judge.HideScore(text)
		}
		shown = append(shown, exhibit{id: j.ID, digest: schemas.Digest(text), text: prompting.New("judgment", text)})
	}
	return shown
}

func (b *bench) compare(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
	d.Comparisons = nil
	contested := d.Contested()
	if contested == nil {
		return nil
	}
	shown := b.exhibits(contested)
	if len(shown) < b.MinJudgments {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	common := docket{
		promptID: d.Prompt.ID, turns: prompting.Conversation(d.Prompt.Messages),
		response: exhibit{id: contested.ID, digest: schemas.Digest(contested.Text), text: prompting.New("response", contested.Text)},
	}
	var calls []stage.Call
	callOf := map[[2]string]int{} // judgments that are shown alike are compared once
	for _, p := range orderedPairs(shown) {
		alike := [2]string{p.first.digest, p.second.digest}
		if _, ok := callOf[alike]; !ok {
			callOf[alike] = len(calls)
			calls = append(calls, b.call(&common, p, stop))
		}
	}
	said, err := c.Do(ctx, calls)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	for _, p := range orderedPairs(shown) {
		b.read(d, p, said[callOf[[2]string{p.first.digest, p.second.digest}]][0])
	}
	return nil
}

// pair is two judgments in the order in which they are shown.
type pair struct{ first, second exhibit }

// orderedPairs returns the n(n−1) pairs, sorted by first and second ID as the exhibits are.
func orderedPairs(shown []exhibit) []pair {
	pairs := make([]pair, 0, len(shown)*len(shown))
	for i, first := range shown {
		for k, second := range shown {
			if i != k {
				pairs = append(pairs, pair{first, second})
			}
		}
	}
	return pairs
}

// docket is what the comparisons of a dossier have in common.
type docket struct {
	promptID string
	turns    []prompting.Text
	response exhibit
}

// call asks for one comparison. A template that fails stops the stage.
func (b *bench) call(d *docket, p pair, stop context.CancelCauseFunc) stage.Call {
	return stage.Call{
		Role: &b.Role, Stage: schemas.StageMeta, PromptID: d.promptID, N: 1,
		Inputs: []string{b.template.Digest, d.promptID, d.response.digest, p.first.digest, p.second.digest},
		Messages: func() []schemas.Message {
			messages, err := b.template.Render(newSheet(d.turns, d.response.text, p.first.text, p.second.text))
			if err != nil {
				stop(fmt.Errorf("prompt %s: %w", d.promptID, err))
			}
			return messages
		},
	}
}

// read turns what was said about two judgments into a comparison.
func (b *bench) read(d *schemas.Dossier, p pair, g schemas.Generation) {
	if g.Code != "" {
		d.Fail(schemas.StageMeta, 0, g, schemas.Failure{ResponseID: d.ContestedID, FirstID: p.first.id, SecondID: p.second.id})
		return
	}
	text, reasoning, cut := stage.ReadText(g, b.StripReasoning)
	finish := g.FinishReason
	if cut {
		finish = stage.FinishLength
	}
	winner, unparsed := ParseVerdict(text, finish)
	d.Comparisons = append(d.Comparisons, schemas.Comparison{
		ID:      schemas.ComparisonID(p.first.id, p.second.id, b.Role.Identity()),
		FirstID: p.first.id, SecondID: p.second.id,
		Text: text, Reasoning: reasoning,
		Winner: winner, Unparsed: unparsed,
		PromptTokens: g.PromptTokens,
	})
}
