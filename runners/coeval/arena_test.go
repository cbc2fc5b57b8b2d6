package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/transforms/simulator"
)

const better, base = "sim:quality=+0.5,length=+0,noise=+0", "base"

// arenaOf is the command line of an arena of one model against base.
func arenaOf(url, prompts, out string, more ...string) []string {
	return append([]string{"arena", "--url", url, "--b", base, "--judge", "judge", "--prompts", prompts, "--out", out, "--json"}, more...)
}

func playedArena(t *testing.T, args ...string) *arena.Report {
	t.Helper()
	var r arena.Report
	if err := json.Unmarshal([]byte(want(t, nil, args...)), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

type plannedArena struct {
	arena.Plan

	AnswersCost struct {
		ByTokens *float64 `json:"cost_by_tokens"`
	} `json:"answers_cost"`
}

func plannedArenaOf(t *testing.T, args ...string) *plannedArena {
	t.Helper()
	var p plannedArena
	if err := json.Unmarshal([]byte(want(t, nil, slices.Concat(args, []string{"--plan"})...)), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// An arena asks for the calls of its plan, and for nothing a second time; another model costs its own calls only, and the games
// of the models that played before give the difficulty of the prompts.
func TestArena(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 12)
	w := newWorker(t, simulator.Options{})
	out := filepath.Join(t.TempDir(), "out")
	args := arenaOf(w.URL, prompts, out)
	one := slices.Concat(args, []string{"--a", better})

	p := plannedArenaOf(t, slices.Concat(one, []string{"--prompt-price", "1", "--completion-price", "2"})...)
	// Two models answer 12 prompts; the judge sees each pair of answers in both orders.
	if p.Prompts != 12 || p.Answers.Ask != 24 || p.Games.Ask != 24 || p.Answers.Held+p.Games.Held != 0 {
		t.Errorf("%+v", p.Plan)
	}
	// (1.960 + 0.842)·0.45/√12.
	if got := fmt.Sprintf("%.4f", p.MinDifference); got != "0.3640" {
		t.Errorf("the smallest difference is %s, want 0.3640", got)
	}
	if cost := (float64(p.Answers.PromptTokens) + 2*float64(p.Answers.CompletionTokens)) / 1e6; p.AnswersCost.ByTokens == nil || *p.AnswersCost.ByTokens != cost {
		t.Errorf("money %v, want %v", p.AnswersCost.ByTokens, cost)
	}
	if n := w.Stats().Generations; n != 0 {
		t.Fatalf("the plan asked for %d generations", n)
	}

	first := playedArena(t, one...)
	asked := w.Stats().Generations
	if len(first.Matches) != 1 || first.Matches[0].Tally.Games != 24 || first.Standings != nil || first.Matches[0].LengthControlled.Form != winrate.MinimalForm {
		t.Errorf("%+v", first.Matches)
	}
	if p := plannedArenaOf(t, one...); p.Answers.Held != 24 || p.Games.Held != 24 || p.Answers.Ask+p.Games.Ask != 0 {
		t.Errorf("after the arena: %+v", p.Plan)
	}
	report := readFile(t, filepath.Join(out, arena.ReportFile))
	playedArena(t, one...)
	if w.Stats().Generations != asked || readFile(t, filepath.Join(out, arena.ReportFile)) != report {
		t.Errorf("the second time asked for %d generations, or wrote other figures", w.Stats().Generations-asked)
	}
	want(t, nil, "verify", out)

	two := slices.Concat(one, []string{"--a", "sim:quality=+1.0,length=+0,noise=+0"})
	if p := plannedArenaOf(t, two...); p.Answers.Ask != 12 || p.Games.Ask != 24 {
		t.Errorf("of a second model: %+v", p.Plan)
	}
	second := playedArena(t, two...)
	if len(second.Standings) != 3 || second.Matches[0].LengthControlled.Form != winrate.DifficultyForm {
		t.Errorf("%+v", second.Summary)
	}
	want(t, nil, "verify", out)

	// The games of this arena are known to another.
	known := filepath.Join(t.TempDir(), "known")
	third := playedArena(t, arenaOf(w.URL, prompts, known, "--a", "judge-2", "--known", out)...)
	if third.Matches[0].LengthControlled.Form != winrate.DifficultyForm || len(third.Known) != 1 {
		t.Errorf("%+v", third.Known)
	}
	if len(third.Warnings) != 1 || !strings.Contains(third.Warnings[0], `family "judge"`) {
		t.Errorf("warnings %q, want one of the judge's own family", third.Warnings)
	}
	want(t, nil, "verify", known)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Mistakes are found before anything is asked.
func TestArenaRefuses(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 2)
	w := newWorker(t, simulator.Options{})
	other := filepath.Join(t.TempDir(), "other")
	want(t, nil, "arena", "--simulate", "--a", better, "--b", "else", "--judge", "judge", "--prompts", prompts, "--out", other)
	file := filepath.Join(t.TempDir(), "arena.yaml")
	if err := os.WriteFile(file, []byte("judge: {verdicct: two}\nsimulat: {enabled: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--a", base}, []string{`model "base" plays twice`}},
		{[]string{"--a", better, "--known", "nowhere"}, []string{"nowhere has no arena.json"}},
		{[]string{"--a", better, "--known", other}, []string{"played against the baseline base"}},
		{[]string{file, "--a", better}, []string{"arena.yaml:1: judge.verdicct is no key of this file; did you mean judge.verdict?", "arena.yaml:2: simulat is no key"}},
		{[]string{"--a", better, "--verdict", "three", "--outcome", "x"}, []string{`judge.verdict is "three"; allowed is five or two`, `outcome is "x"`}},
	} {
		p := begin(t, nil, arenaOf(w.URL, prompts, filepath.Join(t.TempDir(), "out"), c.args...)...)
		if code := p.wait(t); code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", c.args, code, exitUsage)
		}
		for _, wanted := range c.want {
			if got := p.stderr.String(); !strings.Contains(got, wanted) {
				t.Errorf("%q: the message lacks %q:\n%s", c.args, wanted, got)
			}
		}
	}
	if n := w.Stats().Generations; n != 0 {
		t.Errorf("%d generations were asked for", n)
	}
}

// Given answers are compared without a server of their model, and prompts without one are not played.
func TestArenaOfGivenAnswers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prompts, given := filepath.Join(dir, "prompts.jsonl"), filepath.Join(dir, "answers.jsonl")
	for name, text := range map[string]string{
		prompts: `{"prompt": "One?"}` + "\n" + `{"prompt": "Two?"}` + "\n" + `{"prompt": "Three?"}` + "\n",
		given:   `{"prompt": "One?", "answer": "First."}` + "\n" + `{"prompt": "Three?", "answer": "Third."}` + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	r := playedArena(t, "arena", "--simulate", "--a", better, "--b", "published", "--b-answers", given, "--judge", "judge", "--prompts", prompts, "--out", out, "--json")
	if tally := r.Matches[0].Tally; tally.Prompts != 2 || tally.Games != 4 {
		t.Errorf("%+v, want 4 games on the 2 prompts with an answer", tally)
	}
	want(t, nil, "verify", out)
}

// A folder with files of others is refused unless it is adopted, and no file of others is replaced.
func TestArenaKeepsForeignFiles(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 3)
	w := newWorker(t, simulator.Options{})
	for _, c := range []struct {
		file, text string
		adopt      bool
		code       int
	}{
		{"notes.txt", "mine", false, exitUsage},
		{"notes.txt", "mine", true, exitDone},
		{arena.ReportFile, "{}", true, exitUsage},
		{arena.PageFile, "<html>", true, exitUsage},
		{arena.GamesFile, "PAR1 of others PAR1", true, exitUsage},
		{arena.AnswersFile, "", true, exitUsage},
	} {
		out := t.TempDir()
		name := filepath.Join(out, c.file)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := w.Stats().Requests
		args := arenaOf(w.URL, prompts, out, "--a", better)
		if c.adopt {
			args = append(args, "--adopt")
		}
		p := begin(t, nil, args...)
		if code := p.wait(t); code != c.code {
			t.Errorf("%s, adopt %v: exit code %d, want %d\n%s", c.file, c.adopt, code, c.code, p.stderr.String())
		}
		if c.code == exitUsage && w.Stats().Requests != before {
			t.Errorf("%s: %d requests were made before the folder was refused", c.file, w.Stats().Requests-before)
		}
		if got := readFile(t, name); got != c.text {
			t.Errorf("%s was changed to %q", c.file, got)
		}
	}
}

