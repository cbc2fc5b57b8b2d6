package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/compare"
	"coeval/runners/runs/runstest"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// iteration makes a run of 40 prompts in a world.
func iteration(t *testing.T, change func(*world.World)) string {
	t.Helper()
	truth := world.Default()
	truth.JudgmentChars, truth.ComparisonChars = 0, 0 // no sign depends on these lengths
	change(&truth)
	w := newWorker(t, simulator.Options{World: &truth})
	out := filepath.Join(t.TempDir(), "out")
	complete(t, "run", "--url", w.URL, "--model", "simulated", "--json", "--prompts", promptFile(t, 40), "--out", out,
		"--set", "actor.n=5", "--set", "judge.n=7")
	return out
}

// Iterations in which a sign of saturation is planted show it and no other; one that differs in
// nothing but its texts shows none.
func TestSaturation(t *testing.T) {
	t.Parallel()
	first := iteration(t, func(*world.World) {})
	for name, c := range map[string]struct {
		plant func(*world.World)
		want  []string
	}{
		"nothing": {func(w *world.World) { w.Seed = 7 }, nil},
		// The judge gives everything 1.5 points more, and all end at 5.
		compare.Ceiling: {func(w *world.World) { w.Seed, w.Leniency = 7, 1.5 }, []string{compare.Ceiling}},
		// Three logits per point of score: the higher one wins by the score alone.
		compare.Higher: {func(w *world.World) { w.Seed, w.Taste = 7, 3 }, []string{compare.Higher}},
		// Two logits for the judgment that is shown first.
		compare.Position: {func(w *world.World) { w.Seed, w.FirstBias = 7, 2 }, []string{compare.Position}},
		compare.Longer:   {func(w *world.World) { w.Seed, w.ResponseChars = 7, 1300 }, []string{compare.Longer}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			last := iteration(t, c.plant)
			var found compare.Comparison
			if err := json.Unmarshal([]byte(want(t, nil, "compare", "--json", first, last)), &found); err != nil {
				t.Fatal(err)
			}
			var seen []string
			for _, s := range found.Signs {
				if s.Seen {
					seen = append(seen, s.Name)
				}
			}
			if diff := cmp.Diff(c.want, seen); diff != "" {
				t.Errorf("%s\n%+v", diff, found)
			}
			if s := found.Steps[0]; s.Prompts != 40 || s.Overlap != 1 {
				t.Errorf("%+v, want 40 shared prompts", s)
			}
		})
	}
}

// Agreement with people that falls back after its peak is seen; where the last judge is only
// another one, or stays as good, it is not.
func TestSaturationByPeople(t *testing.T) {
	t.Parallel()
	truth := world.Default()
	labels := pairLabels(t, &truth, 120)
	prompts := promptFile(t, 8)
	judged := func(model string, change func(*world.World)) string {
		truth := world.Default() // the same seed has the same truth
		change(&truth)
		w := newWorker(t, simulator.Options{World: &truth})
		out := filepath.Join(t.TempDir(), "out")
		complete(t, runOf(w.URL, prompts, out, "--set", "judge.model="+model)...)
		calibrated(t, "--people", labels, "--out", out, "--url", w.URL, "--model", model, "--resamples", "100", "--set", "judge.n=5")
		return out
	}
	first := judged("first", func(w *world.World) { w.JudgePersistent = 0.5 })
	second := judged("second", func(w *world.World) { w.JudgeNoise, w.JudgePersistent, w.JudgeLengthBias = 0.3, 0, 0 })
	// A judge that goes by an error of its own of two points, where true differences are below one.
	last := judged("last", func(w *world.World) { w.JudgePersistent = 2 })
	alike := judged("alike", func(w *world.World) { w.JudgeNoise, w.JudgePersistent, w.JudgeLengthBias = 0.3, 0, 0 })
	sign := func(outs ...string) compare.Sign {
		var found compare.Comparison
		if err := json.Unmarshal([]byte(want(t, nil, append([]string{"compare", "--json"}, outs...)...)), &found); err != nil {
			t.Fatal(err)
		}
		s := found.Signs[len(found.Signs)-1]
		if s.Name != compare.People {
			t.Fatalf("the last sign is %s", s.Name)
		}
		return s
	}
	if s := sign(first, second, last); !s.Known || !s.Seen {
		t.Errorf("planted, and %+v", s)
	}
	if s := sign(first, second, alike); !s.Known || s.Seen {
		t.Errorf("not planted, and %+v", s)
	}
	calibrated(t, "--people", labels, "--out", last, "--simulate", "--model", "another", "--resamples", "100", "--set", "judge.n=5")
	if s := sign(first, last); s.Known || !strings.Contains(s.Evidence, "used the judge another in") {
		t.Errorf("another judge than the run's, and %+v", s)
	}
	template := filepath.Join(t.TempDir(), "judge.tmpl")
	write(t, template, "{{.Rubric}} {{range .Conversation}}{{.}}{{end}} {{.Response}} In other words.")
	calibrated(t, "--people", labels, "--out", last, "--simulate", "--model", "last", "--resamples", "100", "--set", "judge.n=5", "--set", "judge.template="+template)
	if s := sign(first, last); s.Known || !strings.Contains(s.Evidence, "used another judge.template in") {
		t.Errorf("another template than the run's, and %+v", s)
	}
}

// The table and the page of three runs; runs without a shared prompt are refused with one sentence.
func TestCompare(t *testing.T) {
	t.Parallel()
	first := simulatedRun(t, promptFile(t, 6))
	second := simulatedRun(t, promptFile(t, 8), "--set", "simulate.seed=5")
	third := simulatedRun(t, promptFile(t, 6), "--set", "roles=[actor]")
	said := want(t, nil, "compare", first, second, third)
	for _, text := range []string{"Mean score of a response, points", "The higher score wins", "1 → 2: 6 prompts in both (100.0 % of the smaller run)", "0 responses of one text scored in both", "not known: the meta-judge prefers a position", "compare.html"} {
		if !strings.Contains(said, text) {
			t.Errorf("it doesn't say %q:\n%s", text, said)
		}
	}
	page, err := os.ReadFile(filepath.Join(third, "compare.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Does the judge keep up?", "<svg", "Signs of saturation"} {
		if !strings.Contains(string(page), text) {
			t.Errorf("the page lacks %q", text)
		}
	}

	other := filepath.Join(t.TempDir(), "other.jsonl")
	write(t, other, `{"prompt": "of another set"}`+"\n")
	apart := simulatedRun(t, other)
	if _, stderr, code := coeval(t, "compare", first, apart); code != exitFailed || !strings.Contains(stderr, "have no prompt in common") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	// Each has a prompt in common with the next, but the first and the last are compared.
	both := filepath.Join(t.TempDir(), "both.jsonl")
	b, err := os.ReadFile(promptFile(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	write(t, both, string(b)+`{"prompt": "of another set"}`+"\n")
	between := simulatedRun(t, both)
	if _, stderr, code := coeval(t, "compare", first, between, apart); code != exitFailed || !strings.Contains(stderr, first+" and "+apart+" have no prompt in common") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	want(t, nil, "compare", "--unshared", "--page", filepath.Join(t.TempDir(), "page.html"), first, apart)
	bad := runstest.Hostile(t).Dir
	said = want(t, nil, "compare", bad, bad)
	for _, acts := range runstest.Acting {
		if strings.Contains(said, acts) {
			t.Errorf("the table has the character %U in it", []rune(acts)[0])
		}
	}
	if _, stderr, code := coeval(t, "compare", first); code != exitUsage || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}
