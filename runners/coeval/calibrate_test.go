package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/calibrate"
	"coeval/schemas"
	"coeval/transforms/score"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// scoredLabels writes a file of responses of a world's actor, each with its true quality on the
// rubric's scale as the score that people give.
func scoredLabels(t *testing.T, w *world.World, prompts, each int) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	for i := range prompts {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		for k := range each {
			c := w.Answer(messages, "actor", int64(k), 0)
			quality, ok := w.Quality(c.Text)
			if !ok || c.FinishReason != "stop" {
				continue
			}
			line := map[string]any{"prompt": messages[0].Content, "response": c.Text, "score": min(max(quality, 0), 5)}
			if err := e.Encode(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "scores.jsonl")
	write(t, name, b.String())
	return name
}

// pairLabels writes a file of pairs of responses of a world's actor of which people prefer the truly
// better one.
func pairLabels(t *testing.T, w *world.World, prompts int) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	for i := range prompts {
		messages := []schemas.Message{{Role: "user", Content: fmt.Sprint("Question ", i)}}
		first, second := w.Answer(messages, "actor", 1, 0), w.Answer(messages, "actor", 2, 0)
		a, okA := w.Quality(first.Text)
		z, okZ := w.Quality(second.Text)
		if !okA || !okZ || first.Text == second.Text {
			continue
		}
		line := map[string]any{"prompt": messages[0].Content, "response_1": first.Text, "response_2": second.Text, "label": 1}
		if z > a {
			line["label"] = 2
		}
		if err := e.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "pairs.jsonl")
	write(t, name, b.String())
	return name
}

// calibrateOutput is the output of calibrate --json.
type calibrateOutput struct {
	calibrate.Figures

	Calls schemas.CallTally `json:"calls"`
}

