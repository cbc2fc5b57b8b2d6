package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/shards"
	"coeval/runners/attempt"
	"coeval/runners/summary"
	"coeval/runners/verify"
	"coeval/schemas"
	"coeval/transforms/simulator"
)

var runKills = flag.Int("run-kills", 0, "kills of each test of killed runs at random moments; 0 makes a few; make run-kills gives 20")

// killsOr returns the number of kills of a test: few in make test.
func killsOr(few int) int {
	if *runKills > 0 {
		return *runKills
	}
	return few
}

// killMoments returns the random moments of a test's kills. COEVAL_KILLS_SEED, 0 by default, varies them; the log has it.
func killMoments(t *testing.T, test uint64) *rand.Rand {
	t.Helper()
	seed := countFrom(t, "COEVAL_KILLS_SEED", 0)
	t.Logf("COEVAL_KILLS_SEED=%d", seed)
	return rand.New(rand.NewPCG(test, seed))
}

// The killed runs: 12 prompts, of which two are under way at a time.
const (
	killedPrompts = 12
	killedWindow  = 2
	// maxUndurable is how many generations can be asked for and not yet be durable: a stage of
	// a prompt asks only when all answers of the stage before it are, so each prompt under way
	// has those of one stage open, at most K·N = 3·4 judgments or N(N−1) = 4·3 comparisons.
	maxUndurable = killedWindow * 12
)

func killedRun(url, prompts, out string, more ...string) []string {
	return runOf(url, prompts, out, append(more, "--set", fmt.Sprintf("client.window=%d", killedWindow))...)
}

// slowly is a worker that takes some time, so that something is in flight when the client dies.
func slowly(o simulator.Options) simulator.Options {
	o.World, o.Latency = uneven(), 2*time.Millisecond
	return o
}

// killAt begins a run and kills it when the worker has seen so many requests. It returns the
// worker's figures once all that the dead run asked for has been served.
func killAt(t *testing.T, w *worker, requests int64, args []string) simulator.Stats {
	t.Helper()
	p := begin(t, nil, args...)
	eventually(t, fmt.Sprintf("%d requests", requests), func() bool { return w.Stats().Requests >= requests || !p.alive() })
	p.kill(t)
	return w.settled(t)
}

// finish runs the killed run's command again, and compares its calls with the journal that the killed one
// left: durable generations are not asked for again, and those asked for twice were in flight at the kill.
func finish(t *testing.T, w *worker, out string, was simulator.Stats, args []string) *summary.Summary {
	t.Helper()
	left := durable(t, out)
	s := complete(t, args...)
	if got, want := s.Calls.Replayed, sum(left); got != want {
		t.Errorf("%d generations were replayed, %d are in the journal", got, want)
	}
	stats := w.Stats()
	// Generations that were delivered, the probes' choices among them, and are not durable.
	if most := was.Generations - sum(left); stats.AskedAfterDelivery-was.AskedAfterDelivery > most {
		t.Errorf("%d generations were asked for again after delivery, at most %d were not durable", stats.AskedAfterDelivery, most)
	}
	if twice := stats.AskedTwice - was.AskedTwice; twice > maxUndurable {
		t.Errorf("%d generations were asked twice, at most %d can have been in flight", twice, maxUndurable)
	}
	proved(t, out)
	return s
}

