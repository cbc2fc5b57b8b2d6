package arena

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"coeval/datasets/journal"
	"coeval/runners/arena/winrate"
	"coeval/runners/plan"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/stage"
)

// Calls are the generations of one kind in a plan.
type Calls struct {
	// Generations is the number that the contest needs, Held the number among them that the journal has,
	// Ask the missing ones.
	Generations int64 `json:"generations"`
	Held        int64 `json:"held"`
	Ask         int64 `json:"ask"`
	// PromptTokens are the tokens to send, CompletionTokens the tokens to generate, both for Ask alone.
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// Less returns the difference of two plans' calls.
func (c Calls) Less(o Calls) Calls {
	return Calls{
		Generations: c.Generations - o.Generations, Held: c.Held - o.Held, Ask: c.Ask - o.Ask,
		PromptTokens: c.PromptTokens - o.PromptTokens, CompletionTokens: c.CompletionTokens - o.CompletionTokens,
	}
}

// Plan is an estimate of a contest.
type Plan struct {
	Prompts int   `json:"prompts"`
	Answers Calls `json:"answers"`
	Games   Calls `json:"games"`
	// MinDifference is the result of [MinDifference].
	MinDifference float64 `json:"min_difference"`
}

// Plan estimates the requests of a contest, from the prompts and the journal. It sends no request. For
// missing answers it assumes the lengths of package plan; both orders of their games count as needed.
func (c *Contest) Plan(ctx context.Context, prompts []schemas.Prompt, journalDir string) (*Plan, error) {
	lengths, err := journal.FindPrefixBits(ctx, journalDir)
	if err != nil {
		return nil, err
	}
	p := &planner{dir: journalDir, lengths: lengths, out: &Plan{Prompts: len(prompts), MinDifference: winrate.MinDifference(len(prompts))}}
	if _, err := c.Play(ctx, prompts, p.ask); err != nil {
		return nil, err
	}
	return p.out, nil
}

// planner takes the place of the servers.
type planner struct {
	dir     string
	lengths journal.PrefixBits
	out     *Plan
}

// ask implements [Ask] on the journal. It puts an assumed answer where the journal has none.
func (p *planner) ask(ctx context.Context, dossiers []schemas.Dossier, chain []stage.Spec) error {
	run, err := stage.Chain(chain)
	if err != nil {
		return err
	}
	byBucket := map[string][]*schemas.Dossier{}
	for i := range dossiers {
		bucket := journal.Bucket(dossiers[i].Prompt.ID, p.lengths.Longest())
		byBucket[bucket] = append(byBucket[bucket], &dossiers[i])
	}
	for bucket, own := range byBucket {
		wanted := map[string]bool{}
		for _, d := range own {
			wanted[d.Prompt.ID] = true
		}
		contents, err := journal.Read(ctx, p.dir, p.lengths, bucket, func(id string) bool { return wanted[id] })
		if err != nil {
			return fmt.Errorf("arena: %w", err)
		}
		for _, d := range own {
			if err := run(ctx, &counter{out: p.out, dossier: d, get: contents[d.Prompt.ID].Get}, d); err != nil && !errors.Is(err, errUnknown) {
				return err
			}
		}
	}
	return nil
}

// errUnknown ends the stages of a dossier with a call that the journal lacks.
var errUnknown = errors.New("arena: the journal lacks a call")

// counter is a Caller that counts.
type counter struct {
	out     *Plan
	dossier *schemas.Dossier
	get     func(key string, replicate int) (*journal.Record, bool)
}

// Do implements [stage.Caller].
func (c *counter) Do(ctx context.Context, calls []stage.Call) ([][]schemas.Generation, error) {
	shown, known := int64(0), true
	for _, m := range c.dossier.Prompt.Messages {
		shown += int64(utf8.RuneCountInString(m.Content))
	}
	kind, writes := &c.out.Answers, int64(plan.ResponseChars)
	if answers := c.dossier.Responses; len(answers) > 0 {
		kind, writes, shown = &c.out.Games, plan.ComparisonChars, shown+plan.RubricChars
		for i := range answers {
			shown += int64(utf8.RuneCountInString(answers[i].Text))
		}
	}
	for i := range calls {
		key, asked := calls[i].Key(), false
		for k := range calls[i].N {
			kind.Generations++
			if _, ok := c.get(key, k); ok {
				kind.Held++
				continue
			}
			known, asked = false, true
			kind.Ask++
			kind.CompletionTokens += writes / plan.CharsPerToken
		}
		if asked { // one request carries all replicates
			kind.PromptTokens += shown / plan.CharsPerToken
		}
	}
	if known {
		return infer.Replayer{Get: c.get}.Do(ctx, calls)
	}
	if kind == &c.out.Answers {
		c.dossier.Responses = []schemas.Response{{Status: schemas.Complete, Text: strings.Repeat("?", plan.ResponseChars)}}
	}
	return nil, errUnknown
}
