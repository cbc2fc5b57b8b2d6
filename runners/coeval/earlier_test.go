package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/summary"
	"coeval/schemas"
)

// The program of 2026-11-28 (commit 85892ae) wrote testdata/run-2026-11-28 with a server that nothing
// identifies as simulated:
//
//	coeval run --url … --model m --prompts p2.jsonl --out … --set actor.n=3 --set judge.n=3
//
// The same command goes on from its journal without a server, under the built-in prompts of that day.
func TestRunOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.CopyFS(out, os.DirFS(filepath.Join("testdata", "run-2026-11-28"))); err != nil {
		t.Fatal(err)
	}
	before := tree(t, out)
	write(t, filepath.Join(dir, "p2.jsonl"), `{"id":"a","prompt":"Name three primes."}`+"\n"+`{"id":"b","prompt":"Why is the sky blue?"}`+"\n")
	write(t, filepath.Join(dir, "old.yaml"), "judge: {template: 'builtin:2026-11'}\nmeta_judge: {template: 'builtin:2026-11'}\n")

	// The finished run can be read as it is; verify asks for the digests that it lacks.
	for _, args := range [][]string{{"report", "out"}, {"inspect", "out", "1"}, {"compare", "out", "out"}, {"journal", "verify", "out"}} {
		if _, stderr, code := coevalIn(t, dir, args...); code != exitDone {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
	}
	if stdout, _, code := coevalIn(t, dir, "verify", "out"); code != exitProof || !strings.Contains(stdout, "written by an earlier version; repeat the same coeval run command") {
		t.Errorf("verify: exit code %d\n%s", code, stdout)
	}

	stdout, stderr, code := coevalIn(t, dir, "run", "old.yaml", "--url", "http://127.0.0.1:1/v1", "--model", "m", "--prompts", "p2.jsonl", "--out", "out",
		"--set", "actor.n=3", "--set", "judge.n=3", "--json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var s summary.Summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatal(err)
	}
	// 2 prompts: 6 responses, 5 of them complete with 3 judgments each, 12 comparisons: 33.
	if s.Calls.Requests != 0 || s.Calls.Replayed != 33 || s.Simulated {
		t.Errorf("%+v, want 0 requests, 33 replayed", s.Calls)
	}
	proved(t, out)
	after := tree(t, out)
	for _, table := range []string{"raw/responses", "raw/judgments", "failures"} {
		name := table + "/part-00000-of-00001.parquet"
		if before[name] == "" || after[name] != before[name] {
			t.Errorf("%s has other bytes now", name)
		}
	}
	// These tables have more columns today.
	sameRows(t, out, shards.Prompts, func(r *schemas.PromptRow) { r.AskingStopped, r.ExpectedRegret, r.ExpectedSpread = nil, nil, nil })
	sameRows(t, out, shards.Comparisons, func(r *schemas.ComparisonRow) { r.Round = nil })
	// A simulated run in the same folder would mix invented answers into it.
	if _, stderr, code := coevalIn(t, dir, "run", "--simulate", "--prompts", "p2.jsonl", "--out", "out"); code != exitFailed || !strings.Contains(stderr, "has answers of real servers") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	refused := tree(t, out)
	refused["operations/.lock"] = after["operations/.lock"]
	if diff := cmp.Diff(after, refused); diff != "" {
		t.Errorf("the refused run has changed files:\n%s", diff)
	}
}

// sameRows compares a table of the finished run with that of the earlier version, whose columns are left
// when forget has removed the later ones.
func sameRows[T shards.Row](t *testing.T, out string, table shards.Table, forget func(*T)) {
	t.Helper()
	was, is := rows[T](t, filepath.Join("testdata", "run-2026-11-28"), table), rows[T](t, out, table)
	for i := range is {
		forget(&is[i])
	}
	if diff := cmp.Diff(was, is); diff != "" || len(was) == 0 {
		t.Errorf("%s has other rows now: %s", table, diff)
	}
}