// Killed at any moment, a run is finished by the same command, with the files of a run that
// nothing disturbed, and nothing that is durable is asked for again.
func TestKilledRuns(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	calm := newWorker(t, slowly(simulator.Options{}))
	undisturbed := filepath.Join(t.TempDir(), "out")
	all := complete(t, killedRun(calm.URL, prompts, undisturbed)...).Calls
	wanted := files(t, undisturbed)

	r := killMoments(t, 1)
	for i := range killsOr(4) {
		at := 1 + r.Int64N(all.Requests)
		kills := 1
		if i == 0 { // and one run that is killed again and again
			at, kills = all.Requests/4, 4
		}
		t.Run(fmt.Sprintf("at request %d", at), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, slowly(simulator.Options{}))
			out := filepath.Join(t.TempDir(), "out")
			args := killedRun(w.URL, prompts, out)
			var stats simulator.Stats
			for range kills {
				stats = killAt(t, w, stats.Requests+at, args)
			}
			s := finish(t, w, out, stats, args)
			if got := s.Calls.Replayed + s.Calls.Generations; got != all.Generations {
				t.Errorf("%d generations, want those of the undisturbed run, %d", got, all.Generations)
			}
			if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
				t.Errorf("files differ from those of the undisturbed run: %s", diff)
			}
		})
	}
}

// The same with a worker that answers with another text each time: the files contain texts that were sent,
// and the run continues with the texts of the journal.
func TestKilledRunsOfFreshTexts(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	r := killMoments(t, 2)
	for range killsOr(3) {
		// An undisturbed run makes about 12·(1 + 3 + 12) = 192 requests.
		at := 1 + r.Int64N(170)
		t.Run(fmt.Sprintf("at request %d", at), func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, slowly(simulator.Options{FreshTexts: true, Record: true}))
			out := filepath.Join(t.TempDir(), "out")
			args := killedRun(w.URL, prompts, out)
			s := finish(t, w, out, killAt(t, w, at, args), args)
			said := texts(t, out)
			for _, text := range said {
				if !w.Sent(text) {
					t.Errorf("never sent: %.100q", text)
				}
			}
			// All of the K = 3 replicates, of which equal ones share a row, and all else.
			replicates := int64(0)
			for _, r := range rows[schemas.ResponseRow](t, out, shards.Responses) {
				replicates += int64(len(r.Replicates) - 1)
			}
			empty := readRun(t, out).Stats.Responses.Empty
			if got := s.Calls.Replayed + s.Calls.Generations; got < int64(len(said))+replicates || got > int64(len(said))+replicates+empty {
				t.Errorf("%d generations for %d texts, %d replicates more, %d of them empty", got, len(said), replicates, empty)
			}
			unchanged(t, w, out, func() *summary.Summary { return complete(t, args...) })
		})
	}
}

// maxKills bounds the kills of TestKilledCommits.
const maxKills = 100

// Killed while files get their names, a folder holds a whole run or none that calls itself one.
func TestKilledCommits(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	prompts, out := mixed(t, killedPrompts), filepath.Join(t.TempDir(), "out")
	// 12 prompts by 3 are 4 shards, of 7 tables each: there is time between the first and the last.
	args := map[bool][]string{}
	wanted := map[bool]map[string]string{}
	for _, other := range []bool{true, false} {
		rho := map[bool]string{false: "0.32", true: "0"}[other]
		args[other] = runOf(w.URL, prompts, out, "--set", "output.prompts_per_shard=3", "--set", "method.rho="+rho)
		complete(t, args[other]...)
		wanted[other] = files(t, out)
	}
	total := len(readRun(t, out).Files)
	asked := w.Stats().Requests
	r := killMoments(t, 3)
	incomplete := 0
	kills := 0
	// On a quick disk a kill may come too late. Further ones try, until one meets a commit at work.
	for i := 0; i < killsOr(5) || incomplete == 0 && i < maxKills; i++ {
		kills++
		other := i%2 == 0
		p := begin(t, nil, args[other]...)
		at, most := r.IntN(total), 0
		written := i%4 == 3 // a quarter is killed while files are being written, the others while they are moved
		for p.alive() {     // go test's own timeout ends it; a pause would miss a quick disk's moves
			now := staged(t, out)
			if most = max(most, now); written && now > at || most-now > at {
				break
			}
		}
		p.kill(t)
		found, err := verify.Out(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		if gone(out) {
			incomplete++
			if len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "run.json is missing") {
				t.Errorf("without run.json verify finds %v", found.Problems)
			}
		} else if is := files(t, out); len(found.Problems) > 0 || !isRun(is, wanted[true]) && !isRun(is, wanted[false]) {
			t.Errorf("the folder calls itself complete and is neither run: %v", found.Problems)
		}
		complete(t, args[other]...)
		if diff := cmp.Diff(wanted[other], files(t, out)); diff != "" {
			t.Errorf("finished after the kill: %s", diff)
		}
	}
	if got := w.Stats().Requests; got != asked {
		t.Errorf("%d requests for what the journal holds", got-asked)
	}
	t.Logf("%d of %d kills left an incomplete folder", incomplete, kills)
	if incomplete == 0 {
		t.Error("no kill met a commit at work: files have their names too quickly here")
	}
}

