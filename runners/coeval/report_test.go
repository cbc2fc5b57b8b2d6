package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/shards"
	"coeval/runners/figures"
	"coeval/transforms/simulator"
)

// simulatedRun makes a small run and returns its folder.
func simulatedRun(t *testing.T, prompts string, more ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	complete(t, append([]string{
		"run", "--simulate", "--set", "simulate.latency=0s", "--json", "--prompts", prompts, "--out", out,
	}, more...)...)
	return out
}

// The page is written, is no file of the run, and its figures are those of --json.
func TestReport(t *testing.T) {
	t.Parallel()
	out := simulatedRun(t, promptFile(t, 20), "--set", "output.prompts_per_shard=8")
	if said := want(t, nil, "report", out); strings.TrimSpace(said) != filepath.Join(out, "report.html") {
		t.Errorf("report says %q, want the page's path", said)
	}
	page, err := os.ReadFile(filepath.Join(out, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, heading := range []string{"1 · Summary", "2 · Scores", "3 · Length", "4 · Meta-judge", "5 · Operation", "6 · Settings", "7 · Examples"} {
		if !strings.Contains(string(page), heading) {
			t.Errorf("the page lacks %s", heading)
		}
	}
	want(t, nil, "verify", out)
	var f figures.Figures
	if err := json.Unmarshal([]byte(want(t, nil, "report", "--json", out)), &f); err != nil {
		t.Fatal(err)
	}
	run := readRun(t, out)
	// The figures come from the raw tables, those of run.json from the run: they are of one thing.
	if f.Prompts != 20 || f.Length.Pairs != run.Stats.Actor.Pairs || f.Scores.Judgments+f.Scores.Unparsed[1].Unparsed != run.Stats.Judgments.Texts ||
		f.Meta.Verdicts != run.Stats.Positions.First+run.Stats.Positions.Second || f.Meta.Comparisons != run.Stats.Comparisons.Texts {
		t.Errorf("%+v\ndiffer from run.json's %+v", f, run.Stats)
	}
}

// A run with other checkpoints has a section about them; its pairs are counted by their models.
func TestReportOfPools(t *testing.T) {
	t.Parallel()
	out := simulatedRun(t, promptFile(t, 10), "--preset", "temporal-2", "--set", "past.model=sim:quality=-0.5,length=+0,noise=+0", "--set", "future.model="+better)
	want(t, nil, "report", out)
	page := readFile(t, filepath.Join(out, "report.html"))
	for _, wanted := range []string{"3 · Length", "4 · Models", "5 · Operation", "7 · Examples", "Complete responses of past", "Markdown in chosen less rejected texts, in pairs with future", `href="#models"`} {
		if !strings.Contains(page, wanted) {
			t.Errorf("the page lacks %s", wanted)
		}
	}
	var f figures.Figures
	if err := json.Unmarshal([]byte(want(t, nil, "report", "--json", out)), &f); err != nil {
		t.Fatal(err)
	}
	var chosen, rejected, pairs int64
	for _, s := range f.Pools.Sources {
		chosen, rejected = chosen+s.Chosen, rejected+s.Rejected
		// K is 4 of each of the three models.
		if s.Responses != 40 || s.Role == "past" && s.Chosen > 0 || s.Role == "future" && s.Rejected > 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, p := range f.Pools.Pairs {
		pairs += p.Pairs
	}
	if paired := readRun(t, out).Ledger.Roles["actor"].Paired; chosen != paired || rejected != paired || pairs != paired || paired == 0 {
		t.Errorf("%d chosen, %d rejected, %d pairs; the run has %d", chosen, rejected, pairs, paired)
	}
}

// Every command that shows runs refuses a folder without a complete run, with one sentence that names the
// folder, and writes nothing.
func TestReportRefuses(t *testing.T) {
	t.Parallel()
	good := simulatedRun(t, promptFile(t, 3))
	foreign, err := os.ReadFile("../../datasets/prompts/testdata/pyarrow.parquet")
	if err != nil {
		t.Fatal(err)
	}
	responses := shards.Path(shards.Responses, 0, 1)
	for name, c := range map[string]struct {
		spoil func(out string) error
		want  string
	}{
		"no folder": {os.RemoveAll, "there is no run in this folder"},
		"another tool's folder": {func(out string) error {
			return errors.Join(os.Remove(filepath.Join(out, "run.json")), os.RemoveAll(filepath.Join(out, "journal")))
		}, "run.json is missing, so this is not the folder of a coeval run"},
		"incomplete":         {func(out string) error { return os.Remove(filepath.Join(out, "run.json")) }, "repeat the same coeval run command to finish it"},
		"another tool's":     {func(out string) error { return os.WriteFile(filepath.Join(out, responses), foreign, 0o600) }, "column 1 is prompt_id where id (required STRING) is wanted"},
		"a table is missing": {func(out string) error { return os.Remove(filepath.Join(out, responses)) }, "no such file"},
		"a table is torn":    {func(out string) error { return os.Truncate(filepath.Join(out, responses), 100) }, "it is cut off, or no Parquet file"},
		"another format": {func(out string) error {
			return os.WriteFile(filepath.Join(out, "run.json"), []byte(`{"format": 2}`), 0o600)
		}, "format is 2; this program reads format 1"},
		"no JSON": {func(out string) error { return os.WriteFile(filepath.Join(out, "run.json"), []byte(`{`), 0o600) }, "can't be read as JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			if err := os.CopyFS(out, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(out); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"report", out}, {"compare", good, out}, {"inspect", out, "1"}} {
				_, stderr, code := coeval(t, args...)
				if code != exitFailed || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, out) || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%s: exit code %d, said %q, want code 1 and one line with %q", args[0], code, stderr, c.want)
				}
			}
			for _, page := range []string{"report.html", "compare.html"} {
				if _, err := os.Stat(filepath.Join(out, page)); err == nil {
					t.Errorf("there is a %s", page)
				}
			}
		})
	}
	if _, stderr, code := coeval(t, "report", "--gpus=-1", good); code != exitUsage || !strings.Contains(stderr, "--gpus is -1; allowed is 0 to") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

