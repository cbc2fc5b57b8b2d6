package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/runners/verify/problems"
	"coeval/schemas"
)

// tables returns the tables of the run. A role that was not asked for has no files.
func (r *run) tables() []shards.Table {
	var tables []shards.Table
	for _, t := range shards.Tables {
		if t == shards.Actor && !r.Settings.Wants(schemas.RoleActor) || t == shards.Judge && !r.Settings.Wants(schemas.RoleJudge) {
			continue
		}
		tables = append(tables, t)
	}
	if r.HasReads() {
		tables = append(tables, shards.Reads)
	}
	return tables
}

// checkPaths compares the paths in run.json, and the files in the tables' folders, with those that a
// run of this size and these roles has.
func (r *run) checkPaths(ctx context.Context, found *problems.List) {
	for _, f := range r.Manifest.Files {
		if _, ok := r.files[f.Path]; ok {
			found.Add("%s: files names %s twice", runFile, f.Path)
		}
		r.files[f.Path] = f
	}
	expected := map[string]bool{}
	for _, t := range r.tables() {
		for number := range r.Shards {
			path := shards.Path(t, number, r.Shards)
			expected[path] = true
			if _, ok := r.files[path]; !ok {
				found.Add("%s: files lacks %s", runFile, path)
			}
		}
	}
	for _, f := range r.Manifest.Files {
		if !expected[f.Path] {
			found.Add("%s: files names %s, which is no file of a run with %d shards and these roles", runFile, f.Path, r.Shards)
		}
	}
	r.checkOthers(ctx, expected, found)
}

// checkOthers reports Parquet files that are not part of the run.
func (r *run) checkOthers(ctx context.Context, expected map[string]bool, found *problems.List) {
	for _, t := range shards.AllTables {
		folder := store.Join(r.Dir, string(t)) + "/"
		files, err := store.List(ctx, folder)
		if err != nil {
			found.Add("%s can't be listed: %v", t, err)
			continue
		}
		for _, f := range files {
			path := string(t) + "/" + strings.TrimPrefix(f.Path, folder)
			if _, named := r.files[path]; strings.HasSuffix(path, ".parquet") && !(named && expected[path]) {
				found.Add("%s is not a file of this run: %s doesn't name it", path, runFile)
			}
		}
	}
}

// checkFile compares size and SHA-256 of a file with run.json. It returns the SHA-256, empty if the file
// can't be read.
func (r *run) checkFile(ctx context.Context, path string, found *problems.List) string {
	want := r.files[path]
	digest, size, err := digestFile(ctx, store.Join(r.Dir, path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found.Add("%s is missing", path)
		return ""
	case err != nil:
		found.Add("%s can't be read: %v", path, err)
		return ""
	}
	if size != want.Bytes {
		found.Add("%s has %d bytes, but %s lists %d", path, size, runFile, want.Bytes)
	}
	if digest != want.SHA256 {
		found.Add("%s has the SHA-256 %s, but %s lists %s: it is not the file that the run wrote", path, digest, runFile, want.SHA256)
	}
	return digest
}

func digestFile(ctx context.Context, name string) (digest string, size int64, err error) {
	f, err := store.Open(ctx, name)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	size, err = io.Copy(h, f.Stream(0))
	if err != nil {
		return "", 0, fmt.Errorf("after byte %d: %w", size, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
