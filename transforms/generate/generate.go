// Package generate requests K responses to every prompt from the actor. If method.pairs is temporal, it also
// requests responses from other checkpoints.
//
// In a loop, role past is the first model, and role future the model that phase 1 trains. A model receives the
// conversation as it is, without a template. The package promises:
//
//   - The responses of a dossier are distinct by their trimmed text within each pool: the actor's, those
//     of past, and those of future. They are in the order of their first replicate, and each lists all
//     replicates with this text.
//   - Each response is complete, empty or truncated.
//   - A call that fails for good becomes an entry of Dossier.Failures. The other calls continue.
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

// Options configure the actor and the number of responses.
type Options struct {
	// Role is the actor. Required.
	Role stage.Role `json:"role"`
	// N is K, the number of responses to a prompt, 1 to 256. More widen the gap between the
	// best and the worst, at N judged responses a prompt. Zero means 7.
	N int `json:"n"`
	// StripReasoning removes reasoning from a response before it is judged. Zero means that
	// they stay in the text.
	StripReasoning bool `json:"strip_reasoning"`
	// Pools are other models that answer the same prompts, each of another identity than the actor.
	// Their responses are judged as the actor's are. Empty means none.
	Pools []Pool `json:"pools,omitempty"`
}

// A Pool is the responses of a further role that answers prompts, for example an older checkpoint.
type Pool struct {
	// Role is past or future. Required.
	Role stage.Role `json:"role"`
	// N is the number of its responses to a prompt, 1 to 256. Required.
	N int `json:"n"`
}

// stages are the stages of the roles that may have a pool.
var stages = map[string]string{schemas.RolePast: schemas.StagePast, schemas.RoleFuture: schemas.StageFuture}

// PoolStage returns the stage of a pool's answers, as failures and counts name it.
func PoolStage(role string) string { return stages[role] }

func (o Options) withDefaults() Options {
	if o.N == 0 {
		o.N = 7
	}
	return o
}

// maxN bounds the responses of a pool.
const maxN = 256

func (o Options) validate() error {
	if o.Role.Name != schemas.RoleActor {
		return fmt.Errorf("generate: role.name is %q; allowed is %s", o.Role.Name, schemas.RoleActor)
	}
	if o.N < 1 || o.N > maxN {
		return fmt.Errorf("generate: n is %d; allowed is 1 to %d", o.N, maxN)
	}
	seen := map[string]string{o.Role.Identity(): o.Role.Name}
	for i, p := range o.Pools {
		if stages[p.Role.Name] == "" {
			return fmt.Errorf("generate: pools[%d].role.name is %q; allowed are %s and %s", i, p.Role.Name, schemas.RolePast, schemas.RoleFuture)
		}
		if p.N < 1 || p.N > maxN {
			return fmt.Errorf("generate: pools[%d].n is %d; allowed is 1 to %d", i, p.N, maxN)
		}
		// The IDs of responses have the model and not the role.
		if other, ok := seen[p.Role.Identity()]; ok {
			return fmt.Errorf("generate: pools[%d] is %q, the model of %s; allowed is another model or revision", i, p.Role.Identity(), other)
		}
		seen[p.Role.Identity()] = p.Role.Name
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
	call := func(role *stage.Role, name string, n int) stage.Call {
		return stage.Call{
			Role: role, Stage: name, PromptID: d.Prompt.ID, N: n,
			Inputs:   []string{"", d.Prompt.ID}, // no template
			Messages: func() []schemas.Message { return conversation },
		}
	}
	calls := []stage.Call{call(&o.Role, schemas.StageGenerate, o.N)}
	for i := range o.Pools {
		p := &o.Pools[i]
		calls = append(calls, call(&p.Role, stages[p.Role.Name], p.N))
	}
	said, err := c.Do(ctx, calls)
	if err != nil {
		return err
	}
	d.Responses = nil
	for i := range calls {
		o.read(d, &calls[i], said[i])
	}
	return nil
}

// read adds the distinct responses of one pool.
func (o Options) read(d *schemas.Dossier, call *stage.Call, said []schemas.Generation) {
	at := map[string]int{}
	for replicate, g := range said {
		if g.Code != "" {
			d.Fail(call.Stage, replicate, g, schemas.Failure{})
			continue
		}
		r := o.response(d.Prompt.ID, call.Role, replicate, g)
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
}

// response reads one replicate. A text that was cut off is truncated, even if nothing of it
// is left.
func (o Options) response(promptID string, role *stage.Role, replicate int, g schemas.Generation) schemas.Response {
	text, reasoning, cut := stage.ReadText(g, o.StripReasoning, role.ReasoningTags...)
	status := schemas.Complete
	switch {
	case cut:
		status = schemas.Truncated
	case text == "":
		status = schemas.Empty
	}
	r := schemas.Response{
		ID:         schemas.ResponseID(promptID, role.Identity(), text),
		Replicates: []int{replicate},
		Text:       text, Reasoning: reasoning, Status: status,
		PromptTokens: g.PromptTokens,
	}
	if role.Name != schemas.RoleActor {
		r.Pool = role.Name
	}
	return r
}

// better returns the status of a text that two replicates share. If one of them ended normally, the
// text is complete. If one was cut off, an empty text may not be the whole answer.
func better(a, b schemas.Status) schemas.Status {
	for _, s := range []schemas.Status{schemas.Complete, schemas.Truncated} {
		if a == s || b == s {
			return s
		}
	}
	return schemas.Empty
}
