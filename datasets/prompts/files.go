package prompts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"coeval/datasets/store"
)

const parquetKind = ".parquet"

// kinds are the endings of the files that can be read.
var kinds = []string{".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".yaml", ".yml", parquetKind}

func supported() string {
	return strings.Join(kinds, ", ") + ", and all but the last with .gz or .zst"
}

// refused returns the error of a file whose kind is not read, with the nearest kind that is.
func refused(path string) error {
	advice := ""
	for ending, a := range map[string]string{
		".xlsx": "save the sheet as .csv", ".xls": "save the sheet as .csv", ".ods": "save the sheet as .csv",
		".arrow": "write it with to_parquet or to_json(lines=True)", ".feather": "write it with to_parquet or to_json(lines=True)",
		".pkl": "write it with to_parquet or to_json(lines=True)", ".pickle": "write it with to_parquet or to_json(lines=True)", ".orc": "write it as .parquet",
		".md": "write a prompt a line into a .txt file", ".docx": "write a prompt a line into a .txt file", ".pdf": "write a prompt a line into a .txt file", ".html": "write a prompt a line into a .txt file",
		".zip": "unpack it", ".tar": "unpack it", ".tgz": "unpack it", ".tar.gz": "unpack it", ".bz2": "unpack it", ".xz": "unpack it", ".7z": "unpack it", ".lz4": "unpack it",
		".parquet.gz": "unpack it", ".parquet.zst": "unpack it", ".db": "export the table as .csv", ".sqlite": "export the table as .csv",
	} {
		if strings.HasSuffix(strings.ToLower(path), ending) {
			advice = "; " + a
		}
	}
	return fmt.Errorf("prompts: %s: files of this kind can't be read; supported are %s%s", show(path), supported(), advice)
}

// descriptions are the files with which Hugging Face describes the others of a folder.
var descriptions = []string{"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}

// rank orders the kinds in a folder: files of a later rank are read only if the folder has none of an
// earlier rank: tables are often about the prompts, and other texts are licenses or configs.
func rank(kind string) int {
	switch kind {
	case ".csv", ".tsv":
		return 1
	case ".txt", ".yaml", ".yml":
		return 2
	}
	return 0
}

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

// IsTable reports whether a file has an ending of prompts alone, which no config has.
func IsTable(path string) bool {
	kind, compression, ok := kindOf(path)
	return ok && (compression != "" || !slices.Contains([]string{".json", ".yaml", ".yml", ".txt"}, kind))
}

// Expand returns the files that paths stand for, each a file, a folder or a pattern, sorted and each
// once. A folder or pattern stands for its readable files, without subfolders and hidden files. Of a
// folder, only the files of the first [rank] are read. A path that stands for nothing that can be read
// is an error.
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
	var ranks [3][]string
	alone := len(found) == 1 && found[0].Path == path
	for _, f := range found {
		kind, _, ok := kindOf(f.Path)
		switch {
		case !ok || !alone && slices.Contains(descriptions, filepath.Base(f.Path)):
		case !utf8.ValidString(f.Path):
			return nil, fmt.Errorf("prompts: %q: the name is not valid UTF-8, as tables need it; rename the file", f.Path)
		default:
			ranks[rank(kind)] = append(ranks[rank(kind)], store.Join(f.Path))
		}
	}
	for _, files := range ranks {
		if len(files) > 0 {
			return files, nil
		}
	}
	if alone {
		return nil, refused(path)
	}
	return nil, fmt.Errorf("prompts: %s: no file that can be read; supported are %s", show(path), supported())
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
