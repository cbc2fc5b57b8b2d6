// Package verify proves what a run wrote.
//
// [Out] reads a run's folder and nothing else: not the journal, and no worker. It checks that
//
//   - every file that run.json names is there with its size, SHA-256, columns and number of
//     rows, and that no other Parquet file lies in the tables' folders;
//   - rows are sorted, in their shard, and there once; IDs are those of what the rows say; what a
//     row refers to exists; every call that the config asks for left a row or a failure;
//   - scores and verdicts are what the texts say, and means, variances and the contested response
//     follow from them;
//   - every choice and every pair of both roles, or the reason why there is none, follows from the
//     raw tables, without the code that wrote them: only the formulas of package pairs are shared;
//   - the ledger adds up, and it, the position weights and the figures of run.json are those of
//     the tables;
//   - the dataset card offers each role that has pairs, with the digest of its files.
//
// As an ID is a hash of its row's content and of the IDs above it, a row that is in its shard and
// differs from the row before it is there once in the whole table.
//
// It does not prove that a worker said what the tables hold, nor what nothing else in the folder
// determines: token counts, thoughts, own IDs, metadata, the place of a prompt in the input, what
// is wrong with a bad line, the messages of failures, a comparison's text but for its verdict, how
// many lines were merged or not drawn, and whether a text was cut off, which can't be seen in it.
// Whoever changes such a value and run.json with it is not found out. Ratings may differ by 1e-9
// from the ones that were written, as another architecture rounds otherwise.
//
// Memory is some pages of each file of as many shards as there are cores, and one prompt's rows.
package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"

	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/transforms/sink"
)

const runFile = sink.RunFile

// maxProblems is how many problems a report lists.
const maxProblems = 100

// Report is what [Out] found. The data is proved when Problems is empty.
type Report struct {
	// Problems are the first 100 problems, each a sentence that names file, row and column with
	// the value and what it should be. Those of files come first, then the card, then figures of
	// run.json, then rows, by shard and prompt.
	Problems []string `json:"problems"`
	// More is the number of problems that are not listed.
	More int64 `json:"more"`
	// Files, Rows and Prompts were read.
	Files   int64 `json:"files"`
	Rows    int64 `json:"rows"`
	Prompts int64 `json:"prompts"`
	// ActorPairs and JudgePairs are the pairs that were computed again.
	ActorPairs int64 `json:"actor_pairs"`
	JudgePairs int64 `json:"judge_pairs"`
}

// Out verifies the run in a folder. What is wrong with the run is in the report, a run that is
// not complete included. It returns an error only when ctx ends or the folder's path can't be
// read at all.
func Out(ctx context.Context, dir string) (Report, error) {
	var found notes
	report, err := verify(ctx, dir, &found)
	if err == nil {
		err = ctx.Err() // files that could not be read for this reason are no problem of the run
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	report.Problems, report.More = found.list, found.more
	return report, nil
}

func verify(ctx context.Context, dir string, found *notes) (Report, error) {
	var report Report
	manifest, err := readRun(ctx, dir, found)
	if err != nil || manifest == nil {
		return report, err
	}
	s, err := decodeSettings(manifest.Config)
	if err != nil {
		found.add("%s: config can't be used: %v", runFile, err)
		return report, nil
	}
	r := &run{dir: dir, manifest: manifest, settings: s, files: map[string]schemas.File{}}
	r.checkPaths(ctx, found)
	if r.shards == 0 {
		return report, nil
	}
	verified, err := r.verifyShards(ctx)
	if err != nil {
		return report, err
	}
	var sum figures
	var files, rows notes
	for _, v := range verified {
		files.join(&v.files)
		rows.join(&v.rows)
		sum.add(&v.figures)
	}
	found.join(&files)
	r.checkCard(ctx, &sum, found)
	r.checkFigures(&sum, found)
	found.join(&rows)
	report.Files, report.Rows, report.Prompts = sum.files, sum.rows, sum.stats.Prompts
	report.ActorPairs, report.JudgePairs = sum.stats.Actor.Pairs, sum.stats.Judge.Pairs
	return report, nil
}

// readRun returns run.json, or nil and a problem.
func readRun(ctx context.Context, dir string, found *notes) (*schemas.Run, error) {
	b, err := store.ReadFile(ctx, store.Join(dir, runFile))
	if errors.Is(err, fs.ErrNotExist) {
		found.add("%s is missing: the run in %s is not complete, and the same coeval run command finishes it; or there is none", runFile, dir)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &format); err != nil {
		found.add("%s can't be read: %v", runFile, err)
		return nil, nil
	}
	if format.Format != schemas.RunFormat {
		found.add("%s: format is %d, and this program reads format %d only", runFile, format.Format, schemas.RunFormat)
		return nil, nil
	}
	var manifest schemas.Run
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&manifest); err != nil {
		found.add("%s can't be read: %v", runFile, err)
		return nil, nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		found.add("%s has more than one JSON value in it", runFile)
		return nil, nil
	}
	return &manifest, nil
}

// A run is what all shards are held against.
type run struct {
	dir      string
	manifest *schemas.Run
	settings *settings
	// shards is the number of shards of each table.
	shards int
	// files are those of run.json by their path.
	files map[string]schemas.File
}

// verifyShards verifies as many shards at a time as there are cores.
func (r *run) verifyShards(ctx context.Context) ([]*shard, error) {
	verified := make([]*shard, r.shards)
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
