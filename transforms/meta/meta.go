// Package meta requests the meta-judge's comparisons of the judgments of the contested response.
//
// Every ordered pair of distinct parsed judgments is one comparison. For n judgments these are n(n−1)
// comparisons: every pair in both orders. With [Options.HideScores], pairs that are shown with the same texts
// share one call. Under a budget ([Options.Budget]) the stage works in rounds, the most informative pairs
// first. It stops when the judge pair is settled, the bound is reached or no pair is left. The pairs of a round
// are a function of the options, of the prompt and of its earlier answers.
//
// The meta-judge sees the rubric, the conversation, the response, judgment A and judgment B. It ends
// with "Winner: A" or "Winner: B"; parser.parse reads this verdict.
//
// The package promises:
//
//   - Every comparison names the IDs of its two judgments in the order in which they were shown. A
//     verdict is assigned to judgments by their IDs, never by an index in a list.
//   - A call that fails for good becomes an entry of Dossier.Failures with the two judgments, and leaves no
//     comparison.
package meta

import (
	"context"
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/prompting"
	"coeval/transforms/rating"
	"coeval/transforms/stage"
)

func init() {
	stage.Register(schemas.StageMeta, decodeStage)
}

// Options configure the meta-judge and its prompt.
type Options struct {
	// Role is the meta-judge. Required.
	Role stage.Role `json:"role"`
	// MinJudgments is the least number of distinct parsed judgments of the contested response, 2 to
	// 256. With fewer there are no comparisons. Zero means 3.
	MinJudgments int `json:"min_judgments"`
	// HideScores takes the score lines out of the judgments that are shown, so that the
	// meta-judge can't prefer a high score as such. Zero means that they are shown.
	HideScores bool `json:"hide_scores"`
	// StripReasoning removes reasoning from a comparison before it is parsed. Zero means that
	// they stay in the text.
	StripReasoning bool `json:"strip_reasoning"`
	// Template is the source of a text/template that shows .Conversation or .Question, .Response,
	// .JudgmentA and .JudgmentB, or the name of a built-in one. Empty means [judge.BuiltIn].
	Template string `json:"template,omitempty"`
	// Rubric is what .Rubric shows. Empty means the built-in rubric.
	Rubric string `json:"rubric,omitempty"`
	// Pattern is a regular expression whose one group is the verdict, in its last match in a
	// comparison. Empty means that a verdict line is read.
	Pattern string `json:"pattern,omitempty"`
	// Budget is the rule by which comparisons are requested in rounds until the selection is settled.
	// Nil means that all are requested at once.
	Budget *rating.Policy `json:"budget,omitempty"`
	// Scale and ScorePattern are the judge's, which HideScores needs.
	Scale        points.Scale `json:"scale,omitzero"`
	ScorePattern string       `json:"score_pattern,omitempty"`
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
	if o.Budget != nil {
		if err := o.Budget.Validate(); err != nil {
			return fmt.Errorf("meta: budget: %w", err)
		}
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

// Stage returns the stage that compares the judgments of the contested response: all pairs at
// once, or in rounds under a budget. It returns an error if o is invalid.
func Stage(o Options) (stage.Stage, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	t, err := parseTemplate(o)
	if err != nil {
		return nil, err
	}
	parser, err := o.parser()
	if err != nil {
		return nil, err
	}
	scores, err := judge.Options{Scale: o.Scale, Pattern: o.ScorePattern}.Parser()
	if err != nil {
		return nil, err
	}
	return (&comparing{Options: o, template: t, parser: parser, scores: scores}).compare, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("meta: options: %w", err)
	}
	return Stage(o)
}

// comparing is the stage: the options with the template and the parsers that they come to.
type comparing struct {
	Options

	template *comparisonTemplate
	parser   *parser
	scores   *points.Parser
}

// shownJudgment is a judgment as the meta-judge sees it.
type shownJudgment struct {
	id, digest string
	text       prompting.Text
}

func (s *comparing) shown(r *schemas.Response) []shownJudgment {
	var shown []shownJudgment
	for _, j := range r.DistinctJudgments() {
		text := j.Text
		if s.HideScores {
			text = s.scores.Hide(text)
		}
		shown = append(shown, shownJudgment{id: j.ID, digest: schemas.Digest(text), text: prompting.Text{Name: "judgment", Text: text}})
	}
	return shown
}

func (s *comparing) compare(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
	d.Comparisons, d.Asking = nil, nil
	contested := d.Contested()
	if contested == nil {
		return nil
	}
	shown := s.shown(contested)
	if len(shown) < s.MinJudgments {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a := &asking{
		comparing: s, dossier: d, caller: c, stop: stop, said: map[[2]string]schemas.Generation{},
		common: comparisonContext{
			prompt: &d.Prompt, conversation: prompting.NewConversation(d.Prompt.Messages),
			response: shownJudgment{id: contested.ID, digest: schemas.Digest(contested.Text), text: prompting.Text{Name: "response", Text: contested.Text}},
		},
	}
	if s.Budget == nil {
		return a.ask(ctx, orderedPairs(shown), 0)
	}
	return a.untilSettled(ctx, contested, shown)
}

// asking is the comparisons of one dossier while they are made.
type asking struct {
	*comparing

	dossier *schemas.Dossier
	caller  stage.Caller
	stop    context.CancelCauseFunc
	common  comparisonContext
	// said maps two digests of judgments to the answer: judgments with equal shown texts are compared
	// once.
	said map[[2]string]schemas.Generation
}

func alike(p pair) [2]string { return [2]string{p.first.digest, p.second.digest} }

// ask makes the comparisons of these pairs concurrently and adds them to the dossier.
func (a *asking) ask(ctx context.Context, pairs []pair, round int) error {
	var calls []stage.Call
	var digests [][2]string
	for _, p := range pairs {
		if _, ok := a.said[alike(p)]; !ok {
			a.said[alike(p)] = schemas.Generation{} // until the answer has arrived
			digests = append(digests, alike(p))
			calls = append(calls, a.call(&a.common, p, a.stop))
		}
	}
	said, err := stage.Do(ctx, a.caller, calls)
	if err != nil {
		return err
	}
	for i, digest := range digests {
		a.said[digest] = said[i][0]
	}
	for _, p := range pairs {
		a.read(a.dossier, p, a.said[alike(p)], round)
	}
	return nil
}

// pair is two judgments in the order in which they are shown.
type pair struct{ first, second shownJudgment }

// orderedPairs returns the n(n−1) pairs, sorted by first and second ID as the judgments are.
func orderedPairs(shown []shownJudgment) []pair {
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

// comparisonContext contains the common data of a dossier's comparisons.
type comparisonContext struct {
	prompt       *schemas.Prompt
	conversation *prompting.Conversation
	response     shownJudgment
}

// call returns the call for one comparison. A template that fails stops the stage.
func (s *comparing) call(c *comparisonContext, p pair, stop context.CancelCauseFunc) stage.Call {
	inputs := []string{s.template.rendering.Digest, c.prompt.ID, c.response.digest, p.first.digest, p.second.digest}
	if s.template.asksMetadata {
		inputs = append(inputs, schemas.Digest(c.prompt.Metadata))
	}
	return stage.Call{
		Role: &s.Role, Stage: schemas.StageMeta, PromptID: c.prompt.ID, N: 1, Inputs: inputs,
		Messages: func() []schemas.Message {
			data := s.template.data(c.conversation, c.prompt.Metadata, c.response.text, p.first.text, p.second.text)
			messages, err := s.template.rendering.Render(data)
			if err != nil {
				stop(fmt.Errorf("prompt %s: %w", c.prompt.ID, err))
			}
			return messages
		},
	}
}

// read parses an answer about two judgments into a comparison.
func (s *comparing) read(d *schemas.Dossier, p pair, g schemas.Generation, round int) {
	if g.Code != "" {
		d.Fail(schemas.StageMeta, 0, g, schemas.Failure{ResponseID: d.ContestedID, FirstID: p.first.id, SecondID: p.second.id})
		return
	}
	if s.Role.Read != nil {
		d.Comparisons = append(d.Comparisons, s.readOf(p, &g, round))
		return
	}
	text, reasoning, cut := s.Role.ReadText(g, s.StripReasoning)
	finish := g.FinishReason
	if cut {
		finish = stage.FinishLength
	}
	winner, unparsed := s.parser.parse(text, finish)
	d.Comparisons = append(d.Comparisons, schemas.Comparison{
		ID:      schemas.ComparisonID(p.first.id, p.second.id, s.Role.Identity()),
		FirstID: p.first.id, SecondID: p.second.id,
		Text: text, Reasoning: reasoning,
		Winner: winner, Unparsed: unparsed,
		PromptTokens: g.PromptTokens,
		Round:        round,
	})
}

// readOf turns the probabilities of the labels into a comparison. Its winner is the likelier one.
func (s *comparing) readOf(p pair, g *schemas.Generation, round int) schemas.Comparison {
	read := s.Role.Read.Value(g, readValues)
	c := schemas.Comparison{
		ID:      schemas.ComparisonID(p.first.id, p.second.id, s.Role.Identity()),
		FirstID: p.first.id, SecondID: p.second.id, Text: g.Text, Reasoning: g.Reasoning,
		Winner: schemas.NoWins, Unparsed: read.Unparsed, Read: &read, PromptTokens: g.PromptTokens, Round: round,
	}
	switch {
	case read.Unparsed != "":
	case 2*read.ValueMicros > schemas.ReadUnit:
		c.Winner = schemas.First
	case 2*read.ValueMicros < schemas.ReadUnit:
		c.Winner = schemas.Second
	}
	return c
}
