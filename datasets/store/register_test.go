package store

import (
	"context"
	"strings"
	"testing"

	"coeval/datasets/store/bucket"
)

// A program that does not import the clients names the missing import. Register accepts the schemes of paths
// alone.
func TestRegister(t *testing.T) {
	d := &objects{scheme: "gs://", client: unregistered("gs://")}
	const want = "store: gs://bucket/a: this program has no client for gs://: import coeval/datasets/store/clouds"
	if _, err := d.open(t.Context(), "gs://bucket/a"); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	defer func() {
		if said, ok := recover().(string); !ok || !strings.Contains(said, `"az://"`) {
			t.Errorf("Register of another scheme: %q", said)
		}
	}()
	Register("az://", func(context.Context, *bucket.Patience) (bucket.Client, error) { return nil, bucket.ErrNoObject })
}
