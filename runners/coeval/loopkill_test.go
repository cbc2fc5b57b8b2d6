package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"coeval/runners/loop/steps"
	"coeval/transforms/simulator"
)

var loopKills = flag.Int("loop-kills", 1, "kills in each kind of step of a loop; make loop-kills gives 20")

// The processes of a loop that are killed: the program itself, whose children go on, or the process group of a child
// by the name of its files.
const (
	theLoop   = "loop"
	theChild  = "child"
	theServer = "server"
)

// victims are the processes at work in each step. Child is the name of the step's process.
var victims = map[steps.Step]struct {
	child string
	kinds []string
}{
	steps.PhaseOne:    {"phase-1", []string{theLoop, theChild, theServer}},
	steps.FutureSet:   {"", []string{theLoop}},
	steps.TrainFuture: {"future/train", []string{theLoop, theChild}},
	steps.SwapFuture:  {"", []string{theLoop, theServer}},
	steps.Produce:     {"produce", []string{theLoop, theChild, theServer}},
	steps.MakeSet:     {"", []string{theLoop}},
	steps.TrainModel:  {"train", []string{theLoop, theChild}},
	steps.SwapModel:   {"", []string{theLoop, theServer}},
	steps.Measure:     {"arena", []string{theLoop, theChild, theServer}},
	steps.Decide:      {"", []string{theLoop}},
}

// kill is one planned kill: so long after the step was announced.
type kill struct {
	iteration int
	step      steps.Step
	victim    string
	after     time.Duration
}

// planKills plans n kills in each kind of step, over the iterations of an undisturbed loop, at moments spread
// over the time that the step took there.
func planKills(t *testing.T, undisturbed *loopRun, n int, server bool, r *rand.Rand) []kill {
	t.Helper()
	state, err := steps.Open(undisturbed.dir)
	if err != nil {
		t.Fatal(err)
	}
	var plan []kill
	byStep := func(a, b kill) int {
		order := slices.Concat(steps.Future, steps.Every)
		return cmp.Or(cmp.Compare(a.iteration, b.iteration), cmp.Compare(slices.Index(order, a.step), slices.Index(order, b.step)), cmp.Compare(a.after, b.after))
	}
	for _, record := range state.Records() {
		kinds := victims[record.Step].kinds
		for i := range n {
			if i%state.Last()+1 != record.Iteration {
				continue
			}
			victim := kinds[(i/state.Last())%len(kinds)]
			if n == 1 { // one kill a step: not always of the loop
				victim = kinds[r.IntN(len(kinds))]
			}
			if victim == theServer && !server {
				victim = theLoop
			}
			after := time.Duration(r.Float64() * record.Seconds * float64(time.Second))
			plan = append(plan, kill{record.Iteration, record.Step, victim, after})
		}
	}
	slices.SortFunc(plan, byStep) // early kills first: a step that ends before a kill takes no more
	return plan
}

// announced reports whether a loop said that it begins a step, or a later one.
func announced(said string, k kill) (now, later bool) {
	order := slices.Concat(steps.Future, steps.Every)
	for line := range strings.Lines(said) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "iteration ")
		number, step, _ := strings.Cut(rest, ": ")
		at := slices.Index(order, steps.Step(step))
		iteration, err := strconv.Atoi(number)
		if !ok || err != nil || at < 0 {
			continue
		}
		switch wanted := slices.Index(order, k.step); {
		case iteration == k.iteration && at == wanted:
			now = true
		case iteration > k.iteration || iteration == k.iteration && at > wanted:
			later = true
		}
	}
	return now, later
}

// group returns the process group in a state file of a loop, 0 if its process has ended: the number may be
// another process's by now.
func group(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var s struct {
		PID     int    `json:"pid"`
		Started string `json:"started"`
	}
	if json.Unmarshal(b, &s) != nil || s.PID < 2 {
		return 0
	}
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(s.PID)).Output()
	if err != nil || strings.TrimSpace(string(out)) != s.Started {
		return 0
	}
	return s.PID
}

// strike kills a victim and reports whether there was one.
func (l *loopRun) strike(t *testing.T, p *process, k kill) bool {
	t.Helper()
	if k.victim == theLoop {
		if !p.alive() {
			return false
		}
		p.kill(t)
		return true
	}
	file := filepath.Join(l.dir, "server.process.json")
	if k.victim == theChild {
		file = filepath.Join(l.dir, fmt.Sprintf("it-%d", k.iteration), victims[k.step].child+".process.json")
	}
	pid := group(file)
	return pid != 0 && syscall.Kill(-pid, syscall.SIGKILL) == nil
}

