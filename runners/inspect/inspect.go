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

// A Dossier is a prompt with the rows of all tables about it, in the order in which they are shown.
type Dossier struct {
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

// Read returns the dossier of the prompt that name means: its ID, the beginning of its ID if no other's is
// the same, an ID that the input gave, or its number in the input from 1 on, several files being in the
// order of their names.
func Read(ctx context.Context, r *runs.Run, name string) (*Dossier, error) {
	d := &Dossier{Run: r, Judgments: map[string][]schemas.JudgmentRow{}}
	id, err := d.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := d.read(ctx, id); err != nil {
		return nil, err
	}
	return d, nil
}

// listed is what a prompt is found by.
type listed struct {
	ID         string   `parquet:"id"`
	OwnID      []string `parquet:"own_id,list"`
	SourceFile string   `parquet:"source_file,dict"`
	SourceLine int64    `parquet:"source_line"`
}

func (d *Dossier) find(ctx context.Context, name string) (string, error) {
	var all []listed
	for shard := range d.Run.Shards {
		err := shards.ReadColumns[schemas.PromptRow](ctx, d.Run.Path(shards.Prompts, shard), func(p *listed) error {
			all = append(all, *p)
			return nil
		})
		if err != nil {
			return "", err
		}
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
			d.Run.Dir, sanitize.Line(strconv.Quote(name)), leastPrefix, len(all))
	case 1:
		d.Number = found[0] + 1
		return all[found[0]].ID, nil
	}
	return "", fmt.Errorf("%s has %d prompts %s, as %s and %s: give more of the ID", d.Run.Dir, len(found), sanitize.Line(strconv.Quote(name)), all[found[0]].ID, all[found[1]].ID)
}

// leastPrefix is how much of an ID must be given.
const leastPrefix = 4

// read takes the rows of a prompt from its shard.
func (d *Dossier) read(ctx context.Context, id string) error {
	shard := schemas.Shard(id, d.Run.Shards)
	var judgments []schemas.JudgmentRow
	var actor, judge []schemas.Pair
	prompts, err := rowsOf(ctx, d.Run.Path(shards.Prompts, shard), id, func(p *schemas.PromptRow) string { return p.ID })
	if err == nil {
		d.Responses, err = rowsOf(ctx, d.Run.Path(shards.Responses, shard), id, func(r *schemas.ResponseRow) string { return r.PromptID })
	}
	if err == nil {
		judgments, err = rowsOf(ctx, d.Run.Path(shards.Judgments, shard), id, func(j *schemas.JudgmentRow) string { return j.PromptID })
	}
	if err == nil {
		d.Comparisons, err = rowsOf(ctx, d.Run.Path(shards.Comparisons, shard), id, func(c *schemas.ComparisonRow) string { return c.PromptID })
	}
	if err == nil {
		d.Failures, err = rowsOf(ctx, d.Run.Path(shards.Failures, shard), id, func(f *schemas.FailureRow) string {
			if f.PromptID == nil {
				return ""
			}
			return *f.PromptID
		})
	}
	ofPair := func(p *schemas.Pair) string { return p.PromptID }
	if err == nil && d.Run.Settings.Wants(schemas.RoleActor) {
		actor, err = rowsOf(ctx, d.Run.Path(shards.Actor, shard), id, ofPair)
	}
	if err == nil && d.Run.Settings.Wants(schemas.RoleJudge) {
		judge, err = rowsOf(ctx, d.Run.Path(shards.Judge, shard), id, ofPair)
	}
	if err != nil {
		return err
	}
	if len(prompts) != 1 {
		return fmt.Errorf("%s has %d rows of prompt %s, should have 1; coeval verify tells more", d.Run.Path(shards.Prompts, shard), len(prompts), id)
	}
	d.Prompt = prompts[0]
	if len(actor) > 0 {
		d.Actor = &actor[0]
	}
	if len(judge) > 0 {
		d.Judge = &judge[0]
	}
	d.order(judgments)
	return nil
}

// order sorts responses by their first replicate, judgments by replicate, and those that were
// compared by rating.
func (d *Dossier) order(judgments []schemas.JudgmentRow) {
	slices.SortStableFunc(d.Responses, func(a, b schemas.ResponseRow) int { return slices.Compare(a.Replicates, b.Replicates) })
	slices.SortStableFunc(judgments, func(a, b schemas.JudgmentRow) int { return cmp.Compare(a.Replicate, b.Replicate) })
	for _, j := range judgments {
		d.Judgments[j.ResponseID] = append(d.Judgments[j.ResponseID], j)
		if d.Prompt.ContestedResponseID != nil && *d.Prompt.ContestedResponseID == j.ResponseID && j.Distinct && j.Score != nil {
			d.Contested = append(d.Contested, j)
		}
	}
	rating := func(j *schemas.JudgmentRow) float64 {
		if j.Elo == nil {
			return 0
		}
		return *j.Elo
	}
	slices.SortStableFunc(d.Contested, func(a, b schemas.JudgmentRow) int { return cmp.Compare(rating(&b), rating(&a)) })
}

// rowsOf returns the rows of a prompt.
func rowsOf[T shards.Row](ctx context.Context, path, id string, promptOf func(*T) string) ([]T, error) {
	var rows []T
	err := shards.ReadTable(ctx, path, func(row *T) error {
		if promptOf(row) == id {
			rows = append(rows, *row)
		}
		return nil
	})
	return rows, err
}
