// Package verify checks that the files of a run follow from its raw texts and its settings.
//
// [Out] reads a run's folder and uses no server. In the journal's folder it reads two things: the recorded
// digest of run.json, and whether real servers or the simulated worker answered. It checks that
//
//   - every file in run.json exists with its size, SHA-256, columns and number of rows, and that the
//     tables' folders contain no other Parquet file;
//   - rows are sorted, unique and in the right shard; each ID is the hash of its row's content; every
//     referenced row exists; each call that the config requires has a row or a failure;
//   - recorded scores and verdicts don't contradict their texts; means, variances and the contested
//     response follow from the scores;
//   - every pair of both roles, or the reason why there is none, follows from the raw tables;
//   - the ledger adds up, and the ledger, the position weights and the figures of run.json are those
//     of the tables;
//   - run.json does not hide simulated answers;
//   - the dataset card, and the journal if there is one, have the digest of run.json;
//   - for each role with pairs, the card has a dataset configuration (as in Hugging Face's cards) with the
//     digest of its files.
//
// Package endings compares scores and verdicts with their texts. Package reference derives contested responses,
// tiers and ratings. Neither shares code with the transforms that wrote the run. The ID hashes, the row order,
// the assignment to shards and the Parquet reader are the writer's code. So are the types and defaults of the
// settings, the digest of run.json, and the rendering of the judge's prompt template.
//
// An ID is the hash of its row's content and of its parents' IDs. Rows are sorted and in the right
// shard, so comparing each row with the previous one proves that the table has no duplicates.
//
// Package endings parses only texts with the usual endings. [endings.Counts] counts the others: their recorded
// values are neither confirmed nor refuted.
//
// Out can't check that a server wrote the texts. Nor can it check values that no other file determines:
//
//   - token counts, reasoning, IDs and metadata of the input, and source lines;
//   - the messages and the causes of failures and bad lines;
//   - the text of a comparison apart from its verdict, and whether a text was cut off;
//   - the number of merged lines, and of lines that a sample or a slice left out.
//
// A change to one of these is not detected if the digests in run.json, the card and the journal match it.
//
// Ratings may differ by 1e-9 from the recorded ones, because processors round differently.
//
// Each core checks one shard at a time. It keeps in memory a few pages of each of the shard's files, and the
// rows of one prompt.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/rundir"
	"coeval/runners/runs"
	"coeval/runners/verify/endings"
	"coeval/runners/verify/problems"
	"coeval/runners/verify/rows"
	"coeval/schemas"
)

const runFile = rundir.RunFile

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
	Judgments   endings.Counts `json:"judgments"`
	Comparisons endings.Counts `json:"comparisons"`
}

// Out verifies the run in a folder. Problems of the run are in the report, and so is a run that is
// missing or not complete. The error is the error of ctx, or of a folder that can't be read at all.
func Out(ctx context.Context, dir string) (Report, error) {
	var found problems.List
	report, err := verify(ctx, dir, &found)
	if err == nil {
		err = ctx.Err() // a file that could not be read for this reason is no problem of the run
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	report.Problems, report.More = found.Listed, found.More
	return report, nil
}

func verify(ctx context.Context, dir string, found *problems.List) (Report, error) {
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
	var inFiles, inRows problems.List
	for _, v := range verified {
		inFiles.Join(&v.inFiles)
		inRows.Join(&v.inRows)
		sum.add(&v.figures)
	}
	found.Join(&inFiles)
	r.checkCard(ctx, &sum, found)
	r.checkFigures(&sum, found)
	sum.Balance.Check(&r.Settings.Method, found)
	found.Join(&inRows)
	report.Files, report.Rows, report.Prompts = sum.files, sum.rows, sum.Stats.Prompts
	report.ActorPairs, report.JudgePairs = sum.Stats.Actor.Pairs, sum.Stats.Judge.Pairs
	report.Judgments, report.Comparisons = sum.Judgments, sum.Comparisons
	return report, nil
}

// A run is the run that all shards are compared with.
type run struct {
	*rows.Run

	// files are the files in run.json by path.
	files map[string]schemas.File
}

// openRun reads run.json strictly. It returns nil and reports a problem if the run can't be verified.
func openRun(ctx context.Context, dir string, found *problems.List) (*run, error) {
	opened, err := runs.Open(ctx, dir)
	if unusable := (*runs.InvalidError)(nil); errors.As(err, &unusable) {
		found.Add("%s", unusable)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(opened.JSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&schemas.Run{}); err != nil {
		found.Add("%s can't be read: %v", runFile, err)
		return nil, nil
	}
	compared, err := rows.NewRun(opened)
	if err != nil {
		found.Add("%s: %v", runFile, err)
		return nil, nil
	}
	return &run{Run: compared, files: map[string]schemas.File{}}, nil
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
