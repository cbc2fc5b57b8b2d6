package prompts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"coeval/datasets/store"
)

const parquetKind = ".parquet"

// kinds are the endings of the files that can be read.
var kinds = []string{".jsonl", ".ndjson", ".json", ".csv", ".tsv", parquetKind}

func supported() string {
	return strings.Join(kinds, ", ") + ", and all but the last with .gz or .zst"
}

func isTable(kind string) bool { return kind == ".csv" || kind == ".tsv" }

// kindOf splits a path's ending into one of kinds and how the file is compressed.
func kindOf(path string) (kind, compression string, ok bool) {
	path = strings.ToLower(path)
	for _, ending := range []string{".gz", ".zst"} {
		if before, ok0 := strings.CutSuffix(path, ending); ok0 {
			path, compression = before, ending
			break
		}
	}
	for _, kind := range kinds {
		if strings.HasSuffix(path, kind) && (kind != parquetKind || compression == "") {
			return kind, compression, true
		}
	}
	return "", "", false
}

// Expand returns the files that paths stand for, each a file, a folder or a pattern, sorted
// and each once. A folder or pattern stands for those of its files that can be read, without
// subfolders and hidden files; its tables are read only where it has no other file of
// prompts, since they are often about the prompts. A path that stands for nothing that can be
// read is an error.
func Expand(ctx context.Context, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("prompts: no file is given")
	}
	var all []string
	for _, path := range paths {
		files, err := expand(ctx, path)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func expand(ctx context.Context, path string) ([]string, error) {
	found, err := store.Find(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("prompts: %w", err)
	}
	if len(found) == 0 {
		return nil, notFound(path)
	}
	var files, tables []string
	for _, f := range found {
		kind, _, ok := kindOf(f.Path)
		switch {
		case !ok:
		case !utf8.ValidString(f.Path):
			return nil, fmt.Errorf("prompts: %q: the name is not valid UTF-8, as tables need it; rename the file", f.Path)
		case isTable(kind):
			tables = append(tables, store.Join(f.Path))
		default:
			files = append(files, store.Join(f.Path))
		}
	}
	if len(files) == 0 {
		files = tables
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("prompts: %s: no file that can be read; supported are %s", show(path), supported())
	}
	return files, nil
}

// notFound is the error of a path that stands for nothing, with the likely reason.
func notFound(path string) error {
	hint := ""
	switch {
	case strings.HasPrefix(path, "~"):
		hint = "; ~ is not expanded here: write the whole path"
	case strings.HasPrefix(path, "$"):
		hint = "; variables are not expanded here: write the whole path"
	case strings.Contains(path, "**"):
		hint = "; ** is not supported: name each folder, or write * for one level"
	case strings.ContainsAny(path, "{}"):
		hint = "; {a,b} is not supported: give each path"
	}
	return fmt.Errorf("prompts: %s: there is no such file, or no file in it%s", show(path), hint)
}
