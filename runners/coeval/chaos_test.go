package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

// `make chaos` measures how the client uses servers of all kinds when nothing is configured. Each
// benchmark is one whole run of the program against simulated workers in separate processes.
// Latencies are chosen so that a fleet answers about 1,000 requests a second. A figure out of
// bounds is an error. The program and its workers share the machine, which must be quiet.

// wants reports an error if a figure is out of bounds, and lets the benchmark continue.
func wants(b *testing.B, what string, got, least, most float64) {
	b.Helper()
	if !(got >= least && got <= most) {
		b.Errorf("%s is %.4g, want %g to %g", what, got, least, most)
	}
}

// asked runs the program on a file of prompts against these workers.
func asked(b *testing.B, program, file string, workers []*workerProcess, more ...string) cost {
	b.Helper()
	args := []string{"--prompts", file, "--out", filepath.Join(b.TempDir(), "out"), "--model", "simulated"}
	for _, w := range workers {
		args = append(args, "--url", w.url)
	}
	return runProgram(b, program, append(args, more...)...)
}

// BenchmarkChaosColdStart measures one server whose capacity the program has to find.
func BenchmarkChaosColdStart(b *testing.B) {
	program := buildProgram(b)
	for _, tt := range []struct {
		slots   int
		latency time.Duration
		prompts int
		use     float64 // at least
		more    []string
	}{
		{16, 16 * time.Millisecond, 200, 0.95, nil},
		{64, 64 * time.Millisecond, 400, 0.95, nil},
		{256, 200 * time.Millisecond, 2048, 0.97, nil},
		{1024, 800 * time.Millisecond, 3200, 0.95, nil},
		{256, 200 * time.Millisecond, 800, 0.95, []string{"--dialect=none"}},
		{256, 200 * time.Millisecond, 800, 0.95, []string{"--max-queue=32"}},
		// A second of Retry-After is as long as five mean choices. The server gets fewer requests then, or none.
		{256, 200 * time.Millisecond, 800, 0.9, []string{"--max-queue=32", "--full-status=429", "--retry-after=1s"}},
	} {
		file := benchPrompts(b, tt.prompts)
		b.Run(fmt.Sprint("slots=", tt.slots, tt.more), func(b *testing.B) {
			for b.Loop() {
				w := startWorker(b, program, anyPort, append(tt.more, fmt.Sprint("--slots=", tt.slots), fmt.Sprint("--latency=", tt.latency))...)
				h := w.follow()
				c := asked(b, program, file, []*workerProcess{w})
				h.stop()
				c.report(b)
				h.report(b)
				wants(b, "slot use", h.last().DeliveredSlotUse, tt.use, 1)
				wants(b, "waiting choices a slot", h.waiting()/float64(tt.slots), 0, 0.5)
			}
		})
	}
}

// BenchmarkChaosSettled asks comparisons in rounds of four that wait on each other, and with reads of scores also
// judgments in rounds of six. The calls of other prompts must fill the slots.
func BenchmarkChaosSettled(b *testing.B) {
	program, file := buildProgram(b), benchPrompts(b, 2048)
	for _, tt := range []struct {
		name string
		more []string
	}{
		{"comparisons", nil},
		{"judgments and comparisons", []string{"--set", "judge.verdict=read"}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				w := startWorker(b, program, anyPort, "--slots=256", "--latency=200ms")
				h := w.follow()
				c := asked(b, program, file, []*workerProcess{w}, append(tt.more, "--set", "budget.comparisons=settled")...)
				h.stop()
				c.report(b)
				h.report(b)
				wants(b, "slot use", h.last().DeliveredSlotUse, 0.95, 1)
			}
		})
	}
}

// BenchmarkChaosFaults measures one server that fails at random in every way. An ideal client keeps every
// slot busy, and faults waste the same share of its slots' time as of this client's. So of-ideal, the
// share of slot time that this client held at all, is its share of the ideal client's deliveries.
func BenchmarkChaosFaults(b *testing.B) {
	program, file := buildProgram(b), benchPrompts(b, 1600)
	for b.Loop() {
		w := startWorker(b, program, anyPort, "--slots=256", "--latency=200ms",
			"--fault=429=0.1,503=0.05,reset=0.02,malformed=0.01,truncated=0.01,hang=0.001")
		h := w.follow()
		c := asked(b, program, file, []*workerProcess{w})
		h.stop()
		c.report(b)
		h.report(b)
		b.ReportMetric(h.last().SlotUse, "of-ideal")
		wants(b, "slot use of that of an ideal client", h.last().SlotUse, 0.9, 1)
		if c.failed > 0 {
			b.Errorf("%v calls failed for good", c.failed)
		}
	}
}

