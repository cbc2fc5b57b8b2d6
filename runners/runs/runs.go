// Package dossiers reads a complete run's raw tables prompt by prompt: what was said of each,
// as numbers and IDs, without the texts.
//
// [Open] refuses what is no complete run of this program with one sentence. A [Run] holds no
// rows: memory is some pages of each file of the shard that is being read, and the rows of one
// prompt. No text column is read, which is why a run of gigabytes takes seconds.
//
// It does not prove that rows agree with each other or with run.json: package verify does.
package runs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/pipelines/metareward"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/score"
	"coeval/transforms/sink"
)

// A Run is a complete run in a folder.
type Run struct {
	// Dir is the folder as it was named.
	Dir      string
	Manifest *schemas.Run
	Settings Settings
	// Shards is the number of shards of each table.
	Shards int
}

// Settings are those of run.json's config that decide what the tables hold.
type Settings struct {
	Roles     []string          `json:"roles"`
	Actor     generate.Options  `json:"actor"`
	Judge     judge.Options     `json:"judge"`
	MetaJudge meta.Options      `json:"meta_judge"`
	Method    metareward.Method `json:"method"`
	// Calibration is what S was mapped with; nil without one.
	Calibration *score.Calibration `json:"calibration"`
}

// Wants says whether pairs of a role were asked for.
func (s *Settings) Wants(role string) bool { return slices.Contains(s.Roles, role) }

// Open reads run.json of the run in a folder. Its errors are one sentence each, for people.
func Open(ctx context.Context, dir string) (*Run, error) {
	name := store.Join(dir, sink.RunFile)
	b, err := store.ReadFile(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	r := &Run{Dir: dir, Manifest: &schemas.Run{}}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &format); err != nil {
		return nil, fmt.Errorf("%s can't be read as JSON: %w", name, err)
	}
	if format.Format != schemas.RunFormat {
		return nil, fmt.Errorf("%s: format is %d; this program reads format %d", name, format.Format, schemas.RunFormat)
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(r.Manifest); err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", name, err)
	}
	if err := json.Unmarshal(r.Manifest.Config, &r.Settings); err != nil {
		return nil, fmt.Errorf("%s: config can't be read: %w", name, err)
	}
	if err := r.Settings.Method.ActorOptions().Validate(); err != nil {
		return nil, fmt.Errorf("%s: config: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if c := r.Settings.Calibration; c != nil {
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("%s: config: calibration: %w", name, err)
		}
	}
	for _, f := range r.Manifest.Files {
		if strings.HasPrefix(f.Path, string(shards.Prompts)+"/") {
			r.Shards++
		}
	}
	if r.Shards == 0 {
		return nil, fmt.Errorf("%s: files names no file of %s, so there is nothing to read", name, shards.Prompts)
	}
	return r, nil
}

// missing says why there is no run.json.
func missing(ctx context.Context, dir string) error {
	files, err := store.List(ctx, strings.TrimSuffix(dir, "/")+"/")
	switch {
	case err != nil:
		return err
	case len(files) == 0:
		return fmt.Errorf("%s: there is no run in this folder: it is empty or does not exist", dir)
	}
	for _, f := range files {
		rest := strings.TrimPrefix(strings.TrimPrefix(f.Path, strings.TrimSuffix(dir, "/")), "/")
		if strings.HasPrefix(rest, "journal/") {
			return fmt.Errorf("%s: the run is not complete: %s is missing; the same coeval run command finishes it", dir, sink.RunFile)
		}
	}
	return fmt.Errorf("%s: %s is missing, so this is no folder of a coeval run", dir, sink.RunFile)
}

// Path returns the path of a shard of a table.
func (r *Run) Path(table shards.Table, shard int) string {
	return store.Join(r.Dir, shards.Path(table, shard, r.Shards))
}

