package transport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file without certificates, or no file, is an error that names it.
func TestCAFileThatCannotBe(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{empty: "no PEM certificate", empty + ".missing": "can't be read"} {
		if _, err := NewHTTPClient(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%v: does not name %s and that it has %s", err, file, want)
		}
	}
}
