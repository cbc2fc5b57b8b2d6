// Package pairwise requests verdicts of a judge on two answers to a prompt.
//
// A dossier has two responses: the first belongs to side A, the second to side B. Both orders are shown
// to the judge, each as many times as there are replicates. The judge gives its reasons and ends with a
// verdict; see [ParseVerdict].
//
// Every comparison names its replicate, and the two responses in the order in which they were shown. A
// call that fails for good becomes an entry of Dossier.Failures and leaves no comparison. Equal, empty and
// cut-off answers are compared like all others, because a user would get these answers too.
package pairwise

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/prompting"
	"coeval/transforms/stage"
)

func init() {
	stage.Register(schemas.StagePairwise, decodeStage)
}

// Scale is the set of verdicts that the judge may give.
type Scale string

// The scales.
const (
	// Five has A>>B, A>B, A=B, B>A and B>>A.
	Five Scale = "five"
	// Two has A and B.
	Two Scale = "two"
)

// choices are shown by the built-in template.
func (s Scale) choices() string {
	if s == Two {
		return "A or B"
	}
	return "A>>B, A>B, A=B, B>A or B>>A"
}

// Options configure the judge and its comparisons.
type Options struct {
	// Role is the judge. Required.
	Role stage.Role `json:"role"`
	// Scale is the set of verdicts. Empty means five.
	Scale Scale `json:"scale,omitempty"`
	// Replicates is the number of verdicts on each order, 1 to 64. Zero means 1.
	Replicates int `json:"replicates"`
	// StripReasoning removes reasoning from a text before its verdict is parsed. Zero means that
	// they stay.
	StripReasoning bool `json:"strip_reasoning"`
	// Template is the source of a text/template that shows each of .Conversation, .AnswerA and
	// .AnswerB. It may show .Choices, the verdicts of the scale. Empty means the built-in one.
	Template string `json:"template,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.Scale == "" {
		o.Scale = Five
	}
	if o.Replicates == 0 {
		o.Replicates = 1
	}
	return o
}

func (o Options) validate() error {
	if o.Role.Name != schemas.RolePairwise {
		return fmt.Errorf("pairwise: role.name is %q; allowed is %s", o.Role.Name, schemas.RolePairwise)
	}
	if o.Scale != Five && o.Scale != Two {
		return fmt.Errorf("pairwise: scale is %q; allowed is %s or %s", o.Scale, Five, Two)
	}
	if o.Replicates < 1 || o.Replicates > 64 {
		return fmt.Errorf("pairwise: replicates is %d; allowed is 1 to 64", o.Replicates)
	}
	return nil
}

// Spec returns the stage with its options, for a chain. It returns an error if o is invalid.
func Spec(o Options) (stage.Spec, error) {
	if _, err := Stage(o); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(schemas.StagePairwise, o)
}

// Stage returns the stage that compares the two responses of a dossier. It returns an error if o
// is invalid.
func Stage(o Options) (stage.Stage, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	t, err := parseTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	return (&comparer{Options: o, template: t}).compare, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("pairwise: options: %w", err)
	}
	return Stage(o)
}

//go:embed pairwise.tmpl
var builtIn string

func parseTemplate(source string) (*prompting.Template, error) {
	if source == "" {
		source = builtIn
	}
	all, one := prompting.NewConversation(prompting.SampleTurns), prompting.NewConversation(prompting.SampleTurns[1:2])
	return prompting.ParseTemplate(prompting.Form{
		Name: "pairwise", Fields: ".Conversation, .AnswerA and .AnswerB",
		Samples: []prompting.Data{templateData(all, "sample answer a", "sample answer b", Five), templateData(one, "sample answer a", "sample answer b", Two)},
		Shown:   []string{"sample last question", "sample answer a", "sample answer b"},
	}, source)
}

// templateData returns the fields that a template shows, with all quoted texts fenced.
func templateData(c *prompting.Conversation, first, second string, scale Scale) prompting.Data {
	a, b := prompting.Text{Name: "answer", Text: first}, prompting.Text{Name: "answer", Text: second}
	page := prompting.NewPage(c, a, b)
	return prompting.Data{
		"Conversation": page.Conversation(),
		"AnswerA":      page.Fence(a),
		"AnswerB":      page.Fence(b),
		"Choices":      scale.choices(),
	}
}

// comparer is the options with the parsed template.
type comparer struct {
	Options

	template *prompting.Template
}

func (c *comparer) compare(ctx context.Context, caller stage.Caller, d *schemas.Dossier) error {
	d.Comparisons = nil
	if len(d.Responses) != 2 {
		return fmt.Errorf("pairwise: prompt %s has %d responses; there must be one from each side", d.Prompt.ID, len(d.Responses))
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a, b := &d.Responses[0], &d.Responses[1]
	orders := [2][2]*schemas.Response{{a, b}, {b, a}}
	conversation := prompting.NewConversation(d.Prompt.Messages)
	calls := make([]stage.Call, len(orders))
	for i, shown := range orders {
		calls[i] = c.call(d.Prompt.ID, conversation, shown, stop)
	}
	answers, err := stage.Do(ctx, caller, calls)
	if err != nil {
		return err
	}
	for i, shown := range orders {
		for replicate, g := range answers[i] {
			c.add(d, shown, replicate, g)
		}
	}
	return nil
}

// call asks for all replicates of one order. A template that fails stops the stage.
func (c *comparer) call(promptID string, conversation *prompting.Conversation, shown [2]*schemas.Response, stop context.CancelCauseFunc) stage.Call {
	return stage.Call{
		Role: &c.Role, Stage: schemas.StagePairwise, PromptID: promptID, N: c.Replicates,
		Inputs: []string{
			c.template.Digest, string(c.Scale), promptID, schemas.Digest(shown[0].Text), schemas.Digest(shown[1].Text),
		},
		Messages: func() []schemas.Message {
			messages, err := c.template.Render(templateData(conversation, shown[0].Text, shown[1].Text, c.Scale))
			if err != nil {
				stop(fmt.Errorf("prompt %s: %w", promptID, err))
			}
			return messages
		},
	}
}

// add turns one generation into a comparison or a failure.
func (c *comparer) add(d *schemas.Dossier, shown [2]*schemas.Response, replicate int, g schemas.Generation) {
	if g.Code != "" {
		d.Fail(schemas.StagePairwise, replicate, g, schemas.Failure{FirstID: shown[0].ID, SecondID: shown[1].ID})
		return
	}
	text, reasoning, cut := stage.ReadText(g, c.StripReasoning, c.Role.ReasoningTags...)
	finish := g.FinishReason
	if cut {
		finish = stage.FinishLength
	}
	verdict, unparsed := ParseVerdict(text, finish, c.Scale)
	winner := schemas.NoWins
	switch verdict {
	case MuchBetter, Better:
		winner = schemas.First
	case Worse, MuchWorse:
		winner = schemas.Second
	}
	d.Comparisons = append(d.Comparisons, schemas.Comparison{
		ID:      schemas.ComparisonID(shown[0].ID, shown[1].ID, fmt.Sprintf("%s#%d", c.Role.Identity(), replicate)),
		FirstID: shown[0].ID, SecondID: shown[1].ID, Replicate: replicate,
		Text: text, Reasoning: reasoning,
		Winner: winner, Verdict: string(verdict), Unparsed: unparsed,
		PromptTokens: g.PromptTokens,
	})
}