// fleetOf is four unlike workers: two of 256 slots, one of 64, one of 256 at a quarter of the
// speed. With a sigma of 0.5 the longest choice of the slow one takes about 15 s; with 0.8 it
// takes a minute, and the run waits for it alone.
func fleetOf(b *testing.B, program string) []*workerProcess {
	b.Helper()
	var out []*workerProcess
	for i, flags := range [][]string{
		{"--slots=256", "--latency=500ms"}, {"--slots=256", "--latency=500ms"}, {"--slots=64", "--latency=500ms"}, {"--slots=256", "--latency=2s"},
	} {
		out = append(out, startWorker(b, program, anyPort, append(flags, "--sigma=0.5", fmt.Sprint("--fault-seed=", i))...))
	}
	return out
}

// BenchmarkChaosFleet measures four unlike servers: first all of them healthy, then with one that
// is killed after a third of the run and started again after two thirds.
func BenchmarkChaosFleet(b *testing.B) {
	const prompts = 1000
	program, file := buildProgram(b), benchPrompts(b, prompts)
	for _, dies := range []bool{false, true} {
		b.Run(fmt.Sprint("dies=", dies), func(b *testing.B) {
			for b.Loop() {
				workers := fleetOf(b, program)
				histories := make([]*history, len(workers))
				for i, w := range workers {
					histories[i] = w.follow()
				}
				began := time.Now()
				var killed, back time.Duration
				var second *history
				var dying sync.WaitGroup
				if dies {
					dying.Go(func() {
						waitFor(b, workers, prompts*perPrompt/3)
						killed = time.Since(began)
						lost, _ := workers[0].stats()
						workers[0].kill()
						histories[0].stop()
						waitFor(b, workers[1:], prompts*perPrompt*2/3-lost.Generations)
						back = time.Since(began)
						u, err := url.Parse(workers[0].url)
						if err != nil {
							b.Error(err)
							return
						}
						second = startWorker(b, program, u.Host, "--slots=256", "--latency=500ms").follow()
					})
				}
				c := asked(b, program, file, workers)
				dying.Wait()
				use := reportFleet(b, histories, second, killed, back)
				if dies {
					wants(b, "slot use", use, 0.93, 1)
				} else {
					wants(b, "slot use", use, 0.95, 1)
				}
				c.report(b)
				if c.failed > 0 {
					b.Errorf("%v calls failed for good", c.failed)
				}
			}
		})
	}
}

// perPrompt is about the number of generations of a prompt: 7 responses, 77 judgments and 110
// comparisons (11 judgments of the contested response make 55 pairs in both orders), less the
// comparisons of judgments that are equal or don't parse.
const perPrompt = 190

// waitFor waits until the workers together have delivered a number of generations.
func waitFor(b *testing.B, workers []*workerProcess, generations int64) {
	b.Helper()
	for end := time.Now().Add(10 * time.Minute); ; <-time.After(500 * time.Millisecond) {
		sum := int64(0)
		for _, w := range workers {
			if s, ok := w.stats(); ok {
				sum += s.Generations
			}
		}
		if sum >= generations {
			return
		}
		if time.Now().After(end) {
			b.Errorf("%d generations came, want %d", sum, generations)
			return
		}
	}
}

// reportFleet reports and returns the used share of the available capacity, from the first request
// to the end of the last one. The seconds that a killed worker had delivered count as used.
func reportFleet(b *testing.B, histories []*history, second *history, killed, back time.Duration) float64 {
	b.Helper()
	var delivered, capacity float64
	wall := 0.0
	for i, h := range histories {
		if i > 0 || second == nil {
			h.stop()
			wall = max(wall, h.last().WallSeconds)
		}
	}
	for i, h := range histories {
		s := h.last()
		delivered += s.DeliveredSeconds
		if i == 0 && second != nil {
			second.stop()
			delivered += second.last().DeliveredSeconds
			capacity += float64(s.Slots) * (min(killed.Seconds(), wall) + max(wall-back.Seconds(), 0))
			continue
		}
		capacity += float64(s.Slots) * wall
		b.ReportMetric(s.DeliveredSeconds/float64(s.Slots)/wall, fmt.Sprint("slot-use-", i))
	}
	b.ReportMetric(delivered/capacity, "slot-use")
	return delivered / capacity
}

// BenchmarkChaosAffinity measures four servers with prefix caches of 200,000 tokens each, which take
// 26 GB with a model of 128 kB a token. Hits-of-one is their share of cached prompt tokens, divided
// by that of one server of the summed size. Heaviest is the busy time of the most loaded server,
// divided by the mean.
func BenchmarkChaosAffinity(b *testing.B) {
	program, file := buildProgram(b), benchPrompts(b, 600)
	share := func(count int, flags ...string) (hits, heaviest float64) {
		var workers []*workerProcess
		for range count {
			workers = append(workers, startWorker(b, program, anyPort, flags...))
		}
		asked(b, program, file, workers)
		var cached, all, busy, most float64
		for _, w := range workers {
			s, ok := w.stats()
			if !ok {
				b.Fatal("a worker's /stats can't be read")
			}
			cached, all = cached+float64(s.CachedTokens), all+float64(s.PromptTokens)
			busy, most = busy+s.BusySeconds, max(most, s.BusySeconds)
		}
		return cached / all, most * float64(count) / busy
	}
	for b.Loop() {
		one, _ := share(1, "--slots=256", "--latency=200ms", "--cache-tokens=800000")
		four, heaviest := share(4, "--slots=64", "--latency=200ms", "--cache-tokens=200000")
		b.ReportMetric(one, "hits-one")
		b.ReportMetric(four, "hits-four")
		b.ReportMetric(four/one, "hits-of-one")
		b.ReportMetric(heaviest, "heaviest")
		wants(b, "the share of one's hits", four/one, 0.9, 1.1)
		wants(b, "the heaviest load by the mean", heaviest, 1, 1.25)
	}
}

