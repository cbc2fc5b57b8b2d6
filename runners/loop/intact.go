package loop

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// producedIn returns the outcome of the run in a folder.
func producedIn(run string) (*produced, error) {
	b, err := os.ReadFile(filepath.Join(run, "run.json"))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	var digests []string
	for _, role := range []string{schemas.RoleActor, schemas.RoleJudge} {
		digest, err := digestOf(filepath.Join(run, role))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoFiles) {
			return nil, err
		}
		digests = append(digests, digest)
	}
	return &produced{Run: run, SHA256: hex.EncodeToString(sum[:]), Pairs: schemas.Digest(digests...)}, nil
}

// check returns an error if the files of a run have changed since the run.
func (p *produced) check() error {
	now, err := producedIn(p.Run)
	if err != nil {
		return fmt.Errorf("the files of a run that %s records can't be read: %w. Restore them; if the loop's folder was moved, move it back", steps.StateFile, err)
	}
	for _, f := range []struct{ name, now, then string }{{"run.json", now.SHA256, p.SHA256}, {"the pairs", now.Pairs, p.Pairs}} {
		if f.then != "" && f.now != f.then {
			return fmt.Errorf("%s in %s changed after the run: the digest is %s, and %s has %s. Restore the files; coeval verify %s names those that changed", f.name, p.Run, f.now, steps.StateFile, f.then, p.Run)
		}
	}
	return nil
}

// checkModel returns an error if the files of a trained model have changed since its training.
func (l *Loop) checkModel(c *checkpoint) error {
	if c.Digest == "" {
		return nil
	}
	now, err := digestOf(c.Path)
	if now != c.Digest { // earlier versions skipped links
		plain := newFolderDigest()
		plain.skipLinks = true
		if plain.add(c.Path, "") == nil && plain.sum() == c.Digest {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("the model %s can't be read: %w. Restore it; if the loop's folder was moved, move it back", c.Path, err)
	}
	if now != c.Digest {
		return fmt.Errorf("the model %s changed after its training: the digest of its files is %s, and %s has %s. Restore the files%s",
			c.Path, now, steps.StateFile, c.Digest, l.orRepeat(c))
	}
	return nil
}

// orRepeat returns the way to repeat the training of a model, as the end of a sentence.
func (l *Loop) orRepeat(c *checkpoint) string {
	for t := 1; t <= l.state.Last(); t++ {
		for _, step := range []steps.Step{steps.TrainFuture, steps.TrainModel} {
			if trained, err := steps.Output[checkpoint](l.state, t, step); err == nil && trained.Path == c.Path {
				return fmt.Sprintf("; or, to repeat the training, remove %s and the lines of iteration %d and later from %s", l.Config.Folder(t), t, steps.StateFile)
			}
		}
	}
	return ""
}

// errNoFiles is the error of a folder without a file that has content.
var errNoFiles = errors.New("it has no files with content")

// digestOf returns the digest of all files in a folder, by their paths. It reads the files and folders that links name.
func digestOf(dir string) (string, error) {
	d := newFolderDigest()
	if err := d.add(dir, ""); err != nil {
		return "", err
	}
	if d.bytes == 0 {
		return "", errNoFiles
	}
	return d.sum(), nil
}

// A folderDigest is the digest of the files that were added.
type folderDigest struct {
	hash  hash.Hash
	bytes int64
	// seen are the folders that were added, without links in their paths.
	seen map[string]bool
	// skipLinks leaves links out.
	skipLinks bool
}

func newFolderDigest() *folderDigest {
	return &folderDigest{hash: sha256.New(), seen: map[string]bool{}}
}

func (d *folderDigest) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }

// add adds the files of a folder, or a single file, under a name.
func (d *folderDigest) add(dir, name string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for folder := range d.seen {
		if root == folder || strings.HasPrefix(root, folder+string(filepath.Separator)) {
			return nil // its files are added under their own names
		}
	}
	d.seen[root] = true
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.Join(name, rel)
		mode := entry.Type()
		if mode&fs.ModeSymlink != 0 && d.skipLinks {
			return nil
		}
		if mode&fs.ModeSymlink != 0 {
			is, err := os.Stat(path)
			if err != nil {
				return fmt.Errorf("%s is a link to nothing: %w", path, err)
			}
			if mode = is.Mode().Type(); mode.IsDir() {
				return d.add(path, rel)
			}
		}
		if !mode.IsRegular() {
			return nil
		}
		return d.file(path, rel)
	})
}

func (d *folderDigest) file(path, name string) error {
	fmt.Fprintf(d.hash, "%s\x00", name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(d.hash, f)
	d.bytes += n
	return errors.Join(err, f.Close())
}
