// Package rundir protects files that Coeval did not write in a run's folder.
//
// --out may name any folder, even one with other files of the user. A run starts only in a folder that is
// empty, used by an earlier run, or adopted by the user ([Check]). It replaces and removes only files that
// an earlier run listed ([Owned]). All other files stay unchanged.
//
// The folder itself may be a symbolic link, or be reached through one. Inside the folder a run follows no link, since a link would
// redirect its writes and removals.
package rundir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"coeval/datasets/journal"
	"coeval/datasets/lock"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
)

// The names below a run's folder, besides the names of [shards.AllTables].
const (
	// RunFile is run.json, which is written last.
	RunFile = "run.json"
	// CardFile is the dataset card.
	CardFile = "README.md"
	// JournalFolder contains the journal.
	JournalFolder = "journal"
	// OperationsFolder contains the records of each attempt.
	OperationsFolder = "operations"
	// StagingFolder contains the files before they get their final names.
	StagingFolder = ".staging"
	// CommitFile lists the run's files during a commit, while there is no run.json.
	CommitFile = OperationsFolder + "/.commit.json"
)

// SHA256Line returns the digest of a file's content, and the line of sha256sum for the file.
func SHA256Line(file string, content []byte) (digest string, line []byte) {
	sum := sha256.Sum256(content)
	digest = hex.EncodeToString(sum[:])
	return digest, []byte(digest + "  " + file + "\n")
}

// A Refused error means that a run may not use the folder in its present state.
type Refused struct{ message string }

func (r *Refused) Error() string { return r.message }

// Refuse returns a [*Refused] error with this message.
func Refuse(message string) error { return &Refused{message} }

func refuse(format string, args ...any) error { return Refuse(fmt.Sprintf(format, args...)) }

// Check returns an error unless a run may work in out: the folder is missing or empty, an earlier
// run has used it, or adopt is set. Even with adopt, a file that is not an earlier run's must not
// have the name of one that the run will write. The error is a [*Refused] when the user has to
// choose another folder or move a file.
func Check(ctx context.Context, out string, adopt bool) error {
	if err := CheckLinks(out); err != nil {
		return err
	}
	names, err := store.Names(ctx, out)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, IsLitter)
	used, err := usedBefore(ctx, out, names)
	if err != nil {
		return err
	}
	if !used && !adopt && len(names) > 0 {
		return refuse("%s contains files that are not a run's (%s): choose another --out, or add --adopt to write the run beside them; files that are not the run's are never changed or removed", out, Some(names))
	}
	return checkNames(ctx, out, names)
}

// IsRun reports whether a run or a calibration has used a folder.
func IsRun(ctx context.Context, out string) (bool, error) {
	names, err := store.Names(ctx, out)
	if err != nil {
		return false, err
	}
	return usedBefore(ctx, out, names)
}

// usedBefore reports whether a run has used the folder with these names: it has a run.json, a lock or a
// journal.
func usedBefore(ctx context.Context, out string, names []string) (bool, error) {
	if slices.Contains(names, RunFile) {
		run, err := ReadRun(ctx, out)
		if err != nil {
			return false, err
		}
		if run != nil {
			return true, nil
		}
	}
	if slices.Contains(names, OperationsFolder+"/") {
		if used, err := lock.Exists(ctx, out); err != nil || used {
			return used, err
		}
	}
	if slices.Contains(names, JournalFolder+"/") {
		return journal.Exists(ctx, store.Join(out, JournalFolder))
	}
	return Begun(ctx, out, names)
}

// Begun reports whether the folder with these names has nothing but a lock without a record. A process that
// is killed right after it created the lock leaves it so.
func Begun(ctx context.Context, out string, names []string) (bool, error) {
	names = slices.DeleteFunc(slices.Clone(names), IsLitter)
	if !slices.Equal(names, []string{OperationsFolder + "/"}) {
		return false, nil
	}
	within, err := store.Names(ctx, store.Join(out, OperationsFolder))
	if err != nil || !slices.Equal(within, []string{path.Base(lock.Name(out))}) {
		return false, err
	}
	return lock.Unwritten(ctx, out)
}

// IsLitter reports whether a name is one that operating systems leave in folders of all kinds.
func IsLitter(name string) bool {
	return slices.Contains([]string{".DS_Store", ".gitkeep", ".keep", "lost+found/"}, name)
}

