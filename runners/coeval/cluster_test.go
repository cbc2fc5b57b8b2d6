//go:build flink

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/runners/summary"
	"coeval/transforms/simulator"
)

var (
	killSeed   = flag.Uint64("kill-seed", 0, "decides the moments at which TestCluster kills; 0 draws one")
	minSlotUse = flag.Float64("min-slot-use", 0, "the part of the slots' time that TestCluster's workers must use")
)

// cluster is a Flink of processes on this machine: one job manager, task managers with one slot
// each, which start workers as processes, and Beam's job server.
type cluster struct {
	t         *testing.T // of all subtests, with which its processes end
	dir       string
	rest      string // the job manager's REST interface, as host:port
	rpc       string // the job manager's port for task managers
	jobServer string
	tasks     []*process
}

// clusterPatience bounds the waits for the events of a job. Each stage starts its workers anew, which
// takes minutes on a machine with other work.
const clusterPatience = 10 * time.Minute

// flinkLog has Flink log to where the tests read.
const flinkLog = `rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
`

// The job begins anew when a worker or a task manager dies, after a delay in which a dead task
// manager is noticed, by two calls that it doesn't take: else the job begins on its slot, and once
// more. The hearts of those that live are given time, since the machine is busy.
const flinkConfig = `jobmanager.rpc.address: localhost
jobmanager.rpc.port: 0
jobmanager.bind-host: localhost
jobmanager.memory.process.size: 700m
rest.address: localhost
rest.bind-address: localhost
rest.bind-port: 0
taskmanager.host: localhost
taskmanager.bind-host: localhost
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 3
restart-strategy.fixed-delay.delay: 5s
heartbeat.interval: 1000
heartbeat.timeout: 60000
metrics.fetcher.update-interval: 500
io.tmp.dirs: %s
`

// The key that the endpoints ask for is in the environment of the task managers, whose workers
// have it from there, and not in that of the submitting program.
const (
	clusterKey    = "COEVAL_CLUSTER_KEY"
	clusterSecret = "of the cluster"
)

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	write(t, filepath.Join(c.dir, "flink-conf.yaml"), fmt.Sprintf(flinkConfig, c.dir))
	write(t, filepath.Join(c.dir, "log4j.properties"), flinkLog)
	p, at := c.java([]string{"Rest endpoint listening at ", "Actor system started at pekko.tcp://flink@localhost:"},
		"-Xmx400m", "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint", "--executionMode", "cluster")
	c.rest, c.rpc = at[0], at[1]
	c.startTaskManager()
	c.startTaskManager()
	c.jobServer = jobServer(t, c.rest)
	t.Cleanup(func() {
		if t.Failed() {
			log := p.logged()
			t.Logf("the job manager's log ends:\n%s", log[max(len(log)-20_000, 0):])
		}
	})
	return c
}

// java starts one of Flink's programs.
func (c *cluster) java(marks []string, heap, class string, more ...string) (*process, []string) {
	c.t.Helper()
	return java(c.t, []string{clusterKey + "=" + clusterSecret}, marks, "flink-cluster/lib", append([]string{
		heap, "-XX:MaxDirectMemorySize=768m", "-Dlog4j.configurationFile=file:" + filepath.Join(c.dir, "log4j.properties"),
		class, "--configDir", c.dir,
	}, more...)...)
}

// startTaskManager adds a task manager of one slot. The values that its script would compute have to be
// given. Beam hands the program out to workers through memory outside the heap.
func (c *cluster) startTaskManager() {
	c.t.Helper()
	var args []string
	for _, setting := range []string{
		"jobmanager.rpc.port=" + c.rpc, fmt.Sprint("taskmanager.resource-id=tm", len(c.tasks)),
		"taskmanager.numberOfTaskSlots=1", "taskmanager.cpu.cores=1",
		"taskmanager.memory.framework.heap.size=128m", "taskmanager.memory.task.heap.size=384m",
		"taskmanager.memory.framework.off-heap.size=128m", "taskmanager.memory.task.off-heap.size=576m",
		"taskmanager.memory.network.min=64m", "taskmanager.memory.network.max=64m", "taskmanager.memory.managed.size=64m",
		"taskmanager.memory.jvm-metaspace.size=256m", "taskmanager.memory.jvm-overhead.min=192m", "taskmanager.memory.jvm-overhead.max=192m",
	} {
		args = append(args, "-D", setting)
	}
	p, _ := c.java([]string{"Successful registration at resource manager "}, "-Xmx512m", "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", args...)
	c.tasks = append(c.tasks, p)
}

