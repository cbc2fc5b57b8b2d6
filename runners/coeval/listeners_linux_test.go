package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"coeval/transforms/simulator"
)

// listeners returns the sockets of a process that others can reach, as "tcp 127.0.0.1:80": TCP and
// Unix sockets that listen, and UDP and raw sockets without a peer. A process that has ended has none.
func listeners(t *testing.T, pid int) []string {
	t.Helper()
	return (&watch{connected: map[string]bool{}}).look(t, pid)
}

// A watch looks at the listeners of a process again and again. A connected TCP socket never listens, so that the tables
// of all sockets of the machine are read only while the process has another one.
type watch struct{ connected map[string]bool } // inodes

func (w *watch) look(t *testing.T, pid int) []string {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return nil
	}
	own := map[string]bool{} // inodes
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(proc, "fd", e.Name())); err == nil {
			inode, ok := strings.CutPrefix(target, "socket:[")
			if inode = strings.TrimSuffix(inode, "]"); ok && !w.connected[inode] {
				own[inode] = true
			}
		}
	}
	if len(own) == 0 {
		return nil
	}
	var found []string
	for _, network := range []string{"tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "unix"} {
		for _, fields := range socketTable(t, proc, network) {
			if name, ok := reachable(t, network, fields, own); ok {
				found = append(found, network+" "+name)
			}
			const established = "01"
			if strings.HasPrefix(network, "tcp") && len(fields) >= 10 && own[fields[9]] && fields[3] == established {
				w.connected[fields[9]] = true
			}
		}
	}
	slices.Sort(found)
	return found
}

// socketTable returns the fields of each socket of a table below /proc/PID/net.
func socketTable(t *testing.T, proc, network string) [][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(proc, "net", network))
	if err != nil { // the kernel lacks the protocol, or the process has ended
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(string(b)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows[min(len(rows), 1):]
}

// reachable returns the address of a socket when it is one of own and waits for others. The tables
// are those of proc(5): TCP's state 0A is LISTEN, UDP's 07 has no peer, a Unix socket's flag 10000
// says that it accepts.
func reachable(t *testing.T, network string, fields []string, own map[string]bool) (string, bool) {
	t.Helper()
	if network == "unix" {
		if len(fields) < 7 || !own[fields[6]] || fields[3] != "00010000" {
			return "", false
		}
		return strings.Join(fields[7:], " "), true
	}
	state := map[string]string{"tcp": "0A", "tcp6": "0A"}[network]
	if len(fields) < 10 || !own[fields[9]] || fields[3] != cmp.Or(state, "07") {
		return "", false
	}
	return address(t, fields[1]), true
}

// address reads an address of /proc/net/tcp or tcp6: words of 32 bits in the machine's order, and the port.
func address(t *testing.T, s string) string {
	t.Helper()
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || portErr != nil || len(raw)%4 != 0 {
		t.Fatalf("%q is no address of /proc/net", s)
	}
	for i := 0; i < len(raw); i += 4 { // the machines that tests run on are little-endian
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		t.Fatalf("%q is no address of /proc/net", s)
	}
	return netip.AddrPortFrom(a, uint16(n)).String()
}

// watched runs the program to its end, looks at its listeners every millisecond, and returns all that
// it saw and the exit code.
func watched(t *testing.T, args ...string) (p *process, seen []string, code int) {
	t.Helper()
	p = begin(t, nil, args...)
	all := map[string]bool{}
	w := watch{connected: map[string]bool{}}
	for tick := time.Tick(time.Millisecond); p.alive(); <-tick {
		for _, l := range w.look(t, p.cmd.Process.Pid) {
			all[l] = true
		}
	}
	code = p.wait(t)
	return p, slices.Sorted(maps.Keys(all)), code
}

// A test that reads /proc wrongly would find nothing anywhere.
func TestListenersAreSeen(t *testing.T) {
	t.Parallel()
	p := begin(t, nil, "simulate", "--addr", "127.0.0.1:0")
	eventually(t, "the server's URL", func() bool { return strings.HasSuffix(p.stdout.String(), "/v1\n") })
	want := []string{"tcp " + strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(p.stdout.String()), "http://"), "/v1")}
	if diff := gocmp.Diff(want, listeners(t, p.cmd.Process.Pid)); diff != "" {
		t.Errorf("simulate listens elsewhere than where it says: %s", diff)
	}
	p.kill(t)
}