// Some lists the first of many names, quoted, because they may come from anyone.
func Some(names []string) string {
	const shown = 3
	quoted := make([]string, 0, shown)
	for _, name := range names[:min(len(names), shown)] {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	text := strings.Join(quoted, ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// CheckPlace returns an error when out cannot be a folder, because a file has its name or a part of it.
func CheckPlace(out string) error {
	if !store.HasLocks(out) {
		return nil
	}
	is, err := os.Stat(out)
	_, linkErr := os.Readlink(out)
	switch {
	case errors.Is(err, fs.ErrNotExist) && linkErr == nil:
		return refuse("%s is a link to a missing folder: create that folder, or choose another --out", out)
	case errors.Is(err, syscall.ENOTDIR):
		return refuse("%s lies below a file: choose another --out", out)
	case err == nil && !is.IsDir():
		return refuse("%s is a file: choose another --out", out)
	}
	return nil
}

// CheckLinks returns an error when the folder has a link in the place of a folder or file of the run.
func CheckLinks(out string) error {
	if !store.HasLocks(out) {
		return nil
	}
	if err := CheckPlace(out); err != nil {
		return err
	}
	folders := []string{JournalFolder, OperationsFolder, StagingFolder, "raw"}
	for _, t := range shards.AllTables {
		folders = append(folders, string(t))
	}
	for _, name := range folders {
		switch is, err := os.Lstat(filepath.Join(out, name)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !is.IsDir():
			return refuse("%s is %s, and a run needs a folder of its own there: remove it, or choose another --out", filepath.Join(out, name), kindOf(is))
		}
	}
	if err := checkShardLinks(out); err != nil {
		return err
	}
	for _, name := range []string{RunFile, CardFile, CommitFile} {
		switch is, err := os.Lstat(filepath.Join(out, name)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !is.Mode().IsRegular():
			return refuse("%s is %s, and a run writes a file there: remove it, or choose another --out", filepath.Join(out, name), kindOf(is))
		}
	}
	return nil
}

// checkShardLinks returns an error when a link, a folder or a special file has the name of a shard.
func checkShardLinks(out string) error {
	for _, t := range shards.AllTables {
		entries, err := os.ReadDir(filepath.Join(out, string(t)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() || !IsShard(store.Join(string(t), e.Name())) {
				continue
			}
			if is, err := e.Info(); err == nil {
				return refuse("%s is %s, and a run writes a file there: remove it, or choose another --out", filepath.Join(out, string(t), e.Name()), kindOf(is))
			}
		}
	}
	return nil
}

func kindOf(is fs.FileInfo) string {
	switch {
	case is.Mode()&fs.ModeSymlink != 0:
		return "a link"
	case is.IsDir():
		return "a folder"
	case is.Mode().IsRegular():
		return "a file"
	}
	return "a special file"
}

// checkNames returns an error when a foreign file has the name of a file that a run writes, or that
// readers would take for one.
func checkNames(ctx context.Context, out string, names []string) error {
	if slices.Contains(names, RunFile) {
		if run, err := ReadRun(ctx, out); err != nil {
			return err
		} else if run == nil {
			return refuse("%s is not a run's: move it away, or choose another --out", store.Join(out, RunFile))
		}
	}
	if slices.Contains(names, CardFile) {
		if own, err := isCard(ctx, store.Join(out, CardFile)); err != nil {
			return err
		} else if !own {
			return refuse("%s is not the dataset card of a run, and a run writes its card there: move it away, or choose another --out", store.Join(out, CardFile))
		}
	}
	owned, err := Owned(ctx, out)
	if err != nil {
		return err
	}
	for _, t := range shards.AllTables {
		top, _, _ := strings.Cut(string(t), "/")
		if !slices.Contains(names, top+"/") {
			continue
		}
		found, err := store.List(ctx, store.Join(out, string(t))+"/")
		if err != nil {
			return err
		}
		for _, f := range found {
			if name := store.Join(string(t), path.Base(f.Path)); f.Path == store.Join(out, name) && IsShard(name) && !owned[name] {
				return refuse("%s is not a file of the run that was here, but has the name of one: move it away, or choose another --out", f.Path)
			}
		}
	}
	return nil
}

// maxCard bounds the part of a card that is read.
const maxCard = 64 << 10

// isCard reports whether a file is the dataset card of a run.
func isCard(ctx context.Context, name string) (own bool, err error) {
	r, err := store.Open(ctx, name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := io.ReadAll(io.LimitReader(r.Stream(0), maxCard))
	return bytes.HasPrefix(b, []byte("---\n")) && bytes.Contains(b, []byte("\nMade by Coeval with Meta-Rewarding")), err
}

// shardName matches the names that [shards.Path] gives.
var shardName = regexp.MustCompile(`^(train|part)-[0-9]{5,}-of-[0-9]{5,}\.parquet$`)

// IsShard reports whether a path below a run's folder is the name of a shard.
func IsShard(name string) bool {
	table, base := path.Split(name)
	return slices.Contains(shards.AllTables, shards.Table(strings.TrimSuffix(table, "/"))) && shardName.MatchString(base)
}

// ReadRun returns the run.json of a folder, nil if there is none or the file is not a run's.
func ReadRun(ctx context.Context, out string) (*schemas.Run, error) {
	b, err := store.ReadSmall(ctx, store.Join(out, RunFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	run, ok := decodeRun(b)
	if !ok {
		return nil, nil
	}
	if run.Format > schemas.RunFormat {
		return nil, refuse("%s has format %d, and this version of Coeval writes format %d: choose another --out, or use the newer version", store.Join(out, RunFile), run.Format, schemas.RunFormat)
	}
	return run, nil
}

// decodeRun reports whether b is the record of a run.
func decodeRun(b []byte) (*schemas.Run, bool) {
	var run schemas.Run
	err := json.Unmarshal(b, &run)
	return &run, err == nil && run.Format >= 1 && len(run.Config) > 0 && run.Ledger.Roles != nil
}

// AttemptFiles returns the paths of the records of an output folder's attempts, in the order of their starts.
// The counts of an attempt that did not finish are no record, nor is the lease.
func AttemptFiles(ctx context.Context, out string) ([]string, error) {
	files, err := store.List(ctx, store.Join(out, OperationsFolder)+"/")
	if err != nil {
		return nil, err
	}
	var attempts []string
	for _, f := range files {
		name := path.Base(f.Path)
		if strings.HasSuffix(name, ".json") && strings.Count(name, ".") == 1 && name != "lease.json" {
			attempts = append(attempts, f.Path)
		}
	}
	return attempts, nil
}