// A Numbers is what the tables hold of a prompt, but for its texts. Rows are in the order of
// their files.
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
	ID            string   `parquet:"id"`
	PromptID      string   `parquet:"prompt_id"`
	Status        string   `parquet:"status,dict"`
	Chars         int32    `parquet:"chars"`
	ScoreMean     *float64 `parquet:"score_mean"`
	ScoreVariance *float64 `parquet:"score_variance"`
}

// Judgment is a row of raw/judgments.
type Judgment struct {
	ID             string   `parquet:"id"`
	PromptID       string   `parquet:"prompt_id"`
	ResponseID     string   `parquet:"response_id"`
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

// Each gives the dossiers of a shard in the order of their IDs. A dossier holds until the next
// one. A file that is missing, damaged or not one of this program is an error, and so is a row
// of a prompt that is not there, and a score that nobody can give.
func (r *Run) Each(ctx context.Context, shard int, each func(*Numbers) error) error {
	responses := openTable[schemas.ResponseRow, Response](ctx, r.Path(shards.Responses, shard), responsePrompt)
	defer responses.stop()
	judgments := openTable[schemas.JudgmentRow, Judgment](ctx, r.Path(shards.Judgments, shard), judgmentPrompt)
	defer judgments.stop()
	comparisons := openTable[schemas.ComparisonRow, Comparison](ctx, r.Path(shards.Comparisons, shard), comparisonPrompt)
	defer comparisons.stop()
	failures := openTable[schemas.FailureRow, schemas.FailureRow](ctx, r.Path(shards.Failures, shard), failurePrompt)
	defer failures.stop()
	failures.of("") // bad lines of the input come first
	d := &Numbers{}
	err := shards.ReadColumns[schemas.PromptRow](ctx, r.Path(shards.Prompts, shard), func(p *Prompt) error {
		d.Prompt = *p
		d.Responses, d.Judgments = responses.of(p.ID), judgments.of(p.ID)
		d.Comparisons, d.Failures = comparisons.of(p.ID), failures.of(p.ID)
		if err := errors.Join(responses.err, judgments.err, comparisons.err, failures.err); err != nil {
			return err
		}
		if err := d.check(); err != nil {
			return fmt.Errorf("%s: %w; coeval verify tells more", r.Dir, err)
		}
		return each(d)
	})
	if err != nil {
		return err
	}
	return errors.Join(responses.end(), judgments.end(), comparisons.end(), failures.end())
}

// check returns an error for a number that no run writes.
func (d *Numbers) check() error {
	const most, mostElo = judge.MaxScore / 1000.0, 1e6
	const mostVariance = most / 2 * most / 2 // half of the scores at each end
	within := func(what, id string, x *float64, low, high float64) error {
		if x == nil || *x >= low && *x <= high { // NaN is not
			return nil
		}
		return fmt.Errorf("%s of %s is %v; allowed is %v to %v", what, id, *x, low, high)
	}
	for i := range d.Responses {
		r := &d.Responses[i]
		if err := cmp.Or(within("score_mean", r.ID, r.ScoreMean, 0, most), within("score_variance", r.ID, r.ScoreVariance, 0, mostVariance)); err != nil {
			return err
		}
		if r.Chars < 0 {
			return fmt.Errorf("chars of %s is %d; allowed is at least 0", r.ID, r.Chars)
		}
	}
	for i := range d.Judgments {
		j := &d.Judgments[i]
		if err := cmp.Or(within("score", j.ID, j.Score, 0, most), within("elo", j.ID, j.Elo, -mostElo, mostElo)); err != nil {
			return err
		}
	}
	return nil
}

func responsePrompt(r *Response) string     { return r.PromptID }
func judgmentPrompt(j *Judgment) string     { return j.PromptID }
func comparisonPrompt(c *Comparison) string { return c.PromptID }
func failurePrompt(f *schemas.FailureRow) string {
	if f.PromptID == nil {
		return ""
	}
	return *f.PromptID
}
