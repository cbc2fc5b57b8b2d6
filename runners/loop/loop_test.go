package loop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"coeval/datasets/shards"
	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/runners/loop"
	"coeval/runners/loop/config"
	"coeval/runners/loop/steps"
	"coeval/schemas"
)

// Besides the tests the test binary has two roles: the program that a loop starts, and a loop that can
// be killed.
func TestMain(m *testing.M) {
	switch os.Getenv("LOOP_TEST_PART") {
	case "program":
		if err := program(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "loop":
		if err := runLoop(context.Background(), os.Args[1], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func runLoop(ctx context.Context, dir string, out io.Writer) error {
	b, err := os.ReadFile(filepath.Join(dir, "loop.yaml"))
	if err != nil {
		return err
	}
	c, err := config.Parse("loop.yaml", b)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	l := &loop.Loop{Config: c, Binary: binary, Out: out, Env: []string{"LOOP_TEST_PART=program"}}
	return l.Run(ctx)
}

// program imitates the commands of coeval for a loop: it writes files that depend on its config alone,
// and appends each call to the file calls in the folder of the loop.
func program(args []string) error {
	settings := map[string]any{}
	if strings.HasSuffix(args[1], ".yaml") {
		b, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(b, &settings); err != nil {
			return err
		}
	}
	section := func(name string) map[string]any { s, _ := settings[name].(map[string]any); return s }
	dir := fmt.Sprint(section("output")["dir"])
	switch args[0] {
	case "run":
		return fakeRun(dir, settings)
	case "arena":
		return fakeArena(dir, settings, slices.Contains(args, "--answers-only"))
	case "calibrate":
		return os.WriteFile(filepath.Join(must(dir), "calibration.json"), []byte(`{"agreement":{"pairs":100,"with_ties":{"value":0.7}}}`), 0o600)
	case "compare":
		fmt.Println(`{"signs":[{"name":"chosen responses grow longer","seen":false,"known":true}]}`)
		return nil
	case "report":
		return os.WriteFile(filepath.Join(args[1], "report.html"), []byte("report"), 0o600)
	}
	return fmt.Errorf("no command %q", args[0])
}

func must(dir string) string {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		panic(err)
	}
	return dir
}

// fakeRun writes a pair of each role for each of twenty prompts. Its texts name the preset and all
// models. Phase 2 wants the folder of phase 1, as a run does whose journal has the calls.
func fakeRun(dir string, settings map[string]any) error {
	side := func(name string) string {
		s, _ := settings[name].(map[string]any)
		return fmt.Sprintf("%v@%v", s["model"], s["revision"])
	}
	model := fmt.Sprint(settings["preset"], side("worker"), side("past"), side("future"))
	if settings["preset"] == "temporal-2" {
		if _, err := os.Stat(filepath.Join(dir, "run.json")); err != nil {
			return fmt.Errorf("phase 2 doesn't find phase 1: %w", err)
		}
	}
	for _, role := range []string{schemas.RoleActor, schemas.RoleJudge} {
		var pairs []schemas.Pair
		for i := range 20 {
			m := []schemas.Message{{Role: "user", Content: fmt.Sprint(i)}}
			chosen := fmt.Sprintf("%s %s %d", role, model, i)
			pairs = append(pairs, schemas.Pair{
				ID: schemas.PairID(role, chosen, "bad"), PromptID: schemas.PromptID(m), Prompt: m, Metadata: "{}",
				Chosen: []schemas.Message{{Role: "assistant", Content: chosen}}, Rejected: []schemas.Message{{Role: "assistant", Content: "bad"}},
			})
		}
		var b bytes.Buffer
		if _, err := shards.WriteRows(&b, pairs); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(must(filepath.Join(dir, role)), "train-0.parquet"), b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "run.json"), []byte(model), 0o600)
}

// fakeArena gives each model a win rate that grows with its place.
func fakeArena(dir string, settings map[string]any, answersOnly bool) error {
	if answersOnly {
		return os.WriteFile(filepath.Join(must(dir), "answers-of-baseline"), nil, 0o600)
	}
	if _, err := os.Stat(filepath.Join(dir, "answers-of-baseline")); err != nil {
		return fmt.Errorf("the baseline was not asked while it was served: %w", err)
	}
	var report arena.Report
	report.Baseline = "base"
	models, _ := settings["a"].([]any)
	for i, m := range models {
		side, _ := m.(map[string]any)
		value := 0.6 + 0.1*float64(i)
		chars := 1000.0
		report.Matches = append(report.Matches, &winrate.Figures{
			A: fmt.Sprintf("%v@%v", side["model"], side["revision"]), B: "base", CharsA: &chars, CharsB: &chars,
			WinRate:          &winrate.Estimate{Value: value, Low: value - 0.05, High: value + 0.05},
			LengthControlled: &winrate.LengthControlled{Estimate: winrate.Estimate{Value: value, Low: value - 0.05, High: value + 0.05}},
		})
	}
	r := &arena.Result{}
	return r.Write(context.Background(), dir, &report)
}

// modelServer serves adapters whose log-probabilities depend on their files.
func modelServer(t *testing.T) string {
	t.Helper()
	var mu sync.Mutex
	adapters := map[string]string{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		data := []map[string]string{{"id": "base"}}
		for name, path := range adapters {
			data = append(data, map[string]string{"id": name, "root": path})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	})
	mux.HandleFunc("POST /v1/load_lora_adapter", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Name string `json:"lora_name"`
			Path string `json:"lora_path"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		defer mu.Unlock()
		adapters[body.Name] = body.Path
		_, _ = w.Write([]byte("Success"))
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model    string           `json:"model"`
			Messages []map[string]any `json:"messages"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		path := adapters[body.Model]
		mu.Unlock()
		weights, _ := os.ReadFile(filepath.Join(path, "weights"))
		h := fnv.New64a()
		fmt.Fprint(h, string(weights), body.Messages)
		draws := rand.New(rand.NewPCG(h.Sum64(), 0))
		var content []map[string]float64
		for range 8 {
			content = append(content, map[string]float64{"logprob": -draws.Float64()})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{
			"message": map[string]string{"content": "text"}, "logprobs": map[string]any{"content": content},
		}}})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/v1"
}

// newLoop writes the config of a loop of three iterations, with more lines at its end.
func newLoop(t *testing.T, url string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`dir: %[1]s/loop
run:
  worker:
    urls: [%[2]s]
    model: base
  prompts: {paths: [prompts.jsonl]}
model: {path: first-model}
train:
  command: 'echo {iteration} >>%[1]s/trainings; mkdir -p {out} && cat {train}/train.parquet >{out}/weights'
swap: {kind: lora}
evaluate:
  arena: {judge: {model: judge}, prompts: {paths: [arena.jsonl]}}
  people: people.jsonl
decide: {iterations: 3}
`, dir, url) + strings.Join(more, "\n")
	if err := os.WriteFile(filepath.Join(dir, "loop.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// outcome contains the results that must not depend on kills: the files of sets and models, and the
// state's outputs.
func outcome(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	state, err := steps.Open(filepath.Join(dir, "loop"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range state.Records() {
		switch r.Step {
		case steps.MakeSet, steps.TrainModel, steps.FutureSet, steps.TrainFuture, steps.Decide: // others contain times or addresses
			text := strings.ReplaceAll(string(r.Output), dir, "DIR")
			out[fmt.Sprint(r.Iteration, r.Step)] = text
		}
	}
	for it := 1; it <= 3; it++ {
		b, err := os.ReadFile(filepath.Join(dir, "loop", fmt.Sprintf("it-%d", it), "model", "weights"))
		if err != nil {
			t.Fatal(err)
		}
		out[fmt.Sprint("weights ", it)] = string(b)
	}
	return out
}

// Three iterations train three times, each on data of the model before it, and end by the rule.
func TestLoop(t *testing.T) {
	dir := newLoop(t, modelServer(t))
	var said bytes.Buffer
	if err := runLoop(t.Context(), dir, &said); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "all 3 iterations are done") || !strings.Contains(said.String(), "the best model is the model of iteration 3") {
		t.Errorf("it said:\n%s", said.String())
	}
	checkTrainings(t, dir, 1)
	weights := outcome(t, dir)
	if weights["weights 1"] == weights["weights 2"] {
		t.Error("iteration 2 trains on the data of iteration 1")
	}
	page, err := os.ReadFile(filepath.Join(dir, "loop", loop.PageFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.800", "(best)", "all 3 iterations are done"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	said.Reset()
	if err := runLoop(t.Context(), dir, &said); err != nil || strings.Contains(said.String(), "iteration 1: ") {
		t.Errorf("the second start: %v\n%s", err, said.String())
	}
}

// All models of the arena answer with the sampling and the bounds of evaluate.arena.b, and with their own
// names.
func TestArenaAnswers(t *testing.T) {
	dir := newLoop(t, modelServer(t))
	file := filepath.Join(dir, "loop.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bounded := strings.Replace(string(b), "arena: {judge:", "arena: {b: {model: another, max_tokens: 64}, judge:", 1)
	if err := os.WriteFile(file, []byte(strings.Replace(bounded, "iterations: 3", "iterations: 2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runLoop(t.Context(), dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	var c struct {
		A []map[string]any `yaml:"a"`
		B map[string]any   `yaml:"b"`
	}
	if b, err = os.ReadFile(filepath.Join(dir, "loop", "it-2", "arena.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.A) != 2 || c.A[0]["model"] == c.A[1]["model"] || c.B["model"] != "base" {
		t.Fatalf("the arena compares %v with %v", c.A, c.B)
	}
	for _, side := range append(c.A, c.B) {
		if fmt.Sprint(side["max_tokens"]) != "64" {
			t.Errorf("%v answers without the bound", side["model"])
		}
	}
}

// checkTrainings expects so many trainings for each iteration.
func checkTrainings(t *testing.T, dir string, each int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "trainings"))
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for it := 1; it <= 3; it++ {
		want += strings.Repeat(fmt.Sprintf("%d\n", it), each)
	}
	if string(b) != want {
		t.Errorf("trainings were %q; want %d for each iteration", b, each)
	}
}

// A loop that is killed again and again, at moments spread over its whole run, ends with the same
// sets, models and decisions as one that is not, and trains as often.
func TestKilledLoop(t *testing.T) {
	t.Run("one phase", func(t *testing.T) { killedLoop(t, 1) })
	t.Run("two phases", func(t *testing.T) { killedLoop(t, 2, "schedule: [{preset: temporal}]") })
}

func killedLoop(t *testing.T, trainings int, more ...string) {
	t.Helper()
	t.Parallel()
	undisturbed := newLoop(t, modelServer(t), more...)
	began := time.Now()
	if err := runLoop(t.Context(), undisturbed, io.Discard); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	want := outcome(t, undisturbed)

	dir := newLoop(t, modelServer(t), more...)
	r := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for try := 0; ; try++ {
		if try == 200 {
			t.Fatal("the loop does not end")
		}
		c := exec.CommandContext(t.Context(), os.Args[0], dir)
		c.Env = append(os.Environ(), "LOOP_TEST_PART=loop")
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		limit := time.Duration(r.Float64() * float64(whole) / 4)
		if kills >= 20 {
			limit = time.Hour
		}
		timer := time.NewTimer(limit)
		select {
		case err := <-ended:
			timer.Stop()
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if got := outcome(t, dir); !maps.Equal(got, want) {
				t.Errorf("after %d kills the outcome differs", kills)
			}
			checkTrainings(t, dir, trainings)
			t.Logf("%d kills", kills)
			return
		case <-timer.C:
			kills++
			if err := c.Process.Signal(syscall.SIGKILL); err != nil {
				t.Logf("kill: %v", err)
			}
			if err := <-ended; err == nil {
				t.Logf("the loop ended before the kill")
			}
		}
	}
}

// settingsIn reads a config that the loop wrote.
func settingsIn(t *testing.T, dir, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "loop", name))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]any{}
	if err := yaml.Unmarshal(b, &settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// An iteration of the preset temporal trains twice. Phase 2 runs in the folder of phase 1 and asks
// the model that phase 1 trained; past is the first model in every iteration.
func TestBothPhases(t *testing.T) {
	dir := newLoop(t, modelServer(t), "schedule: [{preset: temporal, set: {judge.n: 5}}]")
	var said bytes.Buffer
	if err := runLoop(t.Context(), dir, &said); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	checkTrainings(t, dir, 2)
	state, err := steps.Open(filepath.Join(dir, "loop"))
	if err != nil {
		t.Fatal(err)
	}
	for it := 1; it <= 3; it++ {
		var done []steps.Step
		for _, r := range state.Records() {
			if r.Iteration == it {
				done = append(done, r.Step)
			}
		}
		if !slices.Equal(done, slices.Concat(steps.Future, steps.Every)) {
			t.Errorf("the steps of iteration %d are %v", it, done)
		}
		one, two := settingsIn(t, dir, fmt.Sprintf("it-%d/phase-1.yaml", it)), settingsIn(t, dir, fmt.Sprintf("it-%d/run.yaml", it))
		var future struct {
			Model struct{ Name, Digest string }
		}
		if err := json.Unmarshal(state.Find(it, steps.SwapFuture).Output, &future); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{"preset": "temporal-2", "past": map[string]any{"model": "base"}, "future": map[string]any{
			"model": future.Model.Name, "revision": future.Model.Digest[:16],
		}} {
			if fmt.Sprint(two[key]) != fmt.Sprint(want) {
				t.Errorf("iteration %d: %s of phase 2 is %v; want %v", it, key, two[key], want)
			}
		}
		if one["preset"] != "temporal-1" || one["future"] != nil {
			t.Errorf("iteration %d: phase 1 has the settings %v", it, one)
		}
		delete(two, "future")
		two["preset"] = one["preset"]
		if fmt.Sprint(one) != fmt.Sprint(two) {
			t.Errorf("iteration %d: the phases differ in more than the future model:\n%v\n%v", it, one, two)
		}
	}
	weights, err := os.ReadFile(filepath.Join(dir, "loop", "it-1", "future", "model", "weights"))
	if err != nil {
		t.Fatal(err)
	}
	if outcome(t, dir)["weights 1"] == string(weights) {
		t.Error("the model is trained on the set of phase 1")
	}
}

// More iterations, or other thresholds, continue a loop that has ended; finished steps are not repeated.
func TestGoOnAfterTheEnd(t *testing.T) {
	dir := newLoop(t, modelServer(t), "slice_count: 5")
	if err := runLoop(t.Context(), dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "loop.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(b, []byte("iterations: 3"), []byte("iterations: 4"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := runLoop(t.Context(), dir, &said); err != nil {
		t.Fatal(err)
	}
	if got := said.String(); strings.Contains(got, "iteration 3: produce") || !strings.Contains(got, "iteration 4: train") || !strings.Contains(got, "all 4 iterations are done") {
		t.Errorf("it said:\n%s", got)
	}
}

// A training that fails ends the loop with its exit code and the end of its log; mended, the same
// command goes on there.
func TestTrainingFails(t *testing.T) {
	dir := newLoop(t, modelServer(t))
	name := filepath.Join(dir, "loop.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(b), "mkdir -p", "test -e "+dir+"/mended || { echo CUDA out of memory; exit 9; }; mkdir -p", 1)
	if err := os.WriteFile(name, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	err = runLoop(t.Context(), dir, io.Discard)
	for _, want := range []string{"iteration 1, train", "exit code 9", "CUDA out of memory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := runLoop(t.Context(), dir, &said); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "iteration 1: produce") {
		t.Error("the run was made again")
	}
}

// Settings of a step that is done can't change, and the plan shows it; prices and servers can.
func TestChangedSettings(t *testing.T) {
	dir := newLoop(t, modelServer(t))
	if err := runLoop(t.Context(), dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "loop.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	moved := regexp.MustCompile(`urls: \[.*\]`).ReplaceAllString(string(b), "urls: ['http://127.0.0.1:9/v1']\n    api_key_env: HOME")
	moved = strings.Replace(moved, "run:", "run:\n  client: {patience: 2m}", 1)
	for step, text := range map[steps.Step]string{
		"":               strings.Replace(moved, "evaluate:", "evaluate:\n  gpu_hour_usd: 2", 1),
		steps.TrainModel: strings.Replace(string(b), "mkdir -p", "true; mkdir -p", 1),
		steps.Measure:    strings.Replace(string(b), "judge: {model: judge}", "judge: {model: base}", 1),
		steps.PhaseOne:   string(b) + "schedule: [{preset: temporal}]\n", // it is missing, and later steps are done
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		other := "other settings."
		if step == steps.Measure {
			other = "another evaluate.figure, evaluate.arena or evaluate.people,"
		}
		want := fmt.Sprintf("iteration 1, %s: this step was done with %s", step, other)
		if err := runLoop(t.Context(), dir, io.Discard); (err == nil) != (step == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v; want %q", err, want)
		}
		c, err := config.Parse("loop.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		planned := &loop.Loop{Config: c}
		if _, err := planned.Intended(); err != nil {
			t.Fatal(err)
		}
		iteration, at, changed := planned.Changed()
		if changed != (step != "") || at != step || changed && !strings.Contains(planned.Refusal(iteration, at).Error(), want) {
			t.Errorf("the plan of a change of %q shows a change: %t, of %q in iteration %d", step, changed, at, iteration)
		}
	}
}

// A key that the config names and the environment lacks is an error before the loop writes anything.
func TestMissingKey(t *testing.T) {
	t.Setenv("COEVAL_TEST_EMPTY", "")
	for _, variable := range []string{"COEVAL_TEST_EMPTY", "COEVAL_TEST_UNSET"} {
		dir := newLoop(t, "http://127.0.0.1:1/v1")
		name := filepath.Join(dir, "loop.yaml")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b = []byte(strings.Replace(string(b), "{kind: lora}", "{kind: lora, api_key_env: "+variable+"}", 1))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := runLoop(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), "environment variable "+variable) {
			t.Errorf("%v: want an error that names %s", err, variable)
		}
		if _, err := os.Stat(filepath.Join(dir, "loop")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder of the loop was made: %v", err)
		}
	}
}