// isRun reports whether a folder contains the files of a run and, besides them, only staged files.
func isRun(is, run map[string]string) bool {
	n := 0
	for name, digest := range is {
		if strings.HasPrefix(name, ".staging/") {
			continue
		}
		if n++; run[name] != digest {
			return false
		}
	}
	return n == len(run)
}

func gone(out string) bool {
	_, err := os.Stat(filepath.Join(out, "run.json"))
	return errors.Is(err, fs.ErrNotExist)
}

// staged counts the files that wait for their names.
func staged(t *testing.T, out string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(out, ".staging"), func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is being cleared
		}
		if err == nil && strings.HasSuffix(d.Name(), ".parquet") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Ctrl-C stops new requests, waits for those in flight, and prints the command that continues the run.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	prompts := mixed(t, killedPrompts)
	w := newWorker(t, slowly(simulator.Options{}))
	open := w.closeAfter(t, 100) // of about 12·(1 + 3 + 12) = 192
	out := filepath.Join(t.TempDir(), "out")
	p := begin(t, nil, killedRun(w.URL, prompts, out, "--set", "roles=[actor, judge]")...)
	eventually(t, "something is in flight", w.holds)
	p.signal(t, os.Interrupt)
	eventually(t, "it says that it stops", func() bool { return strings.Contains(p.stderr.String(), "stopping") })
	open()
	if code := p.wait(t); code != exitFailed || p.stdout.String() != "" {
		t.Errorf("exit code %d, stdout %q; want %d and nothing", code, p.stdout.String(), exitFailed)
	}
	stderr := p.stderr.String()
	_, line, ok := strings.Cut(strings.TrimSpace(stderr), "run the same command: ")
	if !ok || strings.Contains(line, "\n") || !strings.Contains(stderr, "sending no new requests") {
		t.Fatalf("stderr does not say what to type:\n%s", stderr)
	}
	stats := w.settled(t)
	if stats.Abandoned != 0 {
		t.Errorf("%d requests were given up", stats.Abandoned)
	}
	// Its costs are known.
	if o := attempts(t, out)[0]; !o.Unfinished || spent(o).Requests != stats.Requests || o.Calls[schemas.StageMeta].Generations != stats.Roles[schemas.RoleMetaJudge].Generations || o.AskingSeconds <= 0 || o.SlotUse == nil {
		t.Errorf("%+v is kept of an attempt that asked %+v", o, stats)
	}
	// Probes count as the actor's, so the actor's figure says less.
	left := durable(t, out)
	for _, role := range []string{schemas.RoleJudge, schemas.RoleMetaJudge} {
		if got := left[role]; got != stats.Roles[role].Generations {
			t.Errorf("%d generations of the %s are durable, %d were delivered", got, role, stats.Roles[role].Generations)
		}
	}
	if said, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output(); err != nil || !strings.Contains(string(said), fmt.Sprintf(`"replayed":%d,`, sum(left))) {
		t.Errorf("%s: %v; it should replay %d and said %s", line, err, sum(left), said)
	}
	if stats := w.Stats(); stats.AskedTwice != 0 {
		t.Errorf("%d generations were asked twice", stats.AskedTwice)
	}
	proved(t, out)
}

