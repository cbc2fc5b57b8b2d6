// Package runs reads a finished run: run.json, the settings in it, and the rows of its tables.
//
// verify, inspect, report and compare all read through this package, so that all of them accept and
// refuse the same folders. [Open] returns a one-sentence error for a folder without a finished run.
// [Run.Each] reads a shard prompt by prompt without its texts, which takes seconds for gigabytes.
// [OpenTable] reads one file prompt by prompt, [EachRow] all files of a table, and [PromptRows] the
// rows of one prompt.
//
// A [Run] contains no rows. Reading keeps in memory a few pages of each open file and the rows of one prompt.
//
// The package does not check that rows agree with each other or with run.json: package verify does.
package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
)

// A Run is a finished run in a folder.
type Run struct {
	// Dir is the folder as the user wrote it.
	Dir string
	// JSON is the content of run.json, Manifest and Settings its decoded form.
	JSON     []byte
	Manifest *schemas.Run
	Settings Settings
	// Shards is the number of shards of each table.
	Shards int
}

// An InvalidError reports a folder without a finished run, or a run.json that can't be used.
type InvalidError struct{ problem string }

func (e *InvalidError) Error() string { return e.problem }

func invalid(format string, args ...any) error {
	return &InvalidError{problem: fmt.Sprintf(format, args...)}
}

// Open reads run.json of the run in a folder. If the folder holds no finished run, or run.json can't
// be used, the error is an [InvalidError] of one sentence. Other errors come from the store.
func Open(ctx context.Context, dir string) (*Run, error) {
	name := store.Join(dir, rundir.RunFile)
	b, err := readBounded(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	r := &Run{Dir: dir, JSON: b, Manifest: &schemas.Run{}}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &format); err != nil {
		return nil, invalid("%s can't be read as JSON: %v", name, err)
	}
	if format.Format != schemas.RunFormat {
		return nil, invalid("%s: format is %d; this program reads format %d", name, format.Format, schemas.RunFormat)
	}
	if err := json.Unmarshal(b, r.Manifest); err != nil {
		return nil, invalid("%s can't be read: %v", name, err)
	}
	if r.Settings, err = decodeSettings(r.Manifest.Config); err != nil {
		return nil, invalid("%s: config can't be used: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, f := range r.Manifest.Files {
		if strings.HasPrefix(f.Path, string(shards.Prompts)+"/") {
			r.Shards++
		}
	}
	if r.Shards == 0 {
		return nil, invalid("%s: files lists no shard of %s; the run cannot be read", name, shards.Prompts)
	}
	return r, nil
}

// maxRunBytes bounds run.json: about 200 bytes for each of 100,000 files, and the statistics.
const maxRunBytes = 64 << 20

// readBounded reads run.json, unless it is larger than any run writes.
func readBounded(ctx context.Context, name string) (b []byte, err error) {
	f, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() > maxRunBytes {
		return nil, invalid("%s has %d bytes; allowed are %d: it is not the run.json of a run", name, f.Size(), maxRunBytes)
	}
	b = make([]byte, f.Size())
	if _, err := io.ReadFull(f.Stream(0), b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := store.CheckValues(name, b); err != nil {
		return nil, invalid("%v", err)
	}
	return b, nil
}

// missing explains why a folder has no run.json.
func missing(ctx context.Context, dir string) error {
	files, err := store.List(ctx, strings.TrimSuffix(dir, "/")+"/")
	switch {
	case err != nil:
		return err
	case len(files) == 0:
		return invalid("%s: there is no run in this folder: it is empty or does not exist; check the path", dir)
	}
	for _, f := range files {
		rest := strings.TrimPrefix(strings.TrimPrefix(f.Path, strings.TrimSuffix(dir, "/")), "/")
		if strings.HasPrefix(rest, "journal/") {
			return invalid("%s: the run is not complete: %s is missing; repeat the same coeval run command to finish it", dir, rundir.RunFile)
		}
	}
	return invalid("%s: %s is missing, so this is not the folder of a coeval run; check the path", dir, rundir.RunFile)
}

// Path returns the path of a shard of a table.
func (r *Run) Path(table shards.Table, shard int) string {
	return store.Join(r.Dir, shards.Path(table, shard, r.Shards))
}
