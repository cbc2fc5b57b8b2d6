package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/journal"
	"coeval/datasets/shards"
	"coeval/pipelines/metareward"
	"coeval/runners/summary"
	"coeval/schemas"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// The paper's numbers: K = 7 responses to a prompt, N = 11 judgments of a complete response,
// n(n−1) comparisons of the n distinct parsed judgments of the contested one; less the calls that
// failed for good, which have a row of their own each.
func TestPaperArithmetic(t *testing.T) {
	const k, n = 7, 11
	for _, tt := range []struct {
		faults                  simulator.Faults
		prompts, perFile, files int
	}{
		{nil, 20, 2, 16}, // 20 prompts by 2 are 10 shards, which the next power of two rounds up
		{simulator.Faults{simulator.FaultPermanent: 0.03}, 20, 8, 4}, // 3 shards
	} {
		faults, prompts := tt.faults, tt.prompts
		t.Run("faults "+faults.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{Faults: faults})
			out := filepath.Join(t.TempDir(), "out")
			s := complete(t, "run", "--url", w.URL, "--model", "simulated", "--out", out, "--json",
				"--prompts", promptFile(t, prompts), "--set", fmt.Sprint("output.prompts_per_shard=", tt.perFile),
				"--max-in-flight", "512") // a limit that is found out may cost requests of its own
			complete := checkTables(t, out, prompts, k, n)
			run := readRun(t, out)

			ledger := run.Ledger
			if ledger.Lines != int64(prompts) || ledger.Lines != ledger.Bad+ledger.NotDrawn+ledger.Merged+ledger.Findings {
				t.Errorf("the ledger's lines do not add up: %+v", ledger)
			}
			pairs := map[string]int{
				schemas.RoleActor: len(rows[schemas.Pair](t, out, shards.Actor)),
				schemas.RoleJudge: len(rows[schemas.Pair](t, out, shards.Judge)),
			}
			for role, o := range ledger.Roles {
				if o.Total() != ledger.Findings || int64(pairs[role]) != o.Paired {
					t.Errorf("%s: %+v with %d pairs of %d findings", role, o, pairs[role], ledger.Findings)
				}
			}
			if got := len(run.Files); got != tt.files*len(shards.Tables) {
				t.Errorf("%d files, want %d of each table", got, tt.files)
			}

			comparisons := run.Stats.Comparisons.Texts
			failed := int64(len(rows[schemas.FailureRow](t, out, shards.Failures)))
			if wanted := int64(prompts*k) + complete*n + comparisons; faults == nil && (s.Calls.Generations != wanted || failed != 0) {
				t.Errorf("%d generations and %d failures, want %d and none", s.Calls.Generations, failed, wanted)
			}
			if faults != nil && failed == 0 {
				t.Error("no call failed: this run shows nothing")
			}
			if s.Calls.Failed != failed {
				t.Errorf("%d failed calls for %d rows of failures", s.Calls.Failed, failed)
			}
			// One request for each prompt, complete response and comparison; and one probe each
			// of n = 7 and n = 11, of which the simulator gives all.
			stats := w.Stats()
			if wanted := int64(prompts) + complete + comparisons + 2; faults == nil && (stats.Requests != wanted || s.Calls.Requests != wanted) {
				t.Errorf("%d requests were counted, the worker saw %d; want %d", s.Calls.Requests, stats.Requests, wanted)
			}
			if stats.AskedTwice != 0 {
				t.Errorf("%d generations were asked twice", stats.AskedTwice)
			}
			if said := want(t, nil, "verify", out); !strings.Contains(said, "proved") {
				t.Errorf("verify said %q", said)
			}
		})
	}
}