// ask asks the job manager's REST interface.
func (c *cluster) ask(t *testing.T, method, path string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.rest+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if answer == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// job returns the ID and the state of the job that was submitted last.
func (c *cluster) job(t *testing.T) (id, state string) {
	t.Helper()
	var overview struct {
		Jobs []struct {
			ID    string `json:"jid"`
			State string `json:"state"`
			Start int64  `json:"start-time"`
		} `json:"jobs"`
	}
	c.ask(t, http.MethodGet, "/jobs/overview", &overview)
	last := int64(0)
	for _, j := range overview.Jobs {
		if j.Start > last {
			id, state, last = j.ID, j.State, j.Start
		}
	}
	return id, state
}

// restarts returns how often the last job began anew. Flink tells it while the job runs.
func (c *cluster) restarts(t *testing.T) int64 {
	t.Helper()
	id, _ := c.job(t)
	var metrics []struct {
		Value string `json:"value"`
	}
	c.ask(t, http.MethodGet, "/jobs/"+id+"/metrics?get=numRestarts", &metrics)
	if len(metrics) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(metrics[0].Value, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// failures returns the causes of the last job's restarts.
func (c *cluster) failures(t *testing.T) []string {
	t.Helper()
	var exceptions struct {
		History struct {
			Entries []struct {
				Name  string `json:"exceptionName"`
				Trace string `json:"stacktrace"`
				Time  int64  `json:"timestamp"`
			} `json:"entries"`
		} `json:"exceptionHistory"`
	}
	id, _ := c.job(t)
	c.ask(t, http.MethodGet, "/jobs/"+id+"/exceptions", &exceptions)
	var found []string
	for _, e := range exceptions.History.Entries {
		line, _, _ := strings.Cut(e.Trace, "\n")
		found = append(found, fmt.Sprintf("%s %.200s", time.UnixMilli(e.Time).Format(time.TimeOnly), line))
	}
	return found
}

// workers returns the process IDs of the workers by task manager. They are found in the process
// group of the one that started them, in which they stay when it dies.
func (c *cluster) workers(t *testing.T) map[*process][]int {
	t.Helper()
	found := map[*process][]int{}
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		command, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(command), "\x00--worker=true\x00") {
			continue // it may have ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		group, err := syscall.Getpgid(pid)
		if err != nil {
			continue
		}
		for _, task := range c.tasks {
			if task.cmd.Process.Pid == group {
				found[task] = append(found[task], pid)
			}
		}
	}
	return found
}

// clusterRun is a run with many shards whose storage all machines share, which they do here.
func clusterRun(url, prompts, out string, more ...string) []string {
	return runOf(url, prompts, out, append([]string{
		"--set", "output.prompts_per_shard=20", "--set", "shared_storage=true", "--set", "worker.api_key_env=" + clusterKey,
	}, more...)...)
}

// killedLatency is that of the endpoint of runs in which something is killed.
const killedLatency = 60 * time.Millisecond

// submitted is a run under way on the cluster.
type submitted struct {
	*process

	w    *worker
	out  string
	args []string
}

// submit begins a run against a worker of its own with 64 slots, each of which a choice holds for
// the latency in the mean: with 60 ms, 498 prompts of about 25 generations keep them busy for 12 s.
func (c *cluster) submit(t *testing.T, prompts string, latency time.Duration) *submitted {
	t.Helper()
	w := newWorker(t, simulator.Options{World: uneven(), APIKey: clusterSecret, Latency: latency, Slots: 64})
	out := filepath.Join(t.TempDir(), "out")
	args := append(clusterRun(w.URL, prompts, out, "--"), onProcesses(t, c.jobServer, 2)...)
	return &submitted{process: begin(t, nil, args...), w: w, out: out, args: args}
}

// again gives the same command once more.
func (s *submitted) again(t *testing.T) *submitted {
	t.Helper()
	return &submitted{process: begin(t, nil, s.args...), w: s.w, out: s.out, args: s.args}
}

// summary waits for the end.
func (s *submitted) summary(t *testing.T) *summary.Summary {
	t.Helper()
	<-s.ended // or go test's own timeout
	if code := s.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, s.stderr.String())
	}
	var sum summary.Summary
	if err := json.Unmarshal([]byte(s.stdout.String()), &sum); err != nil {
		t.Fatal(err)
	}
	return &sum
}

