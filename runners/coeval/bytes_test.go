package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A run's bytes stay the same from one version to the next, unless a change means to change them: then
// `go test ./runners/coeval -run TestBytesOfARun -golden` writes the digests anew, and the changelog
// lists the differences.
func TestBytesOfARun(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("processors with fused multiply-add round some ratings to other last digits")
	}
	dir := t.TempDir()
	all, err := os.ReadFile(filepath.Join("..", "..", "datasets", "arena-hard", "arena-hard-v0.1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfterN(all, []byte("\n"), 9)
	write(t, filepath.Join(dir, "prompts.jsonl"), string(bytes.Join(lines[:8], nil)))
	if _, stderr, code := coevalIn(t, dir, "run", "--simulate", "--prompts", "prompts.jsonl", "--out", "out", "--set", "simulate.latency=0s"); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	digests := files(t, filepath.Join(dir, "out"))
	var got bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		fmt.Fprintf(&got, "%s  %s\n", digests[name], name)
	}
	golden := filepath.Join("testdata", "bytes.golden.txt")
	if *update {
		write(t, golden, got.String())
	}
	wanted, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wanted), got.String()); diff != "" {
		t.Errorf("files have other bytes (-want +got), see -golden:\n%s", diff)
	}
}
