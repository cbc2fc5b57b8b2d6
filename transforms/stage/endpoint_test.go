package stage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCredentials(t *testing.T) {
	t.Setenv("COEVAL_TEST_KEY", "key")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(" a b \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := Endpoint{
		APIKeyEnv: "COEVAL_TEST_KEY", Headers: FieldsOf(map[string]string{"x-org": "lab", "X-Token": "file:" + file}),
		Query: FieldsOf(map[string]string{"v": "1", "k": "env:COEVAL_TEST_KEY"}),
	}
	c, err := e.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Authorization": "Bearer key", "X-Org": "lab", "X-Token": "a b"} {
		if got := c.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if c.Query["v"] != "1" || c.Query["k"] != "key" {
		t.Errorf("the query is %v", c.Query)
	}
	slices.Sort(c.Secrets)
	if got := strings.Join(c.Secrets, "|"); got != "a b|key|key" {
		t.Errorf("secrets are %q", got)
	}
	e.APIKeyHeader = "api-key"
	if c, err = e.Credentials(); err != nil || c.Header.Get("Api-Key") != "key" || c.Header.Get("Authorization") != "" {
		t.Errorf("%v, %v: want the key as it is in api-key alone", c, err)
	}
	// A value that would begin another header is refused, and not shown.
	t.Setenv("COEVAL_TEST_LINES", "swordfish\r\nX-Other: b")
	e.Headers = FieldsOf(map[string]string{"X-Token": "env:COEVAL_TEST_LINES"})
	if _, err = e.Credentials(); err == nil || !strings.Contains(err.Error(), "headers.X-Token") || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("%v: want a sentence that names headers.X-Token alone", err)
	}
}

func TestSendsSecret(t *testing.T) {
	for _, tt := range []struct {
		endpoint Endpoint
		want     bool
	}{
		{Endpoint{URL: "http://host", Headers: FieldsOf(map[string]string{"X-Org": "lab"})}, false},
		{Endpoint{Headers: FieldsOf(map[string]string{"X-Org": "env:ORG"})}, true},
		{Endpoint{Query: FieldsOf(map[string]string{"token": "file:t"})}, true},
		{Endpoint{APIKeyFile: "key"}, true},
	} {
		if got := tt.endpoint.SendsSecret(); got != tt.want {
			t.Errorf("%+v: %t, want %t", tt.endpoint, got, tt.want)
		}
	}
}

// A key that no header can carry is an error before any request, and is not shown.
func TestKeysWithControlCharacters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte("sword\x01fish"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COEVAL_TEST_KEY", "sword\nfish")
	for want, e := range map[string]Endpoint{
		"api_key_env names the environment variable COEVAL_TEST_KEY, which contains a line break": {APIKeyEnv: "COEVAL_TEST_KEY"},
		"which must contain one key and nothing else":                                             {APIKeyFile: file},
	} {
		if _, err := e.Credentials(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "fish") {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	// The line break that a file or a secret store adds at the end is no part of the key.
	t.Setenv("COEVAL_TEST_KEY", "swordfish\n")
	if c, err := (Endpoint{APIKeyEnv: "COEVAL_TEST_KEY"}).Credentials(); err != nil || c.Key != "swordfish" {
		t.Errorf("%v, %v", c, err)
	}
}

// A key in the place of a file's name is not shown, although keys may have slashes and dots.
func TestKeysInThePlaceOfFiles(t *testing.T) {
	for _, key := range []string{
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp", "swordfish", "sk-abcdef123456/key.txt",
	} {
		if _, err := (Endpoint{APIKeyFile: key}).Credentials(); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("%v", err)
		}
	}
	for _, name := range []string{"/run/secrets/key", "key.txt", "testdata/../none", "./none"} {
		if _, err := (Endpoint{APIKeyFile: name}).Credentials(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v lacks %s", err, name)
		}
	}
}

// A key or certificates can't come from a pipe, which would be waited for, a device or a file without end.
func TestReadLocal(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe.key"), filepath.Join(dir, "large.key")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Skip(err) // the file system has no holes
	}
	for name, want := range map[string]string{
		pipe: "not a regular file", "/dev/zero": "not a regular file", dir: "not a regular file", large: "it has more than 4194304 bytes", dir + "/none.key": "no such file",
	} {
		if b, err := ReadLocal(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d bytes, %v; want %s", name, len(b), err, want)
		}
		if _, err := (Endpoint{APIKeyFile: name}).Credentials(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as a key: %v; want %s", name, err, want)
		}
		if _, err := (Endpoint{Headers: FieldsOf(map[string]string{"X-Org": "file:" + name})}).Credentials(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as a header: %v; want %s", name, err, want)
		}
	}
}