// moment is a run of which all stands still: its workers do, and nothing new gets to the endpoint.
type moment struct {
	workers map[*process][]int
	// undurable is how many generations were asked for and are not durable; those that the
	// endpoints' probes asked for, 7 by each worker, are among them.
	undurable int64
	// open lets requests pass again, and waiting is how many do not pass.
	open    func()
	waiting func() int
}

// stop waits until so many requests were made and some are under way, and stops the run. Not each
// task manager need have a worker then: one may be done with its share before the other begins.
func (c *cluster) stop(t *testing.T, s *submitted, requests int64) *moment {
	t.Helper()
	m := &moment{waiting: func() int {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		return s.w.waiting
	}}
	within(t, clusterPatience, fmt.Sprintf("workers ask, %d requests", requests), func() bool {
		if !s.alive() {
			t.Fatalf("the run ended before:\n%s", s.stderr.String())
		}
		if stats := s.w.Stats(); stats.Requests < requests || stats.InFlight.Requests == 0 {
			return false
		}
		m.workers = c.workers(t)
		return len(m.workers) > 0
	})
	m.open = s.w.closeAfter(t, 0)
	m.signal(t, syscall.SIGSTOP)
	eventually(t, "all that was asked for is answered", func() bool { return s.w.Stats().InFlight.Requests == 0 })
	m.undurable = s.w.Stats().Generations - sum(durable(t, s.out))
	return m
}

func (m *moment) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	for _, pids := range m.workers {
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil && err != syscall.ESRCH {
				t.Fatal(err)
			}
		}
	}
}

// victim draws a task manager that has a worker.
func (m *moment) victim(c *trial) *process {
	with := slices.DeleteFunc(slices.Clone(c.tasks), func(p *process) bool { return m.workers[p] == nil })
	return with[c.rand.IntN(len(with))]
}

// resume continues the workers that were not killed. It lets requests pass after all these workers and their
// requests have ended: when the whole job begins anew, Flink ends the other workers too. Their requests until
// then are not counted. A worker that is still there after a while continues its work, and may be ended later:
// resume reports whether there is one.
func (c *cluster) resume(t *testing.T, m *moment) (goesOn bool) {
	t.Helper()
	m.signal(t, syscall.SIGCONT)
	defer m.open()
	var old []int
	for _, pids := range m.workers {
		old = append(old, pids...)
	}
	tick, late := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		left := slices.DeleteFunc(slices.Concat(slices.Collect(maps.Values(c.workers(t)))...), func(pid int) bool { return !slices.Contains(old, pid) })
		if len(left) == 0 && m.waiting() == 0 {
			return false
		}
		select {
		case <-tick.C:
		case <-late:
			t.Logf("workers %v go on, %d requests wait", left, m.waiting())
			return true
		}
	}
}

// trial is the cluster with the expected outcome of runs on it.
type trial struct {
	*cluster

	prompts string
	wanted  map[string]string
	all     summary.Summary
	rand    *rand.Rand
}

// newTrial makes the expected outcome of a run of this many prompts here, on prism.
func newTrial(t *testing.T, prompts int) *trial {
	t.Helper()
	c := &trial{prompts: mixed(t, prompts)}
	here := newWorker(t, simulator.Options{World: uneven(), APIKey: clusterSecret})
	out := filepath.Join(t.TempDir(), "out")
	said := want(t, []string{clusterKey + "=" + clusterSecret}, clusterRun(here.URL, c.prompts, out)...)
	if err := json.Unmarshal([]byte(said), &c.all); err != nil {
		t.Fatal(err)
	}
	c.wanted = files(t, out)
	return c
}

