package infer

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"

	"coeval/schemas"
)

// A Stage advances one dossier: it asks c for the generations that it needs and adds what
// they say. Given the same generations it leaves the same dossier. It returns an error only
// when the run has to stop; a call that failed for good is a [schemas.Failure] in the dossier.
type Stage func(ctx context.Context, c Caller, d *schemas.Dossier) error

// A Caller gets generations, from a fleet of workers, from the journal, or from both.
type Caller interface {
	// Do makes all calls at once and returns when the last is done: replicate k of calls[i]
	// at [i][k]. It returns an error only when the run has to stop.
	Do(ctx context.Context, calls []Call) ([][]schemas.Generation, error)
}

// A Call asks for N replicates of one request.
type Call struct {
	Role *Role
	// Stage is the stage that asks, as failures name it.
	Stage    string
	PromptID string
	// Inputs identify what is asked: the template's digest and digests or content-derived IDs
	// of every text that Messages renders. With the role they make the journal's key.
	Inputs []string
	N      int
	// Messages renders the request. It is called only when something has to be asked.
	Messages func() []schemas.Message
}

// Key identifies the call without its replicate: equal keys ask for the same texts.
func (c *Call) Key() string { return keys([]Call{*c})[0] }

// keys returns the calls' keys. Those of one stage have one role, whose digest is taken once.
func keys(calls []Call) []string {
	out := make([]string, len(calls))
	var role *Role
	var parts []string
	for i := range calls {
		if calls[i].Role != role {
			role, parts = calls[i].Role, []string{calls[i].Role.digest()}
		}
		parts = append(parts[:1], calls[i].Inputs...)
		out[i] = schemas.Digest(parts...)
	}
	return out
}

// Role is the model that plays a role, how it is asked, and where it is served.
type Role struct {
	// Name is actor, judge or meta_judge.
	Name  string `json:"name"`
	Model string `json:"model"`
	// Revision tells checkpoints apart that are served under one name. May be empty.
	Revision  string     `json:"revision,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`

	Temperature float64  `json:"temperature"`
	TopP        float64  `json:"top_p"`
	MaxTokens   int      `json:"max_tokens"`
	Stop        []string `json:"stop,omitempty"`
	// ExtraBody is a JSON object whose fields are sent as they are. May be empty.
	ExtraBody string `json:"extra_body,omitempty"`
	// Verdict is how each text has to end, which its endpoints must be able to enforce. Nil
	// means that the texts are free.
	Verdict *Verdict `json:"verdict,omitempty"`
	// Seed is the run's.
	Seed int64 `json:"seed"`
}

// Endpoint is one OpenAI-compatible server.
type Endpoint struct {
	// URL is the base, as in http://host:8000/v1.
	URL string `json:"url"`
	// APIKeyEnv names the environment variable with the key; empty when none is needed.
	APIKeyEnv string `json:"api_key_env,omitempty"`
	// APIKeyFile names the file with the key, instead.
	APIKeyFile string `json:"api_key_file,omitempty"`
}

// Identity names the model with its revision, as IDs and rows have it.
func (r *Role) Identity() string {
	if r.Revision == "" {
		return r.Model
	}
	return r.Model + "@" + r.Revision
}

// digest covers all of the role that decides what it says. Where it is served does not.
func (r *Role) digest() string {
	f := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	parts := []string{
		r.Name, r.Model, r.Revision, f(r.Temperature), f(r.TopP), strconv.Itoa(r.MaxTokens),
		schemas.Digest(r.Stop...), r.ExtraBody, strconv.FormatInt(r.Seed, 10),
	}
	if r.Verdict != nil {
		parts = append(parts, r.Verdict.digest(r.reasoning()))
	}
	return schemas.Digest(parts...)
}

// A StageSpec names a stage and its options, so that a chain of stages can travel to the workers.
type StageSpec struct {
	Name    string          `json:"name"`
	Options json.RawMessage `json:"options"`
}

var stages = map[string]func(options json.RawMessage) (Stage, error){}

// RegisterStage makes a stage known under its name. Packages of stages call it in init.
func RegisterStage(name string, decode func(options json.RawMessage) (Stage, error)) {
	if _, ok := stages[name]; ok {
		panic(fmt.Sprintf("infer: stage %q is registered twice", name))
	}
	stages[name] = decode
}

// Spec returns the spec of a stage with these options, which must be a type that JSON can hold.
func Spec[O any](name string, options O) (StageSpec, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return StageSpec{}, fmt.Errorf("infer: options of stage %s: %w", name, err)
	}
	return StageSpec{Name: name, Options: b}, nil
}

// Chain returns the stage that runs the named stages one after the other.
func Chain(specs []StageSpec) (Stage, error) {
	chain := make([]Stage, 0, len(specs))
	for _, spec := range specs {
		decode, ok := stages[spec.Name]
		if !ok {
			return nil, fmt.Errorf("infer: no stage %q; known are %v", spec.Name, stageNames())
		}
		stage, err := decode(spec.Options)
		if err != nil {
			return nil, fmt.Errorf("infer: stage %s: %w", spec.Name, err)
		}
		chain = append(chain, stage)
	}
	return func(ctx context.Context, c Caller, d *schemas.Dossier) error {
		for _, stage := range chain {
			if err := stage(ctx, c, d); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func stageNames() []string {
	names := make([]string, 0, len(stages))
	for name := range stages {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
