// Package folder decides whether a loop may work in a folder.
//
// A loop never changes or removes files that it did not write, and never writes through a symbolic link in its folder.
// Package rundir has the rules that the folders of runs share.
package folder

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coeval/datasets/lock"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
)

// Check returns a [*rundir.Refused] error unless a loop may work in a folder: the folder is missing or
// empty, or an earlier loop has used it. The folder may be a link. A link or a special file directly in it
// is refused, because a loop would write through it.
func Check(ctx context.Context, dir string) error {
	if err := rundir.CheckPlace(dir); err != nil {
		return err
	}
	names, err := store.Names(ctx, dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, rundir.IsLitter)
	if len(names) == 0 {
		return nil
	}
	used, err := lock.Exists(ctx, dir)
	if err == nil && !used {
		used, err = rundir.Begun(ctx, dir, names)
	}
	if err != nil {
		return err
	}
	if !used || slices.Contains(names, rundir.RunFile) || slices.Contains(names, rundir.JournalFolder+"/") {
		return rundir.Refuse(fmt.Sprintf("%s contains files that are not a loop's (%s): choose another dir; files that are not the loop's are never changed or removed", dir, rundir.Some(names)))
	}
	for _, name := range names {
		is, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if kind := is.Mode().Type(); kind != 0 && kind != fs.ModeDir {
			return refuseLink(filepath.Join(dir, name))
		}
		if is.IsDir() && strings.HasPrefix(name, "it-") {
			if err := checkIteration(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func refuseLink(name string) error {
	return rundir.Refuse(fmt.Sprintf("%q in %s is a link or a special file, and a loop writes through none: remove it, or choose another dir", filepath.Base(name), filepath.Dir(name)))
}

// checkIteration returns an error if the folder of an iteration has a link or a special file in the place of a file or
// folder that the loop writes. Other folders, such as the model and the logs of a trainer, may have links.
func checkIteration(dir string) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case entry.Type()&^fs.ModeDir != 0 && isLoopFile(rel):
			return refuseLink(name)
		case entry.IsDir() && rel != "." && rel != "future" && !isInSet(strings.TrimPrefix(rel, "future/")):
			return fs.SkipDir // a run checks its own folder
		}
		return nil
	})
}

// isInSet reports whether a name is the training set of an iteration or a part of it.
func isInSet(name string) bool { return name == "set" || strings.HasPrefix(name, "set/") }

// isLoopFile reports whether the loop writes a file or a folder of this name below the folder of an iteration.
func isLoopFile(name string) bool {
	if name == "data" || name == "judge" || name == "future" {
		return true
	}
	name = strings.TrimPrefix(name, "future/") // its files are like those of the iteration
	if isInSet(name) {
		return true
	}
	if strings.Contains(name, "/") {
		return false
	}
	base := strings.TrimSuffix(name, ".tmp")
	for _, suffix := range []string{".yaml", ".log", ".exit", ".process.json"} {
		if strings.HasSuffix(base, suffix) {
			return true
		}
	}
	return strings.HasPrefix(base, "canary")
}
