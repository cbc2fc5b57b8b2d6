package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A randomRun is a run of the simulated worker with everything drawn by chance.
type randomRun struct {
	seed    uint64
	prompts int
	flags   []string
}

// drawRun draws a run of 3 to 60 prompts. Small K and N leave prompts without pairs and figures
// without values.
func drawRun(seed uint64) randomRun {
	rng := rand.New(rand.NewPCG(seed, 16))
	pick := func(values ...string) string { return values[rng.IntN(len(values))] }
	set := func(key string, value any) []string { return []string{"--set", fmt.Sprintf("%s=%v", key, value)} }
	w := randomRun{seed: seed, prompts: 3 + rng.IntN(58)}
	for _, f := range [][]string{
		set("simulate.seed", seed),
		set("simulate.world", pick("mild", "moderate", "noisy", "bad")),
		set("actor.n", 2+rng.IntN(6)),
		set("judge.n", 3+rng.IntN(5)), // fewer give no judge pair, and are refused
		set("method.rho", pick("0", "0.32", "0.4", "0.123456")),
		set("method.min_margin", pick("0", "0", "1")),
		set("method.position_weights", pick("run", "response")),
		set("method.max_chosen_chars", pick("0", "0", "600")),
		set("method.judge_class_cap", pick("0", "0", "0.4")),
		set("method.balance_directions", pick("0", "0", "0.1")),
		set("budget.comparisons", pick("all", "all", "settled")),
		set("verdicts", pick("free", "free", "enforced")),
		set("seed", pick("0", "7", "null")),
		set("roles", pick("[actor]", "[judge]", "[actor, judge]", "[actor, judge]")),
		set("simulate.latency", "0s"),
		set("judge.verdict", pick("reasoned", "reasoned", "read")), // in rounds where comparisons are asked until settled
		set("meta_judge.verdict", pick("reasoned", "reasoned", "read")),
		set("budget.distance", pick("1.8", "1")),
		set("simulate.read_mass", pick("1", "0.6")),
	} {
		w.flags = append(w.flags, f...)
	}
	return w
}

// try runs a command and returns its output as an error if it ends with another code than 0.
func try(ctx context.Context, args ...string) error {
	if reading[args[0]] {
		var out strings.Builder
		if code := execute(ctx, args, &out, &out); code != exitDone {
			return fmt.Errorf("coeval %q: exit code %d\n%s", args, code, out.String())
		}
		return nil
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("coeval %q: %w\n%s", args, err, out)
	}
	return nil
}

// makeRandomRun makes a run. Then it runs every command that reads its files or compares it with the run before.
func makeRandomRun(ctx context.Context, dir, before string, w randomRun) (out string, err error) {
	out = filepath.Join(dir, fmt.Sprint("out-", w.seed))
	prompts, people := out+".jsonl", out+".people.jsonl"
	var lines, labels []byte
	for i := range w.prompts {
		line, err := json.Marshal(map[string]string{"prompt": fmt.Sprintf("Question %d: why?", i)})
		if err != nil {
			return "", err
		}
		lines = append(append(lines, line...), '\n')
		label, err := json.Marshal(map[string]any{
			"prompt": fmt.Sprintf("Question %d: why?", i), "response_1": fmt.Sprint("Because of ", w.seed), "response_2": "Because.", "label": 1 + i%2,
		})
		if err != nil {
			return "", err
		}
		labels = append(append(labels, label...), '\n')
	}
	if err := os.WriteFile(prompts, lines, 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(people, labels, 0o600); err != nil {
		return "", err
	}
	commands := [][]string{
		append([]string{"run", "--simulate", "--json", "--prompts", prompts, "--out", out}, w.flags...),
		{"verify", out},
		{"report", out},
		{"report", out, "--json"},
		{"inspect", out, "1", "--full"},
		append([]string{"calibrate", "--simulate", "--people", people, "--resamples", "100", "--out", out}, w.flags...),
		{"report", out},
		{"verify", out},
	}
	if before != "" {
		commands = append(commands, []string{"compare", before, out})
	}
	for _, args := range commands {
		if err := try(ctx, args...); err != nil {
			return "", err
		}
	}
	return out, nil
}

// countFrom returns the number in an environment variable, or fallback without one.
func countFrom(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return fallback
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("%s is %q; give a whole number", name, s)
	}
	return n
}

// Every command that reads a run ends well, for runs of all kinds. COEVAL_WORLDS is the number of runs,
// COEVAL_WORLDS_SEED the first one's seed.
func TestWorlds(t *testing.T) {
	t.Parallel()
	worlds, first := countFrom(t, "COEVAL_WORLDS", 2), countFrom(t, "COEVAL_WORLDS_SEED", 0)
	t.Logf("COEVAL_WORLDS_SEED=%d", first)
	before, failed := "", 0
	for seed := first; seed < first+worlds; seed++ {
		out, err := makeRandomRun(t.Context(), t.TempDir(), before, drawRun(seed))
		if err != nil {
			failed++
			t.Errorf("seed %d: %v", seed, err)
			continue
		}
		before = out
	}
	t.Logf("%d of %d runs ended well", worlds-uint64(failed), worlds)
}