func calibrated(t *testing.T, args ...string) *calibrateOutput {
	t.Helper()
	var f calibrateOutput
	if err := json.Unmarshal([]byte(want(t, nil, append([]string{"calibrate", "--json"}, args...)...)), &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// The map of a judge whose scale is distorted finds the hidden scale again, and reverses no order.
//
// A judgment of a response of quality q is g(q + e) with g(x) = 5·(x/5)^(2^bend) and e normal of
// σ = 0.3, so that the mean S of N = 11 lies near g(q), with the noise ν = σ/√N = 0.09 in units of
// q. Qualities are normal around 3 with τ = √(0.4² + 0.6²) = 0.72.
func TestCalibrationRecoversTheScale(t *testing.T) {
	t.Parallel()
	for _, bend := range []float64{1, -1} {
		t.Run(fmt.Sprint("bend ", bend), func(t *testing.T) {
			t.Parallel()
			truth := world.Default()
			truth.JudgeNoise, truth.JudgePersistent, truth.JudgeLengthBias, truth.ScoreStep, truth.JudgeBend = 0.3, 0, 0, 0, bend
			truth.ResponseChars, truth.JudgmentChars = 200, 0
			const nu, tau = 0.09, 0.72
			w := newWorker(t, simulator.Options{World: &truth})
			file, dir := scoredLabels(t, &truth, 300, 4), t.TempDir()
			f := calibrated(t, "--people", file, "--out", filepath.Join(dir, "out"), "--map", filepath.Join(dir, "map.json"), "--url", w.URL, "--model", "simulated", "--resamples", "100")
			b, err := os.ReadFile(filepath.Join(dir, "map.json"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := score.ParseCalibration(b)
			if err != nil {
				t.Fatal(err)
			}
			image := func(points float64) float64 {
				return float64(c.Apply(schemas.Score{N: 1, Sum: int64(math.Round(1000 * points)), Scored: true}).Sum) / 1000
			}
			// Of all maps that never fall the regression leaves the least: no more than the true one, g⁻¹.
			var left, inverse float64
			for _, s := range f.Scores {
				r := &f.Responses[s.Response]
				if r.Mean == nil {
					continue
				}
				for _, b := range f.Fit.Blocks {
					if b.From <= *r.Mean && *r.Mean <= b.To {
						left += (b.People - s.People) * (b.People - s.People)
					}
				}
				true1 := 5 * math.Pow(*r.Mean/5, math.Exp2(-bend))
				inverse += (true1 - s.People) * (true1 - s.People)
			}
			if left > inverse+1e-9 {
				t.Errorf("the regression leaves %v, the true map %v", left, inverse)
			}
			// No map can take the noise ν out; fitting one to 1,200 labels adds less than as much again.
			if f.Fit.Mapped == nil || *f.Fit.Mapped > 2*nu || f.Fit.Error < 4*(2*nu) {
				t.Errorf("the scores err by %v and the map by %v, want at least %v and at most %v", f.Fit.Error, *f.Fit.Mapped, 8*nu, 2*nu)
			}
			// Within τ of the mean a window of 60 of the 1,200 labels is at most 60/(1200·φ(1)/τ) = 0.15
			// points wide, and the mean noise of 60 or more is below 0.06 but once in e^(60·0.06²/2ν²) =
			// e^13. With 0.04 for the shrinkage of E(q|S) and of smoothing g by the noise, the steps of the
			// regression are within 0.25 of the truth, in the middles of its blocks too. Between two
			// middles less than h = 0.5 apart a line is at most h²/8·|g⁻¹″| ≤ 0.02 from the curve: the
			// second derivative of √(5S) is at most 0.53 there, that of S²/5 is 0.4.
			for i, b := range f.Fit.Blocks[1:] {
				if before := f.Fit.Blocks[i]; before.At >= truth.Bend(3-tau) && b.At <= truth.Bend(3+tau) && b.At-before.At > 0.5 {
					t.Errorf("two blocks are at %v and %v, too far from each other for the bound", before.At, b.At)
				}
			}
			for q := 3 - tau; q <= 3+tau; q += 0.01 {
				if off := math.Abs(image(truth.Bend(q)) - q); off > 0.25+0.02 {
					t.Errorf("the map makes %.3f of g(%.2f)", image(truth.Bend(q)), q)
				}
			}
			// Off by so much at a place would be rare; in the mean over the places it is the noise of
			// the regression, less than half of that bound's window and noise.
			var off, worst float64
			for i := range 100 {
				q := 3 - tau + 2*tau*float64(i)/99
				off += math.Abs(image(truth.Bend(q))-q) / 100
				worst = max(worst, math.Abs(image(truth.Bend(q))-q))
			}
			t.Logf("scores err by %.3f, maps by %.3f; within τ the map is off by %.3f in the mean, by %.3f at worst", f.Fit.Error, *f.Fit.Mapped, off, worst)
			if off > (0.15+0.06+0.04)/2 {
				t.Errorf("the map is off by %v in the mean", off)
			}
			for s, last := 0, 0.0; s <= 5000; s++ {
				is := image(float64(s) / 1000)
				if is < last {
					t.Fatalf("%d thousandths have the image %v, fewer have %v", s, is, last)
				}
				last = is
			}
		})
	}
}

// A second time asks nothing and says the same, also after a kill; another judge costs its own
// calls alone; and a run's judgments are not asked again.
func TestCalibrateAsksOnce(t *testing.T) {
	t.Parallel()
	truth := world.Default()
	w := newWorker(t, simulator.Options{World: &truth, Latency: 10 * time.Millisecond})
	labels, out := pairLabels(t, &truth, 30), filepath.Join(t.TempDir(), "out")
	args := []string{
		"calibrate", "--people", labels, "--out", out, "--url", w.URL, "--model", "simulated", "--set", "judge.n=4", "--json",
		// Two requests at a time, so that some are durable and some not yet asked when the client dies.
		"--max-in-flight", "8",
	}
	stats := killAt(t, w, 30, args)
	var first calibrateOutput
	if err := json.Unmarshal([]byte(want(t, nil, args...)), &first); err != nil {
		t.Fatal(err)
	}
	if first.Calls.Replayed == 0 || first.Calls.Generations == 0 {
		t.Fatalf("the kill left %+v: this shows nothing", first.Calls)
	}
	if all := first.Calls.Replayed + first.Calls.Generations; all != int64(4*first.Labels.Responses) {
		t.Errorf("%d generations of %d responses", all, first.Labels.Responses)
	}
	if twice, most := w.Stats().AskedAfterDelivery-stats.AskedAfterDelivery, stats.Generations-first.Calls.Replayed; twice > most {
		t.Errorf("%d generations were asked again after delivery, at most %d were not durable", twice, most)
	}
	again := func(more ...string) (*calibrateOutput, int64) {
		before := w.Stats().Requests
		var f calibrateOutput
		if err := json.Unmarshal([]byte(want(t, nil, append(args, more...)...)), &f); err != nil {
			t.Fatal(err)
		}
		return &f, w.Stats().Requests - before
	}
	before := files(t, out)
	if f, requests := again(); requests != 0 || f.Calls.Replayed != int64(4*f.Labels.Responses) {
		t.Errorf("a second time made %d requests: %+v", requests, f.Calls)
	}
	if diff := cmp.Diff(before, files(t, out)); diff != "" {
		t.Errorf("a second time changed files: %s", diff)
	}
	if f, requests := again("--set", "judge.model=other"); requests == 0 || f.Calls.Generations != int64(4*f.Labels.Responses) || f.Judge.Model != "other" {
		t.Errorf("another judge made %d requests: %+v", requests, f.Calls)
	}
	if f, requests := again(); requests != 0 {
		t.Errorf("the first judge made %d requests again: %+v", requests, f.Calls)
	}
}

// Judgments of a run are not asked for again, and the map of its responses changes S and
// the actor's pairs, but no judgment and no judge pair, and asks nobody.
func TestRunWithACalibration(t *testing.T) {
	t.Parallel()
	truth := world.Default()
	w := newWorker(t, simulator.Options{World: &truth})
	out, dir := filepath.Join(t.TempDir(), "out"), t.TempDir()
	args := runOf(w.URL, promptFile(t, 30), out)
	complete(t, args...)
	var b strings.Builder
	prompts := map[string]string{}
	for _, p := range rows[schemas.PromptRow](t, out, shards.Prompts) {
		prompts[p.ID] = p.Prompt[0].Content
	}
	for _, r := range rows[schemas.ResponseRow](t, out, shards.Responses) {
		if r.ScoreMean != nil {
			quality, _ := truth.Quality(r.Text)
			line, err := json.Marshal(map[string]any{"prompt": prompts[r.PromptID], "response": r.Text, "score": 1 + 9*min(max(quality, 0), 5)/5})
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
	}
	labels, file := filepath.Join(dir, "labels.jsonl"), filepath.Join(dir, "map.json")
	write(t, labels, b.String())
	before, requests := files(t, out), w.Stats().Requests
	f := calibrated(t, "--people", labels, "--scale", "1:10", "--out", out, "--url", w.URL, "--model", "simulated", "--set", "judge.n=4", "--map", file)
	if got := w.Stats().Requests - requests; got != 0 || f.Calls.Replayed == 0 {
		t.Errorf("%d requests for what the run has asked: %+v", got, f.Calls)
	}
	proved(t, out)

	plainResponses, plainJudgments := rows[schemas.ResponseRow](t, out, shards.Responses), rows[schemas.JudgmentRow](t, out, shards.Judgments)
	s := complete(t, append(args, "--set", "judge.calibration="+file)...)
	if got := w.Stats().Requests - requests; got != 0 || s.Calls.Generations != 0 || len(s.Warnings) > 0 && strings.Contains(strings.Join(s.Warnings, " "), "calibration") {
		t.Errorf("a calibration made %d requests, and says %v", got, s.Warnings)
	}
	proved(t, out)
	after := files(t, out)
	for name, digest := range before {
		same := after[name] == digest
		if raw := strings.HasPrefix(name, "raw/judgments") || strings.HasPrefix(name, "judge/") || strings.HasPrefix(name, "raw/comparisons"); raw != same && !strings.HasPrefix(name, "failures") && !strings.HasPrefix(name, "raw/prompts") {
			t.Errorf("%s is the same: %v", name, same)
		}
	}
	checkCalibrated(t, file, plainResponses, rows[schemas.ResponseRow](t, out, shards.Responses))
	if diff := cmp.Diff(plainJudgments, rows[schemas.JudgmentRow](t, out, shards.Judgments)); diff != "" {
		t.Errorf("judgments changed: %s", diff)
	}

	want(t, nil, "report", out)
	if page, err := os.ReadFile(filepath.Join(out, "report.html")); err != nil || !strings.Contains(string(page), "Mean scores are on people") {
		t.Errorf("the report doesn't tell that scores are mapped: %v", err)
	}
	if err := os.Remove(filepath.Join(out, "report.html")); err != nil {
		t.Fatal(err)
	}

	// The content decides, not the name; and verify does not need the file.
	moved := filepath.Join(t.TempDir(), "moved.json")
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	proved(t, out)
	complete(t, append(args, "--set", "judge.calibration="+moved)...)
	if diff := cmp.Diff(after, files(t, out)); diff != "" {
		t.Errorf("another name of the same map: %s", diff)
	}
	// Another judge is reported after the run: nothing else is wrong with it.
	s = complete(t, append(args, "--set", "judge.calibration="+moved, "--set", "judge.revision=2", "--set", "judge.n=3", "--limit", "2")...)
	said := strings.Join(s.Warnings, "\n")
	for _, text := range []string{"was made for the judge simulated, this run's is simulated@2", "means of 4 judgments, this run's are of 3"} {
		if !strings.Contains(said, text) {
			t.Errorf("no warning %q in %q", text, said)
		}
	}
}

// checkCalibrated holds S of a run with a map against S of the same without one.
func checkCalibrated(t *testing.T, file string, before, after []schemas.ResponseRow) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := score.ParseCalibration(b)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range before {
		a, z := before[i], after[i]
		if a.ID != z.ID || a.Contested != z.Contested || (a.ScoreMean == nil) != (z.ScoreMean == nil) {
			t.Fatalf("%+v became %+v", a, z)
		}
		if a.ScoreMean == nil {
			continue
		}
		if *a.ScoreVariance != *z.ScoreVariance {
			t.Errorf("V of %s was %v and is %v", a.ID, *a.ScoreVariance, *z.ScoreVariance)
		}
		n := int(a.ParsedJudgments)
		want := c.Apply(schemas.Score{N: n, Sum: int64(math.Round(*a.ScoreMean * 1000 * float64(n))), Scored: true})
		if *z.ScoreMean != want.Mean() {
			t.Errorf("S of %s is %v, the map makes %v of %v", a.ID, *z.ScoreMean, want.Mean(), *a.ScoreMean)
		}
		if *a.ScoreMean != *z.ScoreMean {
			changed++
		}
	}
	if 2*changed < len(before) {
		t.Errorf("the map changes %d of %d scores: this shows nothing", changed, len(before))
	}
}

// All faults are reported at once, one sentence each, with exit code 2, and nothing is made.
func TestWrongCalibration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		write(t, name, text)
		return name
	}
	pairs := file("pairs.jsonl", `{"prompt": "p", "response_1": "a", "response_2": "b", "label": 1}`)
	high := file("high.jsonl", `{"prompt": "p", "response": "a", "score": 7}`+"\n{}\n")
	out := filepath.Join(dir, "out")
	run := []string{"run", "--simulate", "--prompts", promptFile(t, 2), "--out", out}
	level := `{"version": 1, "date": "2026-11-25", "judge": {"model": "m", "judgments": 11, "template": "t"}, "responses": 9, "prompts": 9,
		"labels": {"file": "l", "sha256": "` + strings.Repeat("0", 64) + `"}, "points": [{"score": 1, "people": 2}, {"score": 2, "people": 1}]}`
	for _, c := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"calibrate"}, []string{"output.dir is missing", "worker.model is missing", "worker.urls is missing", "--people is missing"}},
		{[]string{"calibrate", "--simulate", "--out", out, "--people", pairs, "--scale", "5:1", "--resamples", "1"}, []string{`--scale is "5:1"; allowed are`, "--resamples is 1; allowed is 100 to 100000"}},
		{[]string{"calibrate", "--simulate", "--out", out, "--people", filepath.Join(dir, "none.jsonl")}, []string{"none.jsonl"}},
		{[]string{"calibrate", "--simulate", "--out", out, "--people", high}, []string{"high.jsonl:1: score is 7; allowed is 0 to 5", "high.jsonl:2: no field with a prompt was found"}},
		{[]string{"calibrate", "--simulate", "--out", out, "--people", pairs, "--map", filepath.Join(dir, "map.json")}, []string{"a map needs labels with scores"}},
		{append(run, "--set", "judge.calibration="+filepath.Join(dir, "none.json")), []string{`none.json"; allowed is a file of coeval calibrate --map`}},
		{append(run, "--set", "judge.calibration="+file("level.json", level)), []string{"points[1].people is 1 after 2; a map may not reverse an order"}},
		{append(run, "--set", "judge.calibration="+file("version.json", strings.Replace(level, `"version": 1`, `"version": 9`, 1))), []string{"version is 9; this program reads version 1"}},
		{append(run, "--set", "judge.calibration="+file("field.json", strings.Replace(level, `"date"`, `"colour": 1, "date"`, 1))), []string{`unknown field "colour"`}},
	} {
		_, stderr, code := refused(t, c.args...)
		if code != exitUsage || strings.Count(stderr, "\n") != len(c.wants) {
			t.Errorf("%v: exit code %d, said %q", c.args, code, stderr)
		}
		for _, text := range c.wants {
			if !strings.Contains(stderr, text) {
				t.Errorf("%v: said %q, want %q", c.args, stderr, text)
			}
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%v made %s", c.args, out)
		}
	}
}

