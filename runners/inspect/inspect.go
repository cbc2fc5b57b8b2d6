// Package inspect prints one prompt of a run: its responses with scores, and the contested response with
// its win matrix and ratings. It also prints the pairs of the prompt, or the reason why there are none.
// It shortens texts unless all are wanted.
//
// Text of models passes through package sanitize, so that it cannot control the terminal.
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

// A View is a prompt with its rows in all tables, in the order of display.
type View struct {
	Run *runs.Run
	// Number is the prompt's number in the input, from 1, without merged and bad lines.
	Number    int
	Prompt    schemas.PromptRow
	Responses []schemas.ResponseRow
	// Judgments has the judgments by the ID of their response.
	Judgments map[string][]schemas.JudgmentRow
	// Contested are the contested response's distinct judgments with a score, the highest
	// rating first.
	Contested   []schemas.JudgmentRow
	Comparisons []schemas.ComparisonRow
	Failures    []schemas.FailureRow
	// Reads has the reads of scores by the ID of their response, and those of comparisons by the ID of the comparison.
	Reads map[string][]schemas.ReadRow
	Actor *schemas.Pair
	Judge *schemas.Pair
}

// Read returns the view of a prompt. The name is its ID, an unambiguous beginning of its ID, an ID from
// the input, or its number in the input: from 1, with several files in the order of their names.
func Read(ctx context.Context, r *runs.Run, name string) (*View, error) {
	v := &View{Run: r, Judgments: map[string][]schemas.JudgmentRow{}, Reads: map[string][]schemas.ReadRow{}}
	id, err := v.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := v.read(ctx, id); err != nil {
		return nil, err
	}
	return v, nil
}

// listed has the columns that identify a prompt.
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
			if slices.Contains(p.OwnID, name) || len(name) >= minPrefix && strings.HasPrefix(p.ID, name) {
				found = append(found, i)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s has no prompt %s: use a prompt's ID, at least its first %d characters, an ID from the input, or a number from 1 to %d",
			v.Run.Dir, sanitize.Line(strconv.Quote(name)), minPrefix, len(all))
	case 1:
		v.Number = found[0] + 1
		return all[found[0]].ID, nil
	}
	return "", fmt.Errorf("%s has %d prompts %s, for example %s and %s: write more characters of the ID", v.Run.Dir, len(found), sanitize.Line(strconv.Quote(name)), all[found[0]].ID, all[found[1]].ID)
}

// minPrefix is the shortest beginning of an ID that names a prompt.
const minPrefix = 4

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
	if err := v.readReads(ctx, id); err != nil {
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

// readReads reads the rows of raw/reads, a table of runs with reads alone.
func (v *View) readReads(ctx context.Context, id string) error {
	if s := &v.Run.Settings; !s.ReadsScores() && !s.ReadsComparisons() {
		return nil
	}
	reads, err := runs.PromptRows[schemas.ReadRow](ctx, v.Run, shards.Reads, id)
	if err != nil {
		return err
	}
	slices.SortStableFunc(reads, func(a, b schemas.ReadRow) int { return cmp.Compare(a.Replicate, b.Replicate) })
	for _, r := range reads {
		about := r.ID
		if r.FirstID == nil {
			about = r.ResponseID
		}
		v.Reads[about] = append(v.Reads[about], r)
	}
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

// order sorts responses by their first replicate, judgments by replicate, and compared judgments by
// rating.
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