// checkTables counts the rows of the raw tables and returns how many responses are complete.
func checkTables(t *testing.T, out string, prompts, k, n int) (complete int64) {
	t.Helper()
	failed := map[string]int{} // by the stage and the ID that the call was about
	for _, f := range rows[schemas.FailureRow](t, out, shards.Failures) {
		about := f.PromptID
		if f.ResponseID != nil {
			about = f.ResponseID
		}
		failed[f.Stage+*about]++
	}
	replicates, contested := map[string]int{}, map[string]string{}
	for _, r := range rows[schemas.PromptRow](t, out, shards.Prompts) {
		replicates[r.ID] = failed[schemas.StageGenerate+r.ID]
		if r.ContestedResponseID != nil {
			contested[*r.ContestedResponseID] = r.ID
		}
	}
	if len(replicates) != prompts {
		t.Errorf("%d prompts, want %d", len(replicates), prompts)
	}
	judgments, comparisons := map[string]int{}, map[string]int{}
	distinct := map[string]map[string]bool{}
	for _, j := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
		judgments[j.ResponseID]++
		if distinct[j.ResponseID] == nil {
			distinct[j.ResponseID] = map[string]bool{}
		}
		if j.Score != nil {
			distinct[j.ResponseID][j.Text] = true
		}
	}
	for _, c := range rows[schemas.ComparisonRow](t, out, shards.Comparisons) {
		comparisons[c.ResponseID]++
	}
	for _, r := range rows[schemas.ResponseRow](t, out, shards.Responses) {
		replicates[r.PromptID] += len(r.Replicates)
		want := 0
		if r.Status == string(schemas.Complete) {
			complete++
			want = n
		}
		if got := judgments[r.ID] + failed[schemas.StageJudge+r.ID]; got != want {
			t.Errorf("response %s (%s): %d judgments and failed calls, want %d", r.ID, r.Status, got, want)
		}
		d := len(distinct[r.ID])
		want = 0
		if contested[r.ID] != "" && d >= 3 { // min_meta_judgments
			want = d * (d - 1)
		}
		if got := comparisons[r.ID] + failed[schemas.StageMeta+r.ID]; got != want {
			t.Errorf("response %s, contested %t: %d comparisons and failed calls of %d judgments, want %d", r.ID, r.Contested, got, d, want)
		}
		if r.Contested != (contested[r.ID] != "") {
			t.Errorf("response %s: contested %t, its prompt says otherwise", r.ID, r.Contested)
		}
	}
	for id, got := range replicates {
		if got != k {
			t.Errorf("prompt %s: %d replicates and failed calls, want %d", id, got, k)
		}
	}
	return complete
}

// A line of the input that is no prompt leaves a row in failures, and --json prints the promised fields.
func TestBadLineAndSummary(t *testing.T) {
	t.Parallel()
	const good = 120
	w := newWorker(t, simulator.Options{})
	prompts := promptFile(t, good, `{"prompt": "half`)
	out := filepath.Join(t.TempDir(), "out")
	// 1 bad line of 121 is 0.8 %, less than the 1 % that stops a run.
	stdout := want(t, nil, "run", "--url", w.URL, "--model", "simulated", "--prompts", prompts, "--out", out,
		"--json", "--set", "actor.n=2", "--set", "judge.n=3")

	failures := rows[schemas.FailureRow](t, out, shards.Failures)
	if len(failures) != 1 {
		t.Fatalf("%d failures, want the bad line alone", len(failures))
	}
	f := failures[0]
	if f.Stage != schemas.StagePrompts || f.SourceFile == nil || *f.SourceFile != prompts || f.SourceLine == nil || *f.SourceLine != good+1 {
		t.Errorf("the bad line became %+v", f)
	}
	ledger := readRun(t, out).Ledger
	ledger.Roles = nil
	// Arena-Hard has no prompt twice.
	if diff := cmp.Diff(schemas.Ledger{Lines: good + 1, Bad: 1, Findings: good}, ledger); diff != "" {
		t.Error(diff)
	}
	proved(t, out)

	decoder := json.NewDecoder(strings.NewReader(stdout))
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		t.Fatalf("stdout is no JSON: %v\n%s", err, stdout)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("stdout holds more than one object:\n%s", stdout)
	}
	for _, name := range []string{
		"prompts", "lines", "bad_lines", "actor.paired", "actor.dropped", "actor.failed", "judge.paired", "judge.dropped", "judge.failed",
		"calls.requests", "calls.replayed", "calls.generations", "unparsed", "slot_use",
	} {
		if value, ok := field(fields, name).(float64); !ok || value < 0 {
			t.Errorf("%s is %v; it should be a number", name, field(fields, name))
		}
	}
	if simulated, ok := field(fields, "simulated").(bool); !ok || !simulated {
		t.Errorf("simulated is %v", field(fields, "simulated"))
	}
	// The numbers that the input determines.
	got := map[string]any{}
	for _, name := range []string{"prompts", "lines", "bad_lines", "calls.replayed"} {
		got[name] = field(fields, name)
	}
	if diff := cmp.Diff(map[string]any{"prompts": float64(good), "lines": float64(good + 1), "bad_lines": 1.0, "calls.replayed": 0.0}, got); diff != "" {
		t.Error(diff)
	}
}

