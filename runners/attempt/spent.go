package attempt

import (
	"context"

	"coeval/datasets/journal"
	"coeval/datasets/rundir"
	"coeval/pipelines/metareward"
	"coeval/runners/summary"
	"coeval/transforms/infer/spending"
)

// SpentIn returns the costs of all attempts on a folder. The journal has every answer. The attempts' own counts have
// the prompt tokens of each request and the time, except for the last half minute of an attempt that was killed. Of
// each number the larger one counts.
func SpentIn(ctx context.Context, out string) (spending.Spent, error) {
	usage, err := journal.ReadUsage(ctx, metareward.JournalDir(out))
	if err != nil {
		return spending.Spent{}, err
	}
	files, err := rundir.AttemptFiles(ctx, out)
	if err != nil {
		return spending.Spent{}, err
	}
	var counted spending.Spent
	for _, f := range files {
		var op summary.Operation
		if err := readJSON(ctx, f, &op); err != nil {
			return spending.Spent{}, err
		}
		counted.Seconds += op.AskingSeconds
		for _, c := range op.Calls {
			counted.Generations += c.Generations
			counted.PromptTokens += c.PromptTokens
			counted.CompletionTokens += c.CompletionTokens
		}
	}
	return spending.Spent{
		Generations:      max(usage.Generations, counted.Generations),
		PromptTokens:     max(usage.PromptTokens, counted.PromptTokens),
		CompletionTokens: max(usage.CompletionTokens, counted.CompletionTokens),
		Seconds:          counted.Seconds,
	}, nil
}
