package transport

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"coeval/schemas/redact"
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

// clientOf returns a client of a test server.
func clientOf(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c, err := New(stage.Endpoint{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP, err = NewHTTPClient(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// A server that switches protocols and then is silent does not hold the request: net/http ends no read of such
// a body.
func TestSwitchedProtocols(t *testing.T) {
	t.Parallel()
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }() // the client has closed it
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn) // until the client closes the connection
	})
	a, err := c.Post(t.Context(), []byte("{}"), 1<<10, time.Minute)
	if err != nil || a.Status != http.StatusSwitchingProtocols || len(a.Body) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

// A gateway may add its ID to ours in any way. An ID of another of our requests is foreign beside any other.
func TestEchoedIDs(t *testing.T) {
	t.Parallel()
	const other = requestIDPrefix + "1f0c"
	for _, tt := range []struct {
		name    string
		echo    func(sent string) []string
		foreign bool
	}{
		{"ours", func(sent string) []string { return []string{sent} }, false},
		{"ours, then the gateway's", func(sent string) []string { return []string{sent, "gw-1"} }, false},
		{"the gateway's, then ours", func(sent string) []string { return []string{"gw-1", sent} }, false},
		{"a list", func(sent string) []string { return []string{sent + ", gw-1"} }, false},
		{"a list that begins with the gateway's", func(sent string) []string { return []string{"gw-1," + sent} }, false},
		{"quoted", func(sent string) []string { return []string{`"` + sent + `"`} }, false},
		{"a numbered try", func(sent string) []string { return []string{sent + "-1"} }, false},
		{"none", func(string) []string { return nil }, false},
		{"another's", func(string) []string { return []string{other} }, true},
		{"another's, quoted", func(string) []string { return []string{`"` + other + `"`} }, true},
		{"ours, then another's", func(sent string) []string { return []string{sent, other} }, true},
		{"another's, then ours", func(sent string) []string { return []string{other, sent} }, true},
		{"a list with another's", func(string) []string { return []string{"gw-1, " + other} }, true},
		{"the gateway's alone", func(string) []string { return []string{"gw-1"} }, true},
	} {
		asked := false
		c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
			sent := r.Header.Get(requestIDHeader)
			w.Header()[requestIDHeader] = []string{sent}
			if asked {
				w.Header()[requestIDHeader] = tt.echo(sent)
			}
			asked = true
			_, _ = io.WriteString(w, "{}")
		})
		if _, err := c.Post(t.Context(), []byte("{}"), 1<<10, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Post(t.Context(), []byte("{}"), 1<<10, time.Minute); errors.Is(err, ErrForeign) != tt.foreign {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A key in UTF-16 is found with and without the name of the character set.
func TestKeyInUTF16(t *testing.T) {
	t.Parallel()
	const key = "zq9Xw7-Lm4_Tp2-Vb8"
	for _, contentType := range []string{"application/json; charset=utf-16le", "application/json", ""} {
		for _, order := range [][2]int{{0, 8}, {8, 0}} {
			if order[0] == 8 && strings.Contains(contentType, "le") {
				continue
			}
			var body []byte
			for _, u := range utf16.Encode([]rune(`{"error":"` + key + `"}`)) {
				body = append(body, byte(u>>order[0]), byte(u>>order[1]))
			}
			c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write(body)
			})
			c.Secrets = redact.New(key)
			a, err := c.Post(t.Context(), []byte("{}"), 1<<10, time.Minute)
			if err != nil || string(a.Body) != `{"error":"`+redact.Mark+`"}` {
				t.Errorf("%q, %v: %+v, %v", contentType, order, a, err)
			}
		}
	}
}