// field finds a name as calls.requests.
func field(fields map[string]any, name string) any {
	first, rest, nested := strings.Cut(name, ".")
	if !nested {
		return fields[first]
	}
	inner, ok := fields[first].(map[string]any)
	if !ok {
		return nil
	}
	return field(inner, rest)
}

// Without --json all that people read goes to standard error, and simulated data says so.
func TestSummaryForPeople(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	stdout, stderr, code := coeval(t, "run", "--simulate", "--prompts", promptFile(t, 5), "--out", out,
		"--set", "simulate.latency=0s", "--set", "actor.n=3", "--set", "judge.n=5", "--set", "method.min_meta_judgments=5", "--set", "judge.max_tokens=150")
	if code != exitDone || stdout != "" {
		t.Fatalf("exit code %d, stdout %q\n%s", code, stdout, stderr)
	}
	// Most judgments are longer than 150 tokens: of hardly a response all five are complete.
	for _, wanted := range []string{
		"SIMULATED", "actor pairs", "judge pairs", "too_few_judgments", "generations in", "slot use", "README.md", "THE JUDGE HAS NO PAIR", "responses", "next: coeval report",
		"judgments are cut off at judge.max_tokens (150): raise it",
	} {
		if !strings.Contains(stderr, wanted) {
			t.Errorf("the summary lacks %q:\n%s", wanted, stderr)
		}
	}
	card, err := os.ReadFile(filepath.Join(out, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, wanted := range map[string]bool{"actor": true, "judge": false} {
		if got := strings.Contains(string(card), "config_name: "+name+"\n"); got != wanted {
			t.Errorf("the card offers %s: %t, want %t", name, got, wanted)
		}
	}
	if !strings.Contains(strings.ToLower(string(card)), "simulated") {
		t.Error("the card does not say that the data is simulated")
	}
	proved(t, out)
}

// Thoughts of reasoning models are kept in raw/, and are in no text that is judged, parsed or
// trained on, wherever the server puts them.
func TestReasoningModels(t *testing.T) {
	t.Parallel()
	tag := regexp.MustCompile(`</?think`)
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprintf("apart %t", apart), func(t *testing.T) {
			t.Parallel()
			truth := world.Default()
			truth.Reasoning, truth.ReasoningApart = 0.5, apart
			w := newWorker(t, simulator.Options{World: &truth, Record: true})
			out := filepath.Join(t.TempDir(), "out")
			complete(t, runOf(w.URL, promptFile(t, 12), out)...)
			proved(t, out)
			for _, text := range texts(t, out) {
				if tag.MatchString(text) {
					t.Fatalf("a text in raw/ has think tags: %.200s", text)
				}
				if !w.Sent(text) {
					t.Fatalf("a text in raw/ was never sent: %.200s", text)
				}
			}
			for _, table := range []shards.Table{shards.Actor, shards.Judge} {
				for _, p := range rows[schemas.Pair](t, out, table) {
					for _, m := range append(append(p.Prompt, p.Chosen...), p.Rejected...) {
						if tag.MatchString(m.Content) {
							t.Fatalf("a pair of the %s has think tags: %.200s", table, m.Content)
						}
					}
				}
			}
			var with, without float64
			for _, r := range rows[schemas.JudgmentRow](t, out, shards.Judgments) {
				if r.Reasoning == nil {
					without++
				} else {
					with++
				}
			}
			// About 12·3·4 = 144 judgments, half of them with thoughts: a standard deviation of
			// 0.042, so that five of them are 0.21.
			if share := with / (with + without); share < 0.29 || share > 0.71 {
				t.Errorf("%.2f of the judgments have their reasoning kept, want about half", share)
			}
		})
	}
}

