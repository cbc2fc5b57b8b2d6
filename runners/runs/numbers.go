package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"coeval/datasets/shards"
	"coeval/schemas"
)

// Numbers are the rows of one prompt without their texts, each kind in the order of its file.
type Numbers struct {
	Prompt      Prompt
	Responses   []Response
	Judgments   []Judgment
	Comparisons []Comparison
	Failures    []schemas.FailureRow
}

// Prompt is a row of raw/prompts.
type Prompt struct {
	ID                  string  `parquet:"id"`
	SourceFile          string  `parquet:"source_file,dict"`
	SourceLine          int64   `parquet:"source_line"`
	Chars               int32   `parquet:"chars"`
	ActorOutcome        *string `parquet:"actor_outcome,dict"`
	ActorReason         *string `parquet:"actor_reason,dict"`
	JudgeOutcome        *string `parquet:"judge_outcome,dict"`
	JudgeReason         *string `parquet:"judge_reason,dict"`
	ContestedResponseID *string `parquet:"contested_response_id"`
}

// Response is a row of raw/responses.
type Response struct {
	ID       string `parquet:"id"`
	PromptID string `parquet:"prompt_id"`
	Model    string `parquet:"model,dict"`
	Status   string `parquet:"status,dict"`
	Chars    int32  `parquet:"chars"`
	// Parsed is the number of parsed judgments, or of reads, behind the mean.
	Parsed        int32    `parquet:"parsed_judgments"`
	ScoreMean     *float64 `parquet:"score_mean"`
	ScoreVariance *float64 `parquet:"score_variance"`
	// Pool is past or future by the model; empty for a response of the actor.
	Pool string `parquet:"-"`
}

// Judgment is a row of raw/judgments.
type Judgment struct {
	ID             string   `parquet:"id"`
	PromptID       string   `parquet:"prompt_id"`
	ResponseID     string   `parquet:"response_id"`
	Replicate      int32    `parquet:"replicate"`
	Chars          int32    `parquet:"chars"`
	Score          *float64 `parquet:"score"`
	UnparsedReason *string  `parquet:"unparsed_reason,dict"`
	Distinct       bool     `parquet:"distinct"`
	Elo            *float64 `parquet:"elo"`
}

// Comparison is a row of raw/comparisons.
type Comparison struct {
	PromptID       string  `parquet:"prompt_id"`
	FirstID        string  `parquet:"first_id"`
	SecondID       string  `parquet:"second_id"`
	Winner         string  `parquet:"winner,dict"`
	UnparsedReason *string `parquet:"unparsed_reason,dict"`
}

// Each calls each for every prompt of a shard, in the order of the IDs. The callee must not keep the
// numbers. Each returns an error for a missing, damaged or foreign file, for a row without its prompt,
// and for a number that no run writes.
func (r *Run) Each(ctx context.Context, shard int, each func(*Numbers) error) error {
	responses := openColumns[schemas.ResponseRow](ctx, r.Path(shards.Responses, shard), func(row *Response) string { return row.PromptID })
	defer responses.Close()
	judgments := openColumns[schemas.JudgmentRow](ctx, r.Path(shards.Judgments, shard), func(row *Judgment) string { return row.PromptID })
	defer judgments.Close()
	comparisons := openColumns[schemas.ComparisonRow](ctx, r.Path(shards.Comparisons, shard), func(row *Comparison) string { return row.PromptID })
	defer comparisons.Close()
	failures := OpenTable[schemas.FailureRow](ctx, r.Path(shards.Failures, shard), nil)
	defer failures.Close()
	failures.Of("") // bad lines of the input come first
	n := &Numbers{}
	err := EachShardRow[schemas.PromptRow](ctx, r, shards.Prompts, shard, func(p *Prompt) error {
		n.Prompt = *p
		n.Responses, n.Judgments = responses.Of(p.ID), judgments.Of(p.ID)
		n.Comparisons, n.Failures = comparisons.Of(p.ID), failures.Of(p.ID)
		if err := errors.Join(responses.err, judgments.err, comparisons.err, failures.err); err != nil {
			return err
		}
		for i := range n.Responses {
			n.Responses[i].Pool = r.Settings.PoolOf(n.Responses[i].Model)
		}
		if err := n.check(r.Settings.Scale()); err != nil {
			return fmt.Errorf("%s: %w; run coeval verify for the details", r.Dir, err)
		}
		return each(n)
	})
	if err != nil {
		return err
	}
	return errors.Join(responses.end(), judgments.end(), comparisons.end(), failures.end())
}

const (
	// MaxScore is the highest score of the built-in rubric, in points.
	MaxScore = 5.0
	maxElo   = 1e6
)

// check returns an error for a number that no run with scores from low to high writes. The variance is
// highest if half of the scores are low and half are high.
func (n *Numbers) check(low, high float64) error {
	maxVariance := (high - low) / 2 * (high - low) / 2
	within := func(column, id string, x *float64, low, high float64) error {
		if x == nil || *x >= low && *x <= high { // false for NaN
			return nil
		}
		return fmt.Errorf("%s of %s is %v; allowed is %v to %v", column, id, *x, low, high)
	}
	for i := range n.Responses {
		r := &n.Responses[i]
		if err := cmp.Or(within("score_mean", r.ID, r.ScoreMean, 0, max(high, MaxScore)), within("score_variance", r.ID, r.ScoreVariance, 0, maxVariance)); err != nil {
			return err
		}
		if r.Chars < 0 {
			return fmt.Errorf("chars of %s is %d; allowed is at least 0", r.ID, r.Chars)
		}
	}
	for i := range n.Judgments {
		j := &n.Judgments[i]
		if err := cmp.Or(within("score", j.ID, j.Score, low, high), within("elo", j.ID, j.Elo, -maxElo, maxElo)); err != nil {
			return err
		}
	}
	return nil
}
