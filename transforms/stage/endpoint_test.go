package stage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
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
