package metareward

import (
	"coeval/datasets/journal"
	"coeval/pipelines/config"
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
func NewAsking(c config.Config, attempt string, prompts int64, lengths journal.PrefixBits, retryFailed []string, roles ...*stage.Role) Asking {
	return Asking{
		Infer: inferOptions(&c, &Input{Attempt: attempt, Journal: lengths, RetryFailed: retryFailed}, roles...),
		Bits:  max(lengths.Longest(), powerOfTwo(prompts, maxPromptsPerBucket)),
	}
}
