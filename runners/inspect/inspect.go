// Package inspect shows on a terminal all that was said about one prompt of a run: its
// responses with their scores, the contested one with its win matrix and ratings, and the pairs
// with the reason why they were picked or why there are none.
//
// Text of models is shown by package sanitize, so that none of it acts on the terminal.
package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coeval/datasets/shards"
	"coeval/runners/runs"
	"coeval/schemas"
	"coeval/schemas/sanitize"
)

// A View is a prompt with its rows in all tables, in the order in which they are shown.
type View struct {
	Run *runs.Run
	// Number is the prompt's place in the input, from 1 and without merged and bad lines.
	Number    int
	Prompt    schemas.PromptRow
	Responses []schemas.ResponseRow
	// Judgments are by response.
	Judgments map[string][]schemas.JudgmentRow
	// Contested are the contested response's distinct judgments with a score, the highest
	// rating first.
	Contested   []schemas.JudgmentRow
	Comparisons []schemas.ComparisonRow
	Failures    []schemas.FailureRow
	Actor       *schemas.Pair
	Judge       *schemas.Pair
}

// Read returns the view of the prompt that name means: its ID, the beginning of its ID if no other's is
// the same, an ID that the input gave, or its number in the input from 1 on, several files being in the
// order of their names.
func Read(ctx context.Context, r *runs.Run, name string) (*View, error) {
	v := &View{Run: r, Judgments: map[string][]schemas.JudgmentRow{}}
	id, err := v.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := v.read(ctx, id); err != nil {
		return nil, err
	}
	return v, nil
}

// listed is what a prompt is found by.
type listed struct {
	ID         string   `parquet:"id"`
	OwnID      []string `parquet:"own_id,list"`
	SourceFile string   `parquet:"source_file,dict"`
	SourceLine int64    `parquet:"source_line"`
}

func (v *View) find(ctx context.Context, name string) (string, error) {
	var all []listed
	err := runs.EachRow[schemas.PromptRow](ctx, v.Run, shards.Prompts, func(p *listed) error {
		all = append(all, *p)
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.SortFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.SourceFile, b.SourceFile), cmp.Compare(a.SourceLine, b.SourceLine), cmp.Compare(a.ID, b.ID))
	})
	var found []int
	number, err := strconv.Atoi(name)
	switch {
	case err == nil && number >= 1 && number <= len(all):
		found = []int{number - 1}
	default:
		for i, p := range all {
			if slices.Contains(p.OwnID, name) || len(name) >= leastPrefix && strings.HasPrefix(p.ID, name) {
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s has no prompt %s: wanted is a prompt's ID, at least its first %d characters, an ID that the input gave, or a number from 1 to %d",
			v.Run.Dir, sanitize.Line(strconv.Quote(name)), leastPrefix, len(all))
	case 1:
		v.Number = found[0] + 1
		return all[found[0]].ID, nil
	}
	return "", fmt.Errorf("%s has %d prompts %s, as %s and %s: give more of the ID", v.Run.Dir, len(found), sanitize.Line(strconv.Quote(name)), all[found[0]].ID, all[found[1]].ID)
}

// leastPrefix is how much of an ID must be given.
const leastPrefix = 4

// read reads the rows of a prompt from its shard.
func (v *View) read(ctx context.Context, id string) error {
	prompts, err := runs.PromptRows[schemas.PromptRow](ctx, v.Run, shards.Prompts, id)
	if err != nil {
		return err
	}
	if len(prompts) != 1 {
		return fmt.Errorf("%s has %d rows of prompt %s, should have 1; run coeval verify for the details", v.Run.Dir, len(prompts), id)
	}
	v.Prompt = prompts[0]
	if v.Responses, err = runs.PromptRows[schemas.ResponseRow](ctx, v.Run, shards.Responses, id); err != nil {
		return err
	}
	judgments, err := runs.PromptRows[schemas.JudgmentRow](ctx, v.Run, shards.Judgments, id)
	if err != nil {
		return err
	}
	if v.Comparisons, err = runs.PromptRows[schemas.ComparisonRow](ctx, v.Run, shards.Comparisons, id); err != nil {
		return err
	}
	if v.Failures, err = runs.PromptRows[schemas.FailureRow](ctx, v.Run, shards.Failures, id); err != nil {
		return err
	}
	if v.Actor, err = v.pair(ctx, schemas.RoleActor, shards.Actor, id); err != nil {
		return err
	}
	if v.Judge, err = v.pair(ctx, schemas.RoleJudge, shards.Judge, id); err != nil {
		return err
	}
	v.order(judgments)
	return nil
}

// pair returns the prompt's pair for a role, nil if there is none.
func (v *View) pair(ctx context.Context, role string, table shards.Table, id string) (*schemas.Pair, error) {
	if !v.Run.Settings.Wants(role) {
		return nil, nil
	}
	pairs, err := runs.PromptRows[schemas.Pair](ctx, v.Run, table, id)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	return &pairs[0], nil
}

// order sorts responses by their first replicate, judgments by replicate, and those that were
// compared by rating.
func (v *View) order(judgments []schemas.JudgmentRow) {
	slices.SortStableFunc(v.Responses, func(a, b schemas.ResponseRow) int { return slices.Compare(a.Replicates, b.Replicates) })
	slices.SortStableFunc(judgments, func(a, b schemas.JudgmentRow) int { return cmp.Compare(a.Replicate, b.Replicate) })
	for _, j := range judgments {
		v.Judgments[j.ResponseID] = append(v.Judgments[j.ResponseID], j)
		if v.Prompt.ContestedResponseID != nil && *v.Prompt.ContestedResponseID == j.ResponseID && j.Distinct && j.Score != nil {
			v.Contested = append(v.Contested, j)
		}
	}
	rating := func(j *schemas.JudgmentRow) float64 {
		if j.Elo == nil {
			return 0
		}
		return *j.Elo
	}
	slices.SortStableFunc(v.Contested, func(a, b schemas.JudgmentRow) int { return cmp.Compare(rating(&b), rating(&a)) })
}