// The key of a server is nowhere but in the requests, wherever it comes from, and also when a
// gateway says it back: not in the output, the files, the journal's and the tables' rows or
// the metrics.
func TestKeyStaysSecret(t *testing.T) {
	t.Parallel()
	const secret = "sk-swordfish-4711"
	keyFile := filepath.Join(t.TempDir(), "key")
	write(t, keyFile, secret+"\n")
	for _, tt := range []struct{ name, env, set string }{
		{"variable", "COEVAL_TEST_KEY=" + secret, "worker.api_key_env=COEVAL_TEST_KEY"},
		{"file", "COEVAL_TEST_KEY=", "worker.api_key_file=" + keyFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, slowly(simulator.Options{APIKey: secret}))
			open := w.closeAfter(t, 1) // the probe of n = 3: then the run waits until its metrics were seen
			gateway := indiscreet(t, w)
			out := filepath.Join(t.TempDir(), "out")
			args := runOf(gateway+"/v1", promptFile(t, 20, `{"prompt":"Question 2?"}`), out, "--set", tt.set, "--verbose", "--metrics-addr", "127.0.0.1:0",
				"--max-in-flight=100") // room for the first requests of all 21 prompts, one of which the gateway answers
			p := begin(t, []string{tt.env}, args...)
			base := metricsOf(t, p)
			var pages strings.Builder
			eventually(t, "a refusal in the metrics", func() bool {
				page, _ := get(t, base+"/metrics")
				pages.WriteString(page)
				return strings.Contains(page, `outcome="bad_request"`)
			})
			open()
			if code := p.wait(t); code != exitDone {
				t.Fatalf("exit code %d\n%s", code, p.stderr.String())
			}
			left := map[string]string{"what is printed": p.stdout.String() + p.stderr.String(), "metrics": pages.String()}
			left["failures"] = fmt.Sprint(rows[schemas.FailureRow](t, out, shards.Failures))
			if !strings.Contains(left["failures"], "(the API ke") {
				t.Errorf("no failure tells of a gateway that says the key back: %s", left["failures"])
			}
			left["texts"] = strings.Join(texts(t, out), "\n")
			err := filepath.WalkDir(out, func(name string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(name)
				left[name] = string(b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			left["journal"] = journalText(t, out)
			if !strings.Contains(left["journal"], "(the API ke") {
				t.Error("the journal does not hold the failure")
			}
			for what, text := range left {
				if strings.Contains(text, secret[:len(secret)-5]) {
					t.Errorf("%s has the key", what)
				}
			}
		})
	}
}

// indiscreet starts a gateway before a worker that refuses the calls about one prompt, and says
// the key back.
func indiscreet(t *testing.T, w *worker) (url string) {
	t.Helper()
	gateway := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if strings.Contains(string(b), "Question 2?") {
			rw.WriteHeader(http.StatusBadRequest)
			// So long that the key stands where an excerpt ends.
			fmt.Fprintf(rw, `{"error":{"message":"%s wrong for %s"}}`, strings.Repeat("x", 250), r.Header.Get("Authorization"))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		w.ServeHTTP(rw, r)
	}))
	t.Cleanup(gateway.Close)
	return gateway.URL
}

// journalText returns all that the journal of a run says.
func journalText(t *testing.T, out string) string {
	t.Helper()
	var b strings.Builder
	dir := metareward.JournalDir(out)
	lengths, err := journal.FindPrefixBits(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rows[schemas.PromptRow](t, out, shards.Prompts) {
		contents, err := journal.Read(t.Context(), dir, lengths, journal.Bucket(p.ID, lengths.Longest()), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range contents[p.ID] {
			fmt.Fprintf(&b, "%+v\n", *r)
		}
	}
	return b.String()
}

// The record of an attempt beside the data shows its costs.
func TestOperations(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{})
	out := filepath.Join(t.TempDir(), "out")
	s := complete(t, runOf(w.URL, promptFile(t, 4), out)...)
	names, err := filepath.Glob(filepath.Join(out, "operations", "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("operations are %v (%v), want one file", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	var op summary.Operation
	if err := json.Unmarshal(b, &op); err != nil {
		t.Fatal(err)
	}
	var calls schemas.CallTally
	for _, c := range op.Calls {
		calls = calls.Plus(c)
	}
	if calls.Requests != s.Calls.Requests || calls.Generations != s.Calls.Generations || calls.Requests != w.Stats().Requests {
		t.Errorf("calls are %+v, the summary says %+v, the worker %d requests", calls, s.Calls, w.Stats().Requests)
	}
	for _, stage := range []string{schemas.StageGenerate, schemas.StageJudge, schemas.StageMeta} {
		if c := op.Calls[stage]; c.RequestMicros <= 0 || c.GenerationMicros < c.RequestMicros {
			t.Errorf("%s took %+v", stage, c)
		}
	}
	if op.Runner != "direct" || op.Version == "" || op.Machine.Cores < 1 || op.Config.Output.Dir != out || op.Started.IsZero() {
		t.Errorf("the attempt is told as %+v", op)
	}
}
