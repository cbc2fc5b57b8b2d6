// Package generate asks the actor for K responses to every prompt.
//
// The actor gets the conversation as it is, with no template. It promises that the responses
// of a dossier are distinct by their trimmed text, in the order of their first replicate,
// each with all the replicates that gave it; that each is complete, empty or truncated; and
// that a call which failed for good is a failure of the dossier.
package generate

import (
	"context"
	"encoding/json"
	"fmt"

	"coeval/schemas"
	"coeval/transforms/stage"
)

func init() {
	stage.Register(schemas.StageGenerate, decodeStage)
}

// Options say who answers, and how often.
type Options struct {
	// Role is the actor. Required.
	Role stage.Role `json:"role"`
	// N is K, the number of responses to a prompt, 1 to 256. More widen the gap between the
	// best and the worst, at N judged responses a prompt. Zero means 7.
	N int `json:"n"`
	// StripReasoning takes thoughts out of a response before it is judged. Zero means that
	// they stay in the text.
	StripReasoning bool `json:"strip_reasoning"`
}

func (o Options) withDefaults() Options {
	if o.N == 0 {
		o.N = 7
	}
	return o
}

func (o Options) validate() error {
	if o.Role.Name != schemas.RoleActor {
		return fmt.Errorf("generate: role.name is %q; allowed is %s", o.Role.Name, schemas.RoleActor)
	}
	if o.N < 1 || o.N > 256 {
		return fmt.Errorf("generate: n is %d; allowed is 1 to 256", o.N)
	}
	return nil
}

// Spec returns the stage with its options, for a chain. It returns an error if o is invalid.
func Spec(o Options) (stage.Spec, error) {
	if err := o.withDefaults().validate(); err != nil {
		return stage.Spec{}, err
	}
	return stage.NewSpec(schemas.StageGenerate, o)
}

// Stage returns the stage that gives a dossier its responses. It returns an error if o is
// invalid.
func Stage(o Options) (stage.Stage, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return o.generate, nil
}

func decodeStage(options json.RawMessage) (stage.Stage, error) {
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("generate: options: %w", err)
	}
	return Stage(o)
}

func (o Options) generate(ctx context.Context, c stage.Caller, d *schemas.Dossier) error {
	conversation := d.Prompt.Messages
	said, err := c.Do(ctx, []stage.Call{{
		Role: &o.Role, Stage: schemas.StageGenerate, PromptID: d.Prompt.ID, N: o.N,
		Inputs:   []string{"", d.Prompt.ID}, // the actor has no template
		Messages: func() []schemas.Message { return conversation },
	}})
	if err != nil {
		return err
	}
	d.Responses = nil
	at := map[string]int{}
	for replicate, g := range said[0] {
		if g.Code != "" {
			d.Fail(schemas.StageGenerate, replicate, g, schemas.Failure{})
			continue
		}
		r := o.response(d.Prompt.ID, replicate, g)
		i, ok := at[r.Text]
		if !ok {
			at[r.Text] = len(d.Responses)
			d.Responses = append(d.Responses, r)
			continue
		}
		same := &d.Responses[i]
		same.Replicates = append(same.Replicates, replicate)
		same.Status = better(same.Status, r.Status)
	}
	return nil
}

// response reads one replicate. A text that was cut off is truncated, even if nothing of it
// is left.
func (o Options) response(promptID string, replicate int, g schemas.Generation) schemas.Response {
	text, reasoning, cut := stage.ReadText(g, o.StripReasoning, o.Role.ReasoningTags...)
	status := schemas.Complete
	switch {
	case cut:
		status = schemas.Truncated
	case text == "":
		status = schemas.Empty
	}
	return schemas.Response{
		ID:         schemas.ResponseID(promptID, o.Role.Identity(), text),
		Replicates: []int{replicate},
		Text:       text, Reasoning: reasoning, Status: status,
		PromptTokens: g.PromptTokens,
	}
}

// better returns the status of a text that two replicates gave: one that ended says that the
// text is whole, and one that was cut off that an empty one need not be.
func better(a, b schemas.Status) schemas.Status {
	for _, s := range []schemas.Status{schemas.Complete, schemas.Truncated} {
		if a == s || b == s {
			return s
		}
	}
	return schemas.Empty
}