// The calls of a killed attempt are recorded, and the next attempt adds its own.
func TestKilledRunIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorker(t, slowly(simulator.Options{}))
	open := w.closeAfter(t, 100)
	out := filepath.Join(t.TempDir(), "out")
	args := killedRun(w.URL, mixed(t, killedPrompts), out)
	p := begin(t, nil, args...)
	eventually(t, "what is known of the attempt is written", func() bool {
		all := attempts(t, out)
		return w.holds() && len(all) == 1 && spent(all[0]).Requests >= 50
	})
	p.kill(t)
	killed := attempts(t, out)[0]
	if !killed.Unfinished || killed.Seconds <= 0 || len(killed.Calls) < 2 {
		t.Errorf("%+v is kept of the killed attempt", killed)
	}
	open()
	w.settled(t)
	s := complete(t, args...)
	all := attempts(t, out)
	if len(all) != 2 || all[1].Unfinished || spent(all[1]).Requests != s.Calls.Requests {
		t.Fatalf("%d attempts, the last is %+v; want two, and %+v", len(all), all[len(all)-1], s.Calls)
	}
	var shown struct {
		Operation struct {
			Unfinished int `json:"unfinished_attempts"`
			All        schemas.CallTally
		}
	}
	if err := json.Unmarshal([]byte(want(t, nil, "report", "--json", out)), &shown); err != nil {
		t.Fatal(err)
	}
	if o := shown.Operation; o.Unfinished != 1 || o.All.Generations != spent(killed).Generations+s.Calls.Generations {
		t.Errorf("the report tells %+v; want what both attempts asked for", o)
	}
}

// attempts are the attempts in operations/, the earliest first.
func attempts(t *testing.T, out string) []summary.Operation {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(out, "operations", "*Z-????????.json"))
	if err != nil {
		t.Fatal(err)
	}
	all := make([]summary.Operation, len(names))
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(all, func(a, b summary.Operation) int { return a.Started.Compare(b.Started) })
	return all
}

// spent counts the calls of all stages of an attempt.
func spent(o summary.Operation) schemas.CallTally {
	var sum schemas.CallTally
	for _, c := range o.Calls {
		sum = sum.Plus(c)
	}
	return sum
}

// The second Ctrl-C does not wait.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	w.closeAfter(t, 0)
	p := begin(t, nil, killedRun(w.URL, promptFile(t, 4), filepath.Join(t.TempDir(), "out"))...)
	eventually(t, "a request that hangs", w.holds)
	p.signal(t, syscall.SIGTERM) // as good as Ctrl-C
	eventually(t, "it says that it stops", func() bool { return strings.Contains(p.stderr.String(), "stopping") })
	began := time.Now()
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if took := time.Since(began); took >= attempt.SettleTime {
		t.Errorf("it took %s, as long as what is in flight may take", took)
	}
}

// One run at a time works on a folder.
func TestSecondRunIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{World: uneven()})
	open := w.closeAfter(t, 0)
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, promptFile(t, 4), out)
	first := begin(t, nil, args...)
	eventually(t, "the first run asks", w.holds)
	stdout, stderr, code := coeval(t, args...)
	if code != exitFailed || stdout != "" {
		t.Errorf("exit code %d, stdout %q; want %d and nothing", code, stdout, exitFailed)
	}
	if wanted := fmt.Sprintf("another run works on %s (process %d on ", out, first.cmd.Process.Pid); !strings.Contains(stderr, wanted) {
		t.Errorf("stderr lacks %q:\n%s", wanted, stderr)
	}
	open()
	if code := first.wait(t); code != exitDone {
		t.Errorf("exit code %d of the first run\n%s", code, first.stderr.String())
	}
	proved(t, out)
	unchanged(t, w, out, func() *summary.Summary { return complete(t, args...) })
}
