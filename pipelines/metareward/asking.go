package metareward

import (
	"errors"

	"coeval/datasets/journal"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

// Asking is the set-up for calls outside a pipeline, through the journal of a folder.
type Asking struct {
	Infer infer.Options
	// Bits is the number of prefix bits of the journal's buckets.
	Bits int
}

// NewAsking returns the set-up for calls of these roles about that number of prompts, with the client
// of c and the journal of c.Output.Dir.
func (c Config) NewAsking(attempt string, prompts int64, lengths journal.PrefixBits, retryFailed []string, roles ...*stage.Role) Asking {
	return Asking{
		Infer: c.inferOptions(&Input{Attempt: attempt, Journal: lengths, RetryFailed: retryFailed}, roles...),
		Bits:  max(lengths.Longest(), powerOfTwo(prompts, maxPromptsPerBucket)),
	}
}

// NewRole returns a role of this name. It takes missing settings from c.Worker.
func (c *Config) NewRole(name string, r *Role) (*stage.Role, error) { return c.role(name, r) }

// ValidateAnswering is Validate for runs that ask the actor alone. It ignores the settings of the
// method.
func (c Config) ValidateAnswering() error {
	v := &validator{}
	v.run(&c)
	v.prompts(&c.Prompts)
	v.served(&c, map[string]*Role{schemas.RoleActor: &c.Actor.Role})
	v.role("actor", &c, &c.Actor.Role)
	v.worker(&c)
	v.client(&c.Client)
	v.simulate(&c)
	return errors.Join(v.problems...)
}
