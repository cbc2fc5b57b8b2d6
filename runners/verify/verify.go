// Package verify checks that the files of a run follow from its raw texts and its settings.
//
// [Out] reads a run's folder, and neither the journal nor a server. It checks that
//
//   - every file in run.json exists with its size, SHA-256, columns and number of rows, and that the
//     tables' folders contain no other Parquet file;
//   - rows are sorted, in their shard and unique; IDs are hashes of their rows' content; every
//     reference leads to a row; every call that the config asks for has a row or a failure;
//   - recorded scores and verdicts don't contradict their texts; means, variances and the contested
//     response follow from the scores;
//   - every choice and every pair of both roles, or the reason for none, follows from the raw tables;
//   - the ledger adds up, and the ledger, the position weights and the figures of run.json are those
//     of the tables;
//   - the dataset card offers each role with pairs, with the digest of its files.
//
// Scores, verdicts, contested responses, tiers and ratings are derived by package reference, which
// shares no code with the transforms that wrote the run. Shared with the writer are the ID hashes,
// the Parquet reader, and the judge's prompt template, which renders the prompts of judge pairs.
//
// An ID hashes its row's content and the IDs of its parents. Rows are sorted and in their shard, so a row
// that differs from the previous one is unique in the whole table.
//
// Package reference decides the usual endings of texts. [Reading] counts the texts that it can't
// decide: their recorded values are neither confirmed nor refuted.
//
// Out can't check that a server wrote the texts. Nor can it check values that no other file determines:
//
//   - token counts, reasoning, own IDs, metadata and source lines;
//   - the messages and the causes of failures and bad lines;
//   - the text of a comparison apart from its verdict, and whether a text was cut off;
//   - the number of merged lines and of lines that were not drawn.
//
// A change to one of these, with matching hashes in run.json and the card, is not detected.
//
// Ratings may differ by 1e-9 from the recorded ones, because processors round differently.
//
// Memory is a few pages of each file of as many shards as there are cores, and the rows of one prompt.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/rundir"
	"coeval/runners/runs"
	"coeval/runners/verify/reference"
	"coeval/schemas"
)

const runFile = rundir.RunFile

// maxProblems is the number of problems that a report lists.
const maxProblems = 100

// Report is the result of [Out]. The run is proved if Problems is empty.
type Report struct {
	// Problems are the first 100 problems. Each is a sentence with the file, the row and the column, the
	// value and the right value. Problems of files come first, then those of the card, of the figures in
	// run.json, and of rows by shard and prompt.
	Problems []string `json:"problems"`
	// More is the number of problems that are not listed.
	More int64 `json:"more"`
	// Files, Rows and Prompts are counts of the data that was read.
	Files   int64 `json:"files"`
	Rows    int64 `json:"rows"`
	Prompts int64 `json:"prompts"`
	// ActorPairs and JudgePairs count the pairs that were derived again.
	ActorPairs int64 `json:"actor_pairs"`
	JudgePairs int64 `json:"judge_pairs"`
	// Judgments and Comparisons count how texts and recorded values relate.
	Judgments   Reading `json:"judgments"`
	Comparisons Reading `json:"comparisons"`
}

// Reading counts texts by the relation of their recorded value to the independent reading of the text.
// A contradiction is a problem and counts nowhere.
type Reading struct {
	// Confirmed: the text ends with the recorded value.
	Confirmed int64 `json:"confirmed"`
	// Unconfirmed: the independent reader can't read the text's ending.
	Unconfirmed int64 `json:"unconfirmed"`
	// CutOff: the row has no value because its text was cut off, which is not visible in the text.
	CutOff int64 `json:"cut_off"`
}

func (r *Reading) add(s Reading) {
	r.Confirmed += s.Confirmed
	r.Unconfirmed += s.Unconfirmed
	r.CutOff += s.CutOff
}

// Out verifies the run in a folder. Problems of the run are in the report, and so is a run that is
// missing or not complete. The error is that of ctx, or of a folder that can't be read at all.
func Out(ctx context.Context, dir string) (Report, error) {
	var found problems
	report, err := verify(ctx, dir, &found)
	if err == nil {
		err = ctx.Err() // a file that could not be read for this reason is no problem of the run
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	report.Problems, report.More = found.list, found.more
	return report, nil
}

func verify(ctx context.Context, dir string, found *problems) (Report, error) {
	var report Report
	r, err := openRun(ctx, dir, found)
	if err != nil || r == nil {
		return report, err
	}
	r.checkPaths(ctx, found)
	verified, err := r.verifyShards(ctx)
	if err != nil {
		return report, err
	}
	var sum figures
	var files, rows problems
	var balanced balance
	for _, v := range verified {
		balanced.add(&v.balance)
		files.join(&v.files)
		rows.join(&v.rows)
		sum.add(&v.figures)
	}
	found.join(&files)
	r.checkCard(ctx, &sum, found)
	r.checkFigures(&sum, found)
	balanced.check(&r.Settings.Method, found)
	found.join(&rows)
	report.Files, report.Rows, report.Prompts = sum.files, sum.rows, sum.stats.Prompts
	report.ActorPairs, report.JudgePairs = sum.stats.Actor.Pairs, sum.stats.Judge.Pairs
	report.Judgments, report.Comparisons = sum.judgments, sum.comparisons
	return report, nil
}

// A run is the run that all shards are compared with.
type run struct {
	*runs.Run

	// files are the files in run.json by path.
	files map[string]schemas.File
	// scores and verdicts read the texts.
	scores, verdicts *reference.Ending
}

// openRun reads run.json strictly. It returns nil and reports a problem if the run can't be verified.
func openRun(ctx context.Context, dir string, found *problems) (*run, error) {
	opened, err := runs.Open(ctx, dir)
	if unusable := (*runs.InvalidError)(nil); errors.As(err, &unusable) {
		found.add("%s", unusable)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(opened.JSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&schemas.Run{}); err != nil {
		found.add("%s can't be read: %v", runFile, err)
		return nil, nil
	}
	r := &run{Run: opened, files: map[string]schemas.File{}, scores: reference.Scores(opened.Settings.Scale()), verdicts: reference.Verdicts()}
	for _, own := range []struct {
		key, pattern string
		ending       **reference.Ending
	}{{"judge.pattern", opened.Settings.Judge.Pattern, &r.scores}, {"meta_judge.pattern", opened.Settings.MetaJudge.Pattern, &r.verdicts}} {
		if own.pattern == "" {
			continue
		}
		pattern, err := regexp.Compile(own.pattern)
		if err != nil {
			found.add("%s: %s in the config can't be compiled: %v", runFile, own.key, err)
			return nil, nil
		}
		*own.ending = (*own.ending).WithPattern(pattern)
	}
	return r, nil
}

// verifyShards verifies as many shards at a time as there are cores.
func (r *run) verifyShards(ctx context.Context) ([]*shard, error) {
	verified := make([]*shard, r.Shards)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for number := range verified {
		group.Go(func() error {
			verified[number] = &shard{run: r, number: number}
			verified[number].verify(ctx)
			return ctx.Err()
		})
	}
	return verified, group.Wait()
}
