// Package filetree computes the digest of the files in a folder, which shows that none of them has changed.
//
// The digest covers the paths of the files below the folder and their contents. It does not cover times, modes and
// empty folders.
package filetree

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
)

// ErrNoFiles is the error of a folder without a file that has content.
var ErrNoFiles = errors.New("it has no files with content")

// Digest returns the SHA-256 of all files in a folder, by their paths. It reads the files and folders that links name. It
// returns [ErrNoFiles] if no file has content.
func Digest(dir string) (string, error) {
	d := newFolderDigest()
	if err := d.add(dir, ""); err != nil {
		return "", err
	}
	if d.bytes == 0 {
		return "", ErrNoFiles
	}
	return d.sum(), nil
}

// DigestWithoutLinks returns the digest that leaves links out. It accepts a folder without content.
func DigestWithoutLinks(dir string) (string, error) {
	d := newFolderDigest()
	d.skipLinks = true
	if err := d.add(dir, ""); err != nil {
		return "", err
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
