package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coeval/datasets/prompts"
	"coeval/transforms/simulator"
)

// The benchmarks measure the cost of orchestration: the program against the simulated worker, in
// separate processes. Each benchmark is one whole run; `make bench` runs each once.

// benchPrompts writes n prompts: those of Arena-Hard, with a number before each.
func benchPrompts(b *testing.B, n int) string {
	b.Helper()
	var lines bytes.Buffer
	written := 0
	for round := 0; written < n; round++ {
		err := prompts.ReadFile(b.Context(), prompts.File{Path: "../../datasets/arena-hard/arena-hard-v0.1.jsonl"}, prompts.Options{}, func(l prompts.Line) error {
			if written < n && l.Bad == nil {
				written++
				text, err := json.Marshal(fmt.Sprintf("Variant %d. %s", round, l.Prompt.Messages[0].Content))
				fmt.Fprintf(&lines, "{\"prompt\":%s}\n", text)
				return err
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	name := filepath.Join(b.TempDir(), "prompts.jsonl")
	if err := os.WriteFile(name, lines.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	return name
}

// buildProgram builds the program that users run.
func buildProgram(b *testing.B) string {
	b.Helper()
	name := filepath.Join(b.TempDir(), "coeval")
	if out, err := exec.Command("go", "build", "-o", name, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return name
}

// workerProcess is the simulated worker as a process.
type workerProcess struct {
	url     string // base
	command *exec.Cmd
}

func startWorker(b *testing.B, program, addr string, flags ...string) *workerProcess {
	b.Helper()
	w := &workerProcess{command: exec.Command(program, append([]string{"simulate", "--addr=" + addr}, flags...)...)}
	out, err := w.command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	w.url = strings.TrimSpace(line)
	return w
}

// kill sends SIGKILL.
func (w *workerProcess) kill() {
	_ = w.command.Process.Kill()
	_ = w.command.Wait()
}

// stats returns the worker's statistics, and false if it does not answer.
func (w *workerProcess) stats() (simulator.Stats, bool) {
	var s simulator.Stats
	resp, err := http.Get(strings.TrimSuffix(w.url, "/v1") + "/stats")
	if err != nil {
		return s, false
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s) == nil
}

// history is the sequence of a worker's statistics during a run.
type history struct {
	seen []simulator.Stats
	stop func()
}

// follow reads a worker's statistics every half second until stop is called.
func (w *workerProcess) follow() *history {
	h, done, ended := &history{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for over := false; !over; {
			select {
			case <-done:
				over = true
			case <-time.After(500 * time.Millisecond):
			}
			if s, ok := w.stats(); ok {
				h.seen = append(h.seen, s)
			}
		}
	}()
	h.stop = func() {
		close(done)
		<-ended
	}
	return h
}

func (h *history) last() simulator.Stats {
	if len(h.seen) == 0 {
		return simulator.Stats{}
	}
	return h.seen[len(h.seen)-1]
}

// waiting is the mean number of waiting choices after the first tenth of the run.
func (h *history) waiting() float64 {
	end := h.last()
	for _, s := range h.seen {
		if s.WallSeconds > 0 && s.WallSeconds >= end.WallSeconds/10 {
			return (end.MeanWaiting*end.WallSeconds - s.MeanWaiting*s.WallSeconds) / (end.WallSeconds - s.WallSeconds)
		}
	}
	return 0
}

// cost is the use of resources and the counts of a run.
type cost struct {
	cpuSeconds, wallSeconds, peakMB float64
	requests, generations, replayed float64
	failed                          float64
}

// benchRunner is the runner of the measured runs.
var benchRunner = flag.String("bench-runner", "direct", "runner of the runs that the benchmarks measure: direct or prism")

func runProgram(b *testing.B, program string, args ...string) cost {
	b.Helper()
	c := exec.Command(program, append([]string{"run", "--json", "--runner", *benchRunner}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	if err := c.Run(); err != nil {
		b.Fatal(err)
	}
	var s struct {
		Seconds float64
		Calls   struct{ Requests, Generations, Replayed, Failed float64 }
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		b.Fatal(err)
	}
	usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		b.Fatal("this system does not report the memory of processes")
	}
	return cost{
		cpuSeconds:  (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds(),
		wallSeconds: s.Seconds, peakMB: float64(usage.Maxrss) / 1e3, // kilobytes on Linux
		requests: s.Calls.Requests, generations: s.Calls.Generations, replayed: s.Calls.Replayed, failed: s.Calls.Failed,
	}
}

func (c cost) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // meaningless for a whole run
	b.ReportMetric(c.wallSeconds, "wall-s")
	b.ReportMetric(c.cpuSeconds, "cpu-s")
	b.ReportMetric(c.peakMB, "peak-MB")
	if c.requests > 0 {
		b.ReportMetric(c.requests, "requests")
		b.ReportMetric(1000*c.cpuSeconds/c.requests, "cpu-s/1000requests")
	}
	if c.replayed > 0 {
		b.ReportMetric(c.replayed, "replayed")
	}
}

// BenchmarkNoLatency measures 5,000 prompts against a worker that answers at once, then pairs them
// again from the journal with another rho.
func BenchmarkNoLatency(b *testing.B) {
	program, file, out := buildProgram(b), benchPrompts(b, 5000), filepath.Join(b.TempDir(), "out")
	args := []string{"--prompts", file, "--out", out, "--model", "simulated"}
	b.Run("ask", func(b *testing.B) {
		url := startWorker(b, program, anyPort, "--latency=0s").url
		for b.Loop() {
			if err := os.RemoveAll(out); err != nil {
				b.Fatal(err)
			}
			c := runProgram(b, program, append(args, "--url", url)...)
			c.report(b)
			wants(b, "CPU-s for 1,000 requests", 1000*c.cpuSeconds/c.requests, 0, 0.15)
		}
	})
	b.Run("pairAgain", func(b *testing.B) {
		for b.Loop() {
			c := runProgram(b, program, append(args, "--url", "http://127.0.0.1:1/v1", "--set", "method.rho=0.2")...)
			if c.requests > 0 {
				b.Fatalf("%v requests were made", c.requests)
			}
			c.report(b)
		}
	})
}

// memoryPrompts are the numbers of prompts of BenchmarkMemory.
var memoryPrompts = flag.String("memory", "1000,10000,30000", "numbers of prompts whose runs BenchmarkMemory measures, ascending")

// maxKBPerPrompt bounds the growth of memory with each prompt, in kilobytes.
const maxKBPerPrompt = 30

// BenchmarkMemory measures the peak memory of runs of more and more prompts of 500 characters, with few texts
// each, against a worker without latency, and the growth with each prompt beyond the first run's. Up to some
// 10,000 prompts most of the growth is garbage, bounded by attempt.TuneCollector. GOGC=50 and GOMEMLIMIT=off,
// which reach the program, show the memory in use, as larger runs do.
func BenchmarkMemory(b *testing.B) {
	program := buildProgram(b)
	url := startWorker(b, program, anyPort, "--latency=0s").url
	var first, slope float64 // of the runs with the least prompts, of the last ones
	var least int
	for field := range strings.SplitSeq(*memoryPrompts, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint("prompts=", n), func(b *testing.B) {
			file := longPrompts(b, n)
			for b.Loop() {
				c := runProgram(b, program, "--prompts", file, "--out", filepath.Join(b.TempDir(), "out"), "--model", "simulated", "--url", url,
					"--set", "actor.n=2", "--set", "judge.n=3")
				c.report(b)
				if least == 0 {
					first, least = c.peakMB, n
				}
				if n > least {
					slope = 1000 * (c.peakMB - first) / float64(n-least)
					b.ReportMetric(slope, "kB/prompt")
				}
			}
		})
	}
	if slope >= maxKBPerPrompt {
		b.Errorf("a prompt takes %.1f kB, want less than %d", slope, maxKBPerPrompt)
	}
}

// longPrompts writes n prompts of 500 characters.
func longPrompts(b *testing.B, n int) string {
	b.Helper()
	var lines bytes.Buffer
	for i := range n {
		text := fmt.Sprintf("Question %d: what is a long question good for? ", i)
		fmt.Fprintf(&lines, "{\"prompt\":%q}\n", strings.Repeat(text, 500/len(text)+1)[:500])
	}
	name := filepath.Join(b.TempDir(), "prompts.jsonl")
	if err := os.WriteFile(name, lines.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	return name
}

// BenchmarkSlots is 2,048 prompts against 256 slots with lognormal latencies of mean 100 ms:
// with a limit that the program finds (0), and with given ones.
func BenchmarkSlots(b *testing.B) {
	program, file := buildProgram(b), benchPrompts(b, 2048)
	for _, limit := range []int{0, 512, 800, 1200} {
		b.Run(fmt.Sprint("limit=", limit), func(b *testing.B) {
			for b.Loop() {
				w := startWorker(b, program, anyPort, "--latency=100ms", "--slots=256")
				h := w.follow()
				c := runProgram(b, program, "--prompts", file, "--out", filepath.Join(b.TempDir(), "out"), "--model", "simulated",
					"--url", w.url, "--max-in-flight", fmt.Sprint(limit))
				h.stop()
				c.report(b)
				h.report(b)
			}
		})
	}
}

const anyPort = "127.0.0.1:0"

func (h *history) report(b *testing.B) {
	s := h.last()
	b.ReportMetric(s.DeliveredSlotUse, "slot-use")
	b.ReportMetric(h.waiting()/float64(s.Slots), "waiting/slot")
	if s.AskedAfterDelivery > 0 {
		b.Errorf("%d generations were asked for after they had been delivered", s.AskedAfterDelivery)
	}
}