// The labels that the repository ships can be tried without a model: the page and the text come,
// and say that it is simulated.
func TestCalibrateSimulated(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	said := want(t, nil, "calibrate", "--simulate", "--people", "../../datasets/llmbar/llmbar-natural.json", "--out", out)
	for _, text := range []string{"SIMULATED", "100 pairs on 100 prompts, 200 responses", "agreement", "Spearman", "calibration error", "intervals", "2,200 generations in"} {
		if !strings.Contains(said, text) {
			t.Errorf("it doesn't say %q:\n%s", text, said)
		}
	}
	page, err := os.ReadFile(filepath.Join(out, "calibration.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Does the judge agree with people?", "<svg", "The simulated worker answered", "Where it agrees"} {
		if !strings.Contains(string(page), text) {
			t.Errorf("the page lacks %q", text)
		}
	}
}

// Both kinds of verdicts are asked on one journal, and a sentence says which is worth its price: in a world whose reads
// know as much as its judgments, reads are; in one whose reads know nothing, judgments in words.
func TestCalibrateVerdicts(t *testing.T) {
	t.Parallel()
	for sentence, loss := range map[string]float64{"reads are worth their price": 0, "judgments in words are worth theirs": 1} {
		truth := world.Default()
		truth.ReadLoss, truth.JudgeUnparsed = loss, 0
		w := newWorker(t, simulator.Options{World: &truth})
		file, out := pairLabels(t, &truth, 120), filepath.Join(t.TempDir(), "out")
		args := []string{"calibrate", "--url", w.URL, "--model", "simulated", "--people", file, "--out", out, "--set", "judge.n=3", "--verdict", "read,reasoned"}
		text := want(t, nil, args...)
		if !strings.Contains(text, sentence) || !strings.Contains(text, "read and reasoned, on ") {
			t.Errorf("with a loss of %v it prints\n%s\nwant %q", loss, text, sentence)
		}
		asked := w.Stats().Generations
		alone := want(t, nil, "calibrate", "--url", w.URL, "--model", "simulated", "--people", file, "--out", out, "--set", "judge.n=3", "--verdict", "read")
		if got := w.Stats().Generations; got != asked || !strings.Contains(alone, "1 reads of each response") {
			t.Errorf("reads alone ask %d more, and print\n%s", got-asked, alone)
		}
	}
}