// disturbed runs a loop to its end with these kills, and returns how many struck in each kind of step. A loop
// that ends in error, as after a kill of its training, is started again.
func (l *loopRun) disturbed(t *testing.T, plan []kill) map[steps.Step]int {
	t.Helper()
	t.Cleanup(func() { // processes that a failed test leaves
		files, _ := filepath.Glob(filepath.Join(l.dir, "*", "*.process.json"))
		more, _ := filepath.Glob(filepath.Join(l.dir, "*.process.json"))
		for _, file := range append(files, more...) {
			if pid := group(file); pid != 0 {
				_ = syscall.Kill(-pid, syscall.SIGKILL)
			}
		}
	})
	struck := map[steps.Step]int{}
	var p *process
	start := func() *process {
		if p == nil || !p.alive() {
			p = begin(t, nil, "loop", l.config)
		}
		return p
	}
	for _, k := range plan {
		passed := false
		for reached := false; !reached && !passed; {
			p := start()
			eventually(t, fmt.Sprintf("iteration %d: %s", k.iteration, k.step), func() bool {
				reached, passed = announced(p.stdout.String(), k)
				return reached || passed || !p.alive()
			})
			passed = passed || !p.alive() && p.cmd.ProcessState.ExitCode() == 0
		}
		if passed {
			continue
		}
		timer := time.NewTimer(k.after)
		select {
		case <-timer.C:
		case <-p.ended:
		}
		timer.Stop()
		if l.strike(t, p, k) {
			struck[k.step]++
		}
	}
	for tries := 0; ; tries++ {
		if code := start().wait(t); code == 0 {
			return struck
		}
		if tries == 5 {
			t.Fatalf("the loop does not end:\n%s%s", p.stdout.String(), p.stderr.String())
		}
	}
}

// slowTrainer is a training that takes long enough to be killed in its middle.
func (l *loopRun) slowTrainer() string {
	return fmt.Sprintf("train: {command: 'echo begin {out} >>%[1]s.trainings && sleep 0.2 && %[2]s simulate train --actor {actor} --judge {judge} --model {model} --out {out} && sleep 0.2 && echo end {out} >>%[1]s.trainings'}", l.dir, program)
}

// checkKilled compares a disturbed loop with an undisturbed one.
func checkKilled(t *testing.T, l, undisturbed *loopRun, struck map[steps.Step]int) {
	t.Helper()
	t.Logf("kills: %v", struck)
	if diff := gocmp.Diff(undisturbed.outcome(t), l.outcome(t)); diff != "" {
		t.Errorf("the end differs from that of the undisturbed loop: %s", diff)
	}
	_, calm := undisturbed.trainings(t)
	began, ended := l.trainings(t)
	if !slices.Equal(ended, calm) {
		t.Errorf("trainings ended for %v; want %v", ended, calm)
	}
	// A training begins again only if its own process was killed.
	if more := len(began) - len(ended); more > struck[steps.TrainModel]+struck[steps.TrainFuture] {
		t.Errorf("%d trainings began again, of %d kills", more, struck[steps.TrainModel]+struck[steps.TrainFuture])
	}
}

// Killed at random moments in each kind of step, and with it or instead of it its run, its arena or its
// training, a loop ends as an undisturbed one. Calls that were delivered are asked for again only if they were
// not durable, and no training that ended is done again.
func TestLoopKilled(t *testing.T) {
	t.Parallel()
	const both = "schedule: [{preset: temporal, roles: [actor, judge], set: {judge.n: 4}}]"
	options := slowly(simulator.Options{Adapters: true, Models: []string{"base", "judge"}})
	calm := newLoopRun(t, newWorker(t, options).URL, both)
	calm.edit(t, calm.slowTrainer())
	calm.complete(t)

	w := newWorker(t, options)
	l := newLoopRun(t, w.URL, both)
	l.edit(t, l.slowTrainer())
	struck := l.disturbed(t, planKills(t, calm, *loopKills, false, rand.New(rand.NewPCG(5, 6))))
	checkKilled(t, l, calm, struck)
	// The canaries ask five models six prompts and six long ones at least twice. A killed run or arena has so many
	// generations that are not durable.
	kills := struck[steps.PhaseOne] + struck[steps.Produce] + struck[steps.Measure] + struck[steps.SwapModel]
	if twice := w.Stats().AskedAfterDelivery; twice > int64(60+kills*maxUndurable) {
		t.Errorf("%d generations were asked for again after delivery, with %d kills of what asks", twice, kills)
	}
}

// The same where the loop starts the server, which is killed too.
func TestLoopServerKilled(t *testing.T) {
	t.Parallel()
	started := func() *loopRun {
		address := unusedAddress(t)
		l := newLoopRun(t, "http://"+address+"/v1")
		l.edit(t, l.slowTrainer())
		l.edit(t, fmt.Sprintf("swap: {kind: command, command: 'exec %s simulate --addr %s --served-model base --weights {model} --latency 2ms'}", program, address))
		return l
	}
	calm, l := started(), started()
	calm.complete(t)
	struck := l.disturbed(t, planKills(t, calm, max(*loopKills, 2), true, rand.New(rand.NewPCG(7, 8))))
	checkKilled(t, l, calm, struck)
	if pid := group(filepath.Join(l.dir, "server.process.json")); pid != 0 {
		t.Errorf("the server %d still runs", pid)
	}
}

// unusedAddress returns an address of this machine at which nothing listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