// BenchmarkChaosTwoProcesses measures two runs of the program on one server at the same time.
func BenchmarkChaosTwoProcesses(b *testing.B) {
	program, file := buildProgram(b), benchPrompts(b, 600)
	for b.Loop() {
		w := startWorker(b, program, anyPort, "--slots=256", "--latency=200ms")
		h := w.follow()
		var both sync.WaitGroup
		var first sync.Once
		for i := range 2 {
			both.Go(func() {
				c := asked(b, program, file, []*workerProcess{w}, "--set", fmt.Sprint("seed=", i+1))
				// When the first run ends, the worker has delivered all of that run and a part of the other.
				first.Do(func() {
					if s, ok := w.stats(); ok {
						part := c.generations / float64(s.Generations)
						b.ReportMetric(part, "part")
						wants(b, "one's part", part, 0.4, 0.6)
					}
				})
			})
		}
		both.Wait()
		h.stop()
		h.report(b)
		wants(b, "slot use", h.last().DeliveredSlotUse, 0.95, 1)
	}
}

// BenchmarkChaosSoak measures ten minutes at full speed. Memory, goroutines and open files must not
// grow, except for the memory in which the runner keeps finished prompts.
func BenchmarkChaosSoak(b *testing.B) {
	const soakPrompts = 8000
	program, file := buildProgram(b), benchPrompts(b, soakPrompts)
	for b.Loop() {
		w := startWorker(b, program, anyPort, "--slots=256", "--latency=100ms")
		metrics := freeAddress(b)
		c := exec.Command(program, "run", "--json", "--prompts", file, "--out", filepath.Join(b.TempDir(), "out"), "--model", "simulated", "--url", w.url,
			"--metrics-addr", metrics)
		c.Stderr = nil
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		var seen []footprint
		for over := false; !over; {
			select {
			case err := <-ended:
				if err != nil {
					b.Fatal(err)
				}
				over = true
			case <-time.After(5 * time.Second):
				if f, ok := footprintOf(c.Process.Pid, metrics); ok {
					seen = append(seen, f)
				}
			}
		}
		// Writing the files takes more memory, so only the part up to the last request counts.
		s, _ := w.stats()
		asking := seen[:min(len(seen), int(s.WallSeconds/5))]
		early, late := asking[len(asking)/5], asking[len(asking)*9/10]
		b.ReportMetric(early.megabytes, "early-MB")
		b.ReportMetric(late.megabytes, "late-MB")
		b.ReportMetric(early.goroutines, "early-goroutines")
		b.ReportMetric(late.goroutines, "late-goroutines")
		b.ReportMetric(float64(early.files), "early-files")
		b.ReportMetric(float64(late.files), "late-files")
		b.ReportMetric(s.SlotUse, "slot-use")
		// A runner keeps up to 10 kB of each finished prompt, in a heap that may be half as large again.
		each := 1000 * (late.megabytes - early.megabytes) / (0.7 * soakPrompts) // from a fifth to nine tenths
		b.ReportMetric(each, "kB/prompt")
		wants(b, "kB more for each prompt", each, -100, 30)
		wants(b, "goroutines, likewise", late.goroutines/early.goroutines, 0, 1.25)
		wants(b, "open files, likewise", float64(late.files)/float64(early.files), 0, 1.25)
	}
}

// footprint is the use of resources of a process.
type footprint struct {
	megabytes  float64
	files      int
	goroutines float64
}

// freeAddress returns an address without a listener.
func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return l.Addr().String()
}

var goroutinesLine = regexp.MustCompile(`(?m)^go_goroutines (\S+)$`)

// goroutinesAt reads the number of goroutines from a program's metrics.
func goroutinesAt(metrics string) (n float64, ok bool) {
	resp, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	m := goroutinesLine.FindSubmatch(page)
	if err != nil || m == nil {
		return 0, false
	}
	n, err = strconv.ParseFloat(string(m[1]), 64)
	return n, err == nil
}

// footprintOf reads a process's entries in Linux's /proc and its metrics.
func footprintOf(pid int, metrics string) (footprint, bool) {
	goroutines, ok := goroutinesAt(metrics)
	if !ok {
		return footprint{}, false
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return footprint{}, false
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return footprint{}, false
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return footprint{}, false
	}
	return footprint{resident * float64(os.Getpagesize()) / 1e6, len(files), goroutines}, true
}