// Killed at any moment, an arena is finished by the same command, with the games of one that nothing disturbed, and
// asks for nothing that is durable.
func TestKilledArena(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 10)
	calm := newWorker(t, slowly(simulator.Options{}))
	undisturbed := filepath.Join(t.TempDir(), "out")
	more := []string{"--a", better, "--max-in-flight", "4"}
	wanted := playedArena(t, arenaOf(calm.URL, prompts, undisturbed, more...)...)
	all := calm.Stats()

	r := killMoments(t, 4)
	for range killsOr(2) {
		at := 1 + r.Int64N(all.Requests)
		t.Run(fmt.Sprintf("at request %d", at), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, slowly(simulator.Options{}))
			out := filepath.Join(t.TempDir(), "out")
			args := arenaOf(w.URL, prompts, out, more...)
			was := killAt(t, w, at, args)
			left := sum(durable(t, out))
			got := playedArena(t, args...)
			if asked, most := w.Stats().Generations-was.Generations, all.Generations-left; asked > most {
				t.Errorf("%d generations were asked for after the kill; at most %d were not durable", asked, most)
			}
			for _, name := range []string{arena.GamesFile, arena.AnswersFile} {
				if readFile(t, filepath.Join(out, name)) != readFile(t, filepath.Join(undisturbed, name)) {
					t.Errorf("%s differs from that of the undisturbed arena", name)
				}
			}
			if diff := cmp.Diff(wanted.Summary, got.Summary); diff != "" {
				t.Errorf("the figures differ from those of the undisturbed arena: %s", diff)
			}
			want(t, nil, "verify", out)
		})
	}
}