// On a cluster of two task managers, a run makes the files that it makes here, and asks for no more
// than it must when a worker, a task manager or the submitting program is killed.
func TestCluster(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill-seed=%d", seed)
	c, long := newTrial(t, 498), newTrial(t, 1498)
	c.rand = rand.New(rand.NewPCG(seed, 0))
	c.cluster = newCluster(t)
	long.cluster = c.cluster

	// So many that the start of the second worker and the last, longest choices are a small part.
	t.Run("undisturbed", func(t *testing.T) {
		s := c.submit(t, long.prompts, 100*time.Millisecond)
		long.check(t, s.out, s.summary(t))
		stats := s.w.Stats()
		if stats.AskedTwice != 0 {
			t.Errorf("%d generations were asked twice", stats.AskedTwice)
		}
		t.Logf("the workers kept the endpoint's slots busy for %.1f %% of the %.1f s between the first and the last request", 100*stats.SlotUse, stats.WallSeconds)
		if stats.SlotUse < *minSlotUse {
			t.Errorf("slot use is %.3f, want at least %g", stats.SlotUse, *minSlotUse)
		}
	})
	t.Run("killed worker", func(t *testing.T) {
		c.kill(t, func(_ *submitted, m *moment) {
			if err := syscall.Kill(m.workers[m.victim(c)][0], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}, func(s *submitted) *submitted { return s })
		c.beganAnew(t)
	})
	t.Run("killed task manager", func(t *testing.T) {
		c.kill(t, func(_ *submitted, m *moment) {
			m.victim(c).kill(t)
		}, func(s *submitted) *submitted {
			c.startTaskManager() // the job needs two slots
			return s
		})
		c.beganAnew(t)
	})
	// The job outlives the program that submitted it, and holds the slots that the next one needs: it
	// is cancelled first, as the README says. Beam's runner at times leaves a worker of a cancelled
	// job alive, which stops asking when it sees that another run has the folder.
	t.Run("killed program", func(t *testing.T) {
		c.kill(t, func(s *submitted, _ *moment) {
			s.kill(t)
			id, _ := c.job(t)
			c.ask(t, http.MethodPatch, "/jobs/"+id+"?mode=cancel", nil)
		}, func(s *submitted) *submitted {
			within(t, clusterPatience, "the job is cancelled", func() bool {
				_, state := c.job(t)
				return state == "CANCELED"
			})
			return s.again(t)
		})
	})
	// Nobody cancels it: it ends when its workers have seen often enough that another run has the
	// folder, or when it is done.
	t.Run("killed program, whose job is left", func(t *testing.T) {
		s := c.submit(t, c.prompts, killedLatency)
		some := c.all.Calls.Requests * (5 + c.rand.Int64N(30)) / 100
		within(t, clusterPatience, fmt.Sprintf("%d requests were made", some), func() bool { return s.w.Stats().Requests > some })
		s.kill(t)
		again := s.again(t)
		c.check(t, again.out, again.summary(t))
		t.Logf("%d generations were asked twice", s.w.Stats().AskedTwice)
	})
}

// check fails the test if a run's outcome differs from the expected one.
func (c *trial) check(t *testing.T, out string, s *summary.Summary) {
	t.Helper()
	t.Logf("the run took %.0f s", s.Seconds)
	proved(t, out)
	if diff := cmp.Diff(c.wanted, files(t, out)); diff != "" {
		t.Errorf("files differ from those of prism: %s", diff)
	}
	if got, want := s.Calls.Replayed+s.Calls.Generations, c.all.Calls.Generations; got != want {
		t.Errorf("%d generations, want those of prism, %d", got, want)
	}
}

// kill kills something at a random moment of a run and checks the outcome of the run that again returns.
func (c *trial) kill(t *testing.T, kill func(*submitted, *moment), again func(*submitted) *submitted) {
	t.Helper()
	s := c.submit(t, c.prompts, killedLatency)
	m := c.stop(t, s, c.all.Calls.Requests*(10+c.rand.Int64N(70))/100)
	kill(s, m)
	goesOn := c.resume(t, m)
	s = again(s)
	begun := int64(1)
	for tick := time.NewTicker(time.Second); s.alive(); <-tick.C { // or go test's own timeout
		begun = max(begun, c.restarts(t))
	}
	c.check(t, s.out, s.summary(t))
	// Flink may begin a job twice when it loses a task manager: when it misses it, and when it
	// misses the data that lay there. Requests in flight at that moment are repeated, too.
	stats := s.w.Stats()
	if goesOn {
		begun++
	}
	t.Logf("%d generations were in flight at the kill, %d were asked twice, what was asked for was begun anew %d times", m.undurable, stats.AskedTwice, begun)
	if most := m.undurable * begun; stats.AskedTwice > most {
		t.Errorf("%d generations were asked twice, want at most %d", stats.AskedTwice, most)
	}
}

// beganAnew fails the test if the last job did not begin anew.
func (c *cluster) beganAnew(t *testing.T) {
	t.Helper()
	failures := c.failures(t)
	if len(failures) == 0 {
		t.Error("the job did not begin anew")
	}
	t.Log(strings.Join(failures, "\n"))
}
