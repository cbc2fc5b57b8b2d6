package transport

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coeval/transforms/stage"
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

// The header of an answer is bounded, so that many in flight cannot fill the memory.
func TestHeaderIsBounded(t *testing.T) {
	size := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Padding", strings.Repeat("a", size))
	}))
	defer s.Close()
	c, err := New(stage.Endpoint{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP, err = NewHTTPClient(""); err != nil {
		t.Fatal(err)
	}
	for _, size = range []int{maxHeader / 2, 2 * maxHeader} {
		_, err = c.Get(t.Context(), s.URL, 1<<10, 10*time.Second)
		if refused := err != nil && strings.Contains(err.Error(), "exceeded"); refused != (size > maxHeader) {
			t.Errorf("a header of %d bytes: %v", size, err)
		}
	}
}
