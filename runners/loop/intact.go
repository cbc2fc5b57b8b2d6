package loop

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coeval/runners/loop/filetree"
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
		digest, err := filetree.Digest(filepath.Join(run, role))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, filetree.ErrNoFiles) {
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
	now, err := filetree.Digest(c.Path)
	if now != c.Digest { // earlier versions skipped links
		if plain, err := filetree.DigestWithoutLinks(c.Path); err == nil && plain == c.Digest {
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