// oneIteration is the config of a loop of one iteration, which asks and trains the simulated worker.
func oneIteration(t *testing.T, url, prompts string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "loop.yaml")
	write(t, file, fmt.Sprintf(`
dir: %[1]s/loop
run:
  worker: {urls: [%[2]q], model: base}
  prompts: {paths: [%[3]s]}
  actor: {n: 2}
  judge: {n: 3}
prompts_per_iteration: 4
schedule: [{preset: paper-1}]
model: {path: base}
train: {command: "%[4]s simulate train --actor {actor} --judge {judge} --model {model} --out {out}"}
swap: {kind: lora}
evaluate: {arena: {judge: {model: judge}, prompts: {paths: [%[3]s], limit: 3}}}
decide: {iterations: 1}
`, dir, url, prompts, program))
	return file
}

// No command opens a listener that no flag asks for.
func TestNothingListensUnasked(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{Adapters: true})
	prompts, labels := promptFile(t, 30), "../../datasets/llmbar/llmbar-natural.json"
	out, games := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "arena")
	loop := oneIteration(t, w.URL, prompts)
	simulated := func(command string, more ...string) []string {
		return append([]string{command, "--simulate", "--out", filepath.Join(t.TempDir(), "out"), "--set", "judge.n=4"}, more...)
	}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"run", runOf(w.URL, prompts, out)},
		{"run again", runOf(w.URL, prompts, out, "--set", "method.rho=0.2")},
		{"run --simulate", simulated("run", "--prompts", prompts)},
		{"run --simulate with latency", simulated("run", "--prompts", prompts, "--set", "simulate.latency=5ms")},
		{"calibrate", simulated("calibrate", "--people", labels)},
		{"plan", simulated("plan", "--prompts", prompts)},
		{"plan --probe", simulated("plan", "--prompts", prompts, "--probe", "200ms")},
		{"plan --probe of a server", []string{"plan", "--url", w.URL, "--model", "simulated", "--prompts", prompts, "--out", filepath.Join(t.TempDir(), "out"), "--probe", "200ms"}},
		{"arena", arenaOf(w.URL, prompts, games, "--a", better)},
		{"arena --simulate", []string{"arena", "--simulate", "--a", better, "--b", base, "--judge", "judge", "--prompts", prompts, "--out", filepath.Join(t.TempDir(), "out")}},
		{"arena --plan", arenaOf(w.URL, prompts, games, "--a", better, "--a", "sim:quality=+1,length=+0,noise=+0", "--plan")},
		{"loop --plan", []string{"loop", loop, "--plan"}},
		{"loop", []string{"loop", loop}},
		{"loop status", []string{"loop", "status", loop}},
		{"verify", []string{"verify", out}},
		{"verify of an arena", []string{"verify", games}},
		{"report", []string{"report", out}},
		{"compare", []string{"compare", out, out}},
		{"inspect", []string{"inspect", out, "1"}},
		{"journal verify", []string{"journal", "verify", out}},
		{"journal compact", []string{"journal", "compact", out}},
		{"journal salvage", []string{"journal", "salvage", out}},
		{"config", []string{"config", "--simulate", "--prompts", prompts, "--out", out}},
	} {
		p, seen, code := watched(t, tt.args...)
		if code != exitDone || len(seen) > 0 {
			t.Errorf("%s: exit %d, listeners %q: %s", tt.name, code, seen, p.stderr.String())
		}
	}
}

// While requests are in flight only the address of --metrics-addr listens.
func TestListenersOfARunThatAsks(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--metrics-addr", "127.0.0.1:0"}} {
		w := newWorker(t, simulator.Options{})
		w.closeAfter(t, 20)
		p := begin(t, nil, runOf(w.URL, promptFile(t, 10), filepath.Join(t.TempDir(), "out"), flags...)...)
		eventually(t, "requests in flight", w.holds)
		var want []string
		if flags != nil {
			want = []string{"tcp " + strings.TrimPrefix(metricsOf(t, p), "http://")}
		}
		if diff := gocmp.Diff(want, listeners(t, p.cmd.Process.Pid)); diff != "" {
			t.Errorf("%q: listeners: %s", flags, diff)
		}
		p.kill(t)
	}
}

// Prism listens, and the program says so.
func TestPrismListens(t *testing.T) {
	t.Parallel()
	w := newWorker(t, simulator.Options{})
	w.closeAfter(t, 5)
	p := begin(t, nil, runOf(w.URL, promptFile(t, 10), filepath.Join(t.TempDir(), "out"), "--runner=prism")...)
	eventually(t, "requests in flight", w.holds)
	open := slices.ContainsFunc(listeners(t, p.cmd.Process.Pid), func(l string) bool { return strings.HasPrefix(l, "tcp6 [::]:") })
	if warned := strings.Contains(p.stderr.String(), "listens on all interfaces without authentication"); !open || !warned {
		t.Errorf("prism listens on all interfaces: %t, and the program says so: %t\n%s", open, warned, p.stderr.String())
	}
	p.kill(t)
}