// Runs of which some part is missing have a page, with no figure made of nothing.
func TestReportOfLittle(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"one prompt":     nil,
		"no pairs":       {"--set", "method.min_margin=5"},
		"actor alone":    {"--set", "roles=[actor]"},
		"judge alone":    {"--set", "roles=[judge]"},
		"nothing scored": {"--set", "simulate.faults=empty=1"},
		"all calls fail": {"--set", "simulate.faults=400=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			args := append([]string{"run", "--simulate", "--set", "simulate.latency=0s", "--json", "--prompts", promptFile(t, 1), "--out", out}, settings...)
			_, stderr, code := coeval(t, args...)
			if fails := name == "all calls fail"; fails != (code == exitFailed) || fails && !strings.Contains(stderr, "the actor has no pair because calls failed") {
				t.Errorf("exit code %d, said %q", code, stderr)
			}
			want(t, nil, "report", out)
			want(t, nil, "compare", out, out)
			want(t, nil, "inspect", out, "1")
			for _, file := range []string{"report.html", "compare.html"} {
				page, err := os.ReadFile(filepath.Join(out, file))
				if err != nil {
					t.Fatal(err)
				}
				for _, nothing := range []string{"NaN", "Inf", "%!", "nil&gt;"} {
					if strings.Contains(string(page), nothing) {
						t.Errorf("%s has %s in it", file, nothing)
					}
				}
			}
		})
	}
}

// The checker counts as the run does where servers give empty, missing and no texts.
func TestVerifyOfEmptyTexts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{Faults: simulator.Faults{simulator.FaultEmpty: 0.3, simulator.FaultNull: 0.1, simulator.FaultMissing: 0.05}})
	out := filepath.Join(t.TempDir(), "out")
	stats := complete(t, runOf(w.URL, promptFile(t, 40), out, "--set", "actor.n=2", "--set", "judge.n=3")...)
	if stats.Responses.Empty == 0 {
		t.Error("no response is empty")
	}
	want(t, nil, "verify", out)
}
