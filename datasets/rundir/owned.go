package rundir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"coeval/datasets/shards"
	"coeval/datasets/store"
)

// Owned returns the shards below a run's folder that an earlier run lists, in run.json or in
// [CommitFile]: only these may be replaced or removed. The paths are relative to the folder. The lists may
// come from anyone, so that only names of shards count.
func Owned(ctx context.Context, out string) (map[string]bool, error) {
	owned := map[string]bool{}
	run, err := ReadRun(ctx, out)
	if err != nil {
		return nil, err
	}
	if run != nil {
		for _, f := range run.Files {
			if IsShard(f.Path) {
				owned[f.Path] = true
			}
		}
	}
	c, err := readCommit(ctx, out)
	if err != nil {
		return nil, err
	}
	for _, name := range c.Files {
		if IsShard(name) {
			owned[name] = true
		}
	}
	return owned, nil
}

// maxFooter bounds the part of a Parquet file that is searched for its writer's name, one of the last
// fields of the footer.
const maxFooter = 4 << 10

func writtenByCoeval(ctx context.Context, name string) (own bool, err error) {
	r, err := store.Open(ctx, name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	end := make([]byte, min(r.Size(), maxFooter))
	_, err = r.ReadAt(end, r.Size()-int64(len(end)))
	return bytes.HasSuffix(end, []byte("PAR1")) && bytes.Contains(end, []byte("coeval version ")), ignoreEOF(err)
}

// commitList is the content of [CommitFile].
type commitList struct {
	// Files are the paths of the files that the commit writes, replaces or removes.
	Files []string `json:"files"`
}

func readCommit(ctx context.Context, out string) (c commitList, err error) {
	name := store.Join(out, CommitFile)
	b, err := store.ReadSmall(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("rundir: %s: %w", name, err)
	}
	return c, nil
}

// BeginCommit checks that no foreign file would be replaced, and records the files that the run owns
// from now on: the earlier run's files and the new ones. It returns the shards that the new run no
// longer has. The record survives a crash, so that the next commit knows the remains of this one.
func BeginCommit(ctx context.Context, out string, files []string) (obsolete []string, err error) {
	if err := Check(ctx, out, true); err != nil {
		return nil, err
	}
	owned, err := Owned(ctx, out)
	if err != nil {
		return nil, err
	}
	for name := range owned {
		if !slices.Contains(files, name) {
			obsolete = append(obsolete, name)
		}
	}
	slices.Sort(obsolete)
	for _, name := range files {
		if !IsShard(name) {
			return nil, fmt.Errorf("rundir: %s is not the name of a shard", name)
		}
		owned[name] = true
	}
	b, err := json.MarshalIndent(&commitList{Files: slices.Sorted(maps.Keys(owned))}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("rundir: %w", err)
	}
	return obsolete, store.WriteFile(ctx, store.Join(out, CommitFile), append(b, '\n'))
}

// EndCommit removes the record of [BeginCommit], since run.json lists the files now, and the run's
// staged files.
func EndCommit(ctx context.Context, out string) error {
	if err := store.Remove(ctx, store.Join(out, CommitFile)); err != nil {
		return err
	}
	staging := store.Join(out, StagingFolder)
	found, err := store.List(ctx, staging+"/")
	if err != nil {
		return err
	}
	var staged []string
	for _, f := range found {
		attempt, name, _ := strings.Cut(strings.TrimPrefix(f.Path, staging+"/"), "/")
		if attempt != "" && IsShard(name) {
			staged = append(staged, f.Path)
		}
	}
	if err := store.RemoveFiles(ctx, staged); err != nil {
		return err
	}
	attempts, err := store.Folders(ctx, staging)
	if err != nil {
		return err
	}
	for _, attempt := range attempts {
		for _, t := range shards.AllTables {
			if err := store.Sweep(ctx, store.Join(staging, attempt, string(t))); err != nil {
				return err
			}
		}
	}
	if err := store.RemoveEmpty(ctx, staging); err != nil {
		return err
	}
	return store.Sweep(ctx, out)
}

// WriteOwn writes the output file of a command, after [CheckOwn].
func WriteOwn(ctx context.Context, name string, data []byte, isOwn func(start []byte) bool) error {
	if err := CheckOwn(ctx, name, isOwn); err != nil {
		return err
	}
	return store.WriteFile(ctx, name, data)
}

// CheckOwn returns a [*Refused] if a file of this name exists and isOwn does not recognize its beginning
// as the output of an earlier command.
func CheckOwn(ctx context.Context, name string, isOwn func(start []byte) bool) (err error) {
	if store.HasLocks(name) {
		if is, err := os.Lstat(name); err == nil && !is.Mode().IsRegular() {
			return refuse("%s is %s: move it away, or choose another name", name, kindOf(is))
		}
	}
	r, err := store.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	start := make([]byte, min(r.Size(), maxCard))
	_, err = r.ReadAt(start, 0)
	if err := ignoreEOF(err); err != nil {
		return err
	}
	if !isOwn(start) {
		return refuse("%s exists and was not written by Coeval: move it away, or choose another name", name)
	}
	return nil
}

// CheckOwnTable returns a [*Refused] if a file of this name exists and its footer does not name Coeval as
// the writer.
func CheckOwnTable(ctx context.Context, name string) error {
	err := CheckOwn(ctx, name, func(start []byte) bool { return bytes.HasPrefix(start, []byte("PAR1")) })
	if err != nil {
		return err
	}
	switch own, err := writtenByCoeval(ctx, name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !own:
		return refuse("%s exists and was not written by Coeval: move it away, or choose another name", name)
	}
	return nil
}

// IsPage recognizes the pages that Coeval writes, for [WriteOwn].
func IsPage(start []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(start), []byte("<!DOCTYPE html>")) && bytes.Contains(start, []byte("<title>Coeval"))
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
