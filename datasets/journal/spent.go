package journal

import (
	"context"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
)

// Usage counts the generations in a journal, failed ones included, and their tokens.
type Usage struct {
	Generations int64
	// PromptTokens counts the prompt of each call once, as if its replicates had come from one
	// request.
	PromptTokens     int64
	CompletionTokens int64
}

// ReadUsage counts all calls of a journal, of any config and any prompts. It keeps the IDs of one
// bucket's calls in memory at a time.
func ReadUsage(ctx context.Context, dir string) (Usage, error) {
	var sum Usage
	all, err := buckets.ListAll(ctx, dir)
	if err != nil {
		return sum, err
	}
	for _, b := range all {
		seen := map[segment.ID]bool{}
		prompts := map[string]int{}
		count := func(r *Record) {
			at := r.ID()
			if r.Prompt != nil || seen[at] {
				return
			}
			seen[at] = true
			prompts[r.Key] = max(prompts[r.Key], r.PromptTokens)
			sum.Generations++
			sum.CompletionTokens += int64(r.CompletionTokens)
		}
		err := buckets.Read(ctx, dir, b.Segments, func(_ int, frames []byte) error {
			_, err := segment.Decode(frames, nil, count)
			return err
		})
		if err != nil {
			return sum, err
		}
		for _, tokens := range prompts {
			sum.PromptTokens += int64(tokens)
		}
	}
	return sum, nil
}
