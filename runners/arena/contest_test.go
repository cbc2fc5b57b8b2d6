package arena_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coeval/datasets/journal"
	"coeval/pipelines/metareward"
	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// A separate world, without faulty texts.
func startSimulator(t *testing.T) *simulator.Running {
	t.Helper()
	w, err := world.Named("mild")
	if err != nil {
		t.Fatal(err)
	}
	server, err := simulator.Start(simulator.Options{World: &w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func somePrompts(n int) []schemas.Prompt {
	prompts := make([]schemas.Prompt, n)
	for i := range prompts {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprintf("Question %d?", i)}}
		prompts[i] = schemas.Prompt{ID: schemas.PromptID(messages), Messages: messages, Metadata: fmt.Sprintf(`{"category":"c%d"}`, i%2)}
	}
	return prompts
}

// config names three models of the simulated worker: a better one, an equal one and the baseline.
func config(url, out string) arena.Config {
	c := arena.DefaultConfig()
	c.A = []arena.SideConfig{
		arena.NewSide(world.Skill{Quality: 0.8}.Model()), arena.NewSide("equal"),
	}
	c.B = arena.NewSide("base")
	c.Judge.Model = "judge"
	c.Worker.URLs = []string{url}
	c.Output.Dir = out
	c.Prompts.Paths = []string{"unused.jsonl"}
	c.Resamples = 100
	c.Chain = true
	return c
}

// play runs a contest through the journal of its folder and returns the number of requests.
func play(t *testing.T, c arena.Config, prompts []schemas.Prompt, attempt string) (*arena.Result, *arena.Report, int64) {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	contest, err := c.Contest(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.Output.Dir, "journal")
	lengths, err := journal.FindPrefixBits(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	asking := metareward.NewAsking(c.Base(), attempt, int64(len(prompts)), lengths, nil)
	asking.Infer.Fence = ""
	var requests int64
	result, err := contest.Play(t.Context(), prompts, func(ctx context.Context, dossiers []schemas.Dossier, chain []stage.Spec) error {
		calls, err := infer.RunInProcess(ctx, dossiers, asking.Bits, chain, asking.Infer)
		for _, tally := range calls {
			requests += tally.Requests
		}
		return err
	})
	if err := infer.Attach(attempt).Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	report := &arena.Report{
		Judge: "judge", Baseline: "base", Pairings: result.Pairings, Outcome: c.Outcome, Resamples: c.Resamples, Prompts: len(prompts),
	}
	games := make([]winrate.Game, len(result.Games))
	for i := range result.Games {
		games[i] = result.Games[i].Game
	}
	report.Summary = arena.Summarize("base", result.Pairings, games, result.Answers, nil, winrate.Options{Outcome: c.Outcome, Resamples: c.Resamples})
	if err := result.Write(t.Context(), c.Output.Dir, report); err != nil {
		t.Fatal(err)
	}
	return result, report, requests
}

// A better model wins and an equal one doesn't. All games exist. A second contest sends no request and
// writes the same bytes. Verify reports every change.
func TestContest(t *testing.T) {
	server := startSimulator(t)
	c := config(server.URL(), t.TempDir())
	prompts := somePrompts(60)
	result, report, requests := play(t, c, prompts, "one")
	if requests == 0 || len(report.Matches) != 3 {
		t.Fatalf("%d requests, %d matches; want the three of a chain", requests, len(report.Matches))
	}
	// 3 pairings × 60 prompts × 2 orders.
	if len(result.Games) != 360 || len(result.Answers) != 180 {
		t.Errorf("%d games, %d answers; want 360 and 180", len(result.Games), len(result.Answers))
	}
	better, equal := report.Matches[0], report.Matches[1]
	if better.WinRate.Low <= 0.5 {
		t.Errorf("a model that is better by 0.8 points wins %+v", better.WinRate)
	}
	// Four standard errors of 60 prompts with a deviation of at most 0.5.
	if math.Abs(equal.WinRate.Value-0.5) > 4*0.5/math.Sqrt(60) {
		t.Errorf("an equal model wins %+v", equal.WinRate)
	}
	if len(better.Categories) != 2 || better.LengthControlled.Form != winrate.DifficultyForm {
		t.Errorf("%d categories, form %s; want 2 and %s", len(better.Categories), better.LengthControlled.Form, winrate.DifficultyForm)
	}
	if report.Standings[0].Model != better.A {
		t.Errorf("the standings begin with %s", report.Standings[0].Model)
	}

	before := files(t, c.Output.Dir)
	if _, _, requests := play(t, c, prompts, "two"); requests != 0 {
		t.Errorf("the second contest made %d requests", requests)
	}
	for name, b := range files(t, c.Output.Dir) {
		if before[name] != b {
			t.Errorf("%s differs after the second contest", name)
		}
	}
	checkVerify(t, c.Output.Dir)
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{arena.ReportFile, arena.GamesFile, arena.AnswersFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	return out
}

// checkVerify expects no problem in a folder, and one after each change.
func checkVerify(t *testing.T, dir string) {
	t.Helper()
	verify := func() []string {
		problems, err := arena.Verify(t.Context(), dir)
		if err != nil {
			problems = append(problems, err.Error())
		}
		return problems
	}
	if problems := verify(); len(problems) > 0 {
		t.Errorf("verify finds %q in a whole arena", problems)
	}
	whole := files(t, dir)
	change := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if len(verify()) == 0 {
			t.Errorf("verify finds nothing after a change of %s", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(whole[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change(arena.GamesFile, whole[arena.GamesFile][1:])
	change(arena.AnswersFile, whole[arena.AnswersFile]+"x")
	for _, edit := range [][2]string{
		{`"first_wins": `, `"first_wins": 1`},
		{`"theta": `, `"theta": 1`},
		{`"low": 0.`, `"low": 0.1`},
		{`"rounds": `, `"rounds": 1`},
		{`"outcome": "hard"`, `"outcome": "soft"`},
		{`"simulated": `, `"simulated":  `},
		{`"judge": "`, `"judge": "x`},
	} {
		edited := strings.Replace(whole[arena.ReportFile], edit[0], edit[1], 1)
		if edited == whole[arena.ReportFile] {
			t.Fatalf("%s has no %s", arena.ReportFile, edit[0])
		}
		change(arena.ReportFile, edited)
	}
}

// All problems of a config are reported at once, by their keys.
func TestConfigProblems(t *testing.T) {
	c, err := arena.ParseConfig("arena.yaml", []byte("a: [{model: x, temperature: 20}]\njudge: {verdict: three, replicates: 99}\noutcome: both\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Validate()
	for _, key := range []string{"a[0].temperature", "b.model", "judge.model", "judge.verdict", "judge.replicates", "outcome", "output.dir", "prompts.paths"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("problems don't name %s: %v", key, err)
		}
	}
	if _, err := arena.ParseConfig("arena.yaml", []byte("jugde: {api_key: sk-secret-secret}\n")); err == nil || strings.Contains(err.Error(), "sk-secret") {
		t.Errorf("an unknown key gives %v", err)
	}
}

// A model in a list keeps the defaults that it doesn't set.
func TestSidesOfYAML(t *testing.T) {
	c, err := arena.ParseConfig("arena.yaml", []byte("a:\n  - model: x\n    max_tokens: 64\nb:\n  model: y\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := arena.NewSide("x")
	want.MaxTokens = 64
	if got := c.A[0]; got.Model != "x" || got.MaxTokens != 64 || *got.TopP != *want.TopP || *got.Temperature != *want.Temperature {
		t.Errorf("a[0] is %+v; want %+v", got.Role, want.Role)
	}
}

// A judge of the family of a side is named.
func TestFamilyWarning(t *testing.T) {
	c := config("http://localhost:1/v1", "out")
	c.Judge.Model = "meta-llama/Llama-3.3-70B"
	c.A[0].Model = "someone/llama-3-8b"
	contest, err := c.Contest(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := contest.Warnings(); len(w) != 1 || !strings.Contains(w[0], "llama") {
		t.Errorf("warnings are %q", w)
	}
}
