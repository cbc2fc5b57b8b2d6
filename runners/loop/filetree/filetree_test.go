package filetree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The digest is that of paths and contents, also behind links, and each file counts once.
func TestDigest(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	digest := func(of func(string) (string, error)) string {
		t.Helper()
		d, err := of(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, err := Digest(dir); !errors.Is(err, ErrNoFiles) {
		t.Errorf("an empty folder: %v", err)
	}
	write(filepath.Join(dir, "a", "weights"), "w")
	sum := sha256.Sum256([]byte("a/weights\x00w"))
	plain := hex.EncodeToString(sum[:])
	if got := digest(Digest); got != plain {
		t.Errorf("the digest is %s, want %s", got, plain)
	}
	if err := os.Symlink(".", filepath.Join(dir, "latest")); err != nil {
		t.Fatal(err)
	}
	if got := digest(Digest); got != plain {
		t.Errorf("with a link to itself the digest is %s, want %s", got, plain)
	}
	write(filepath.Join(other, "tokenizer"), "t")
	if err := os.Symlink(filepath.Join(other, "tokenizer"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	sum = sha256.Sum256([]byte("a/weights\x00wb\x00t"))
	if got, want := digest(Digest), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("with a linked file the digest is %s, want %s", got, want)
	}
	if got := digest(DigestWithoutLinks); got != plain {
		t.Errorf("without links the digest is %s, want %s", got, plain)
	}
}
