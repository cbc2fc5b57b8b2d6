//go:build flink

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/coder"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/go-cmp/cmp"

	"coeval/runners/engine"
	"coeval/schemas"
	_ "coeval/transforms/coders"
	"coeval/transforms/coders/coderstest"
	"coeval/transforms/simulator"
)

func init() {
	register.DoFn7x0[
		[]byte, func(string, schemas.Prompt), func(string, schemas.Dossier), func(string, schemas.Record),
		func(string, schemas.PositionCounts), func(string, schemas.Tally), func(string, schemas.Manifest),
	](&makeFn{})
	register.Function3x0(arrivePrompt)
	register.Function3x0(arriveDossier)
	register.Function3x0(arriveRecord)
	register.Function3x0(arrivePositionCounts)
	register.Function3x0(arriveTally)
	register.Function3x0(arriveManifest)
	register.Emitter2[string, schemas.Prompt]()
	register.Emitter2[string, schemas.Dossier]()
	register.Emitter2[string, schemas.Record]()
	register.Emitter2[string, schemas.PositionCounts]()
	register.Emitter2[string, schemas.Tally]()
	register.Emitter2[string, schemas.Manifest]()
	register.Emitter1[string]()
	register.Iter1[schemas.Prompt]()
	register.Iter1[schemas.Dossier]()
	register.Iter1[schemas.Record]()
	register.Iter1[schemas.PositionCounts]()
	register.Iter1[schemas.Tally]()
	register.Iter1[schemas.Manifest]()
}

// travellers is how many values of each type are sent.
const travellers = 999

// traveller returns the value of this number: in turn one with nil slices and maps, one with
// empty ones, and one with entries.
func traveller[T any](i int) T {
	var v T
	coderstest.Fill(reflect.ValueOf(&v).Elem(), i%3-1, &i)
	return v
}

// throughCoder encodes a value with its coder and decodes it again: of slices and maps it keeps the length.
func throughCoder[T any](t *testing.T, v T) any {
	t.Helper()
	c := coder.LookupCustomCoder(reflect.TypeFor[T]())
	made := c.Enc.Fn.Call([]any{v})
	read := c.Dec.Fn.Call(made[:1])
	if made[1] != nil || read[1] != nil {
		t.Fatalf("%T: %v, %v", v, made[1], read[1])
	}
	return read[0]
}

// makeFn sends all travellers off.
type makeFn struct{}

// ProcessElement emits each value under a key of its own.
func (*makeFn) ProcessElement(_ []byte, p func(string, schemas.Prompt), d func(string, schemas.Dossier), r func(string, schemas.Record),
	c func(string, schemas.PositionCounts), t func(string, schemas.Tally), m func(string, schemas.Manifest),
) {
	for i := range travellers {
		key := fmt.Sprint(i)
		p(key, traveller[schemas.Prompt](i))
		d(key, traveller[schemas.Dossier](i))
		r(key, traveller[schemas.Record](i))
		c(key, traveller[schemas.PositionCounts](i))
		t(key, traveller[schemas.Tally](i))
		m(key, traveller[schemas.Manifest](i))
	}
}

// arrived contains the values that came through the shuffle: with LOOPBACK the worker is this process.
var arrived sync.Map

func arrive[T any](key string, values func(*T) bool) {
	var v T
	for n := 0; values(&v); n++ {
		arrived.Store(fmt.Sprintf("%T/%s/%d", v, key, n), v)
		v = *new(T)
	}
}

func arrivePrompt(key string, v func(*schemas.Prompt) bool, _ func(string))   { arrive(key, v) }
func arriveDossier(key string, v func(*schemas.Dossier) bool, _ func(string)) { arrive(key, v) }
func arriveRecord(key string, v func(*schemas.Record) bool, _ func(string))   { arrive(key, v) }
func arriveTally(key string, v func(*schemas.Tally) bool, _ func(string))     { arrive(key, v) }
func arriveManifest(key string, v func(*schemas.Manifest) bool, _ func(string)) {
	arrive(key, v)
}

func arrivePositionCounts(key string, v func(*schemas.PositionCounts) bool, _ func(string)) {
	arrive(key, v)
}

// Every type that travels comes through a Flink shuffle, with nil slices too: rows of a
// schema with them were lost there, 998 of 1,000, without a word.
func TestFlinkLosesNoRow(t *testing.T) {
	arrived.Clear()
	server := jobServer(t, "[local]")
	flag.Parse()
	if err := engine.Init([]string{"--runner=flink", "--endpoint=" + server, "--environment_type=LOOPBACK", "--parallelism=2"}, false); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	prompts, dossiers, records, counts, tallies, manifests := beam.ParDo6(s, &makeFn{}, beam.Impulse(s))
	beam.ParDo(s, arrivePrompt, beam.GroupByKey(s, prompts))
	beam.ParDo(s, arriveDossier, beam.GroupByKey(s, dossiers))
	beam.ParDo(s, arriveRecord, beam.GroupByKey(s, records))
	beam.ParDo(s, arrivePositionCounts, beam.GroupByKey(s, counts))
	beam.ParDo(s, arriveTally, beam.GroupByKey(s, tallies))
	beam.ParDo(s, arriveManifest, beam.GroupByKey(s, manifests))
	if err := engine.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	came[schemas.Prompt](t)
	came[schemas.Dossier](t)
	came[schemas.Record](t)
	came[schemas.PositionCounts](t)
	came[schemas.Tally](t)
	came[schemas.Manifest](t)
}

// came fails the test if not each value of a type came once, as its coder makes it.
func came[T any](t *testing.T) {
	t.Helper()
	lost := 0
	for i := range travellers {
		was := traveller[T](i)
		is, ok := arrived.Load(fmt.Sprintf("%T/%d/0", was, i))
		if !ok {
			lost++
			continue
		}
		if diff := cmp.Diff(throughCoder(t, was), is); diff != "" {
			t.Fatalf("%T %d: %s", was, i, diff)
		}
		if _, twice := arrived.Load(fmt.Sprintf("%T/%d/1", was, i)); twice {
			t.Errorf("%T %d came twice", was, i)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d values of %T were lost", lost, travellers, *new(T))
	}
}

// These tests need the tools that `make flink` installs.

// flinkLib is the folder of the jars of Beam's job server and of an embedded Flink.
const flinkLib = "flink/lib"

// installed returns the path of something that the Makefile installs.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", ".bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: make flink and make flink-cluster install it", err)
	}
	return path
}

// javaPatience bounds how long a Java program may take until it serves.
const javaPatience = 2 * time.Minute

// java starts a class of the jars in lib, in a process group of its own that ends with the test,
// at any point of its start. For each mark the program logs a line with, it returns the word
// that follows there.
func java(t *testing.T, env, marks []string, lib string, args ...string) (*process, []string) {
	t.Helper()
	var all []string
	for _, open := range []string{
		"java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text", "java.time",
		"java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks",
	} {
		all = append(all, "--add-opens=java.base/"+open+"=ALL-UNNAMED")
	}
	cmd := exec.Command("java", slices.Concat(all, []string{"-cp", installed(t, lib) + "/*"}, args)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := launch(t, cmd)
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	})
	words := make([]string, len(marks))
	within(t, javaPatience, fmt.Sprintf("java logs %q", marks), func() bool {
		if !p.alive() {
			t.Fatalf("it ended before it served:\n%s", p.logged())
		}
		said := p.logged()
		for i, mark := range marks {
			if _, rest, ok := strings.Cut(said, mark); ok && strings.Contains(rest, "\n") {
				words[i] = strings.Fields(rest)[0]
			}
		}
		return !slices.Contains(words, "")
	})
	return p, words
}

func (p *process) logged() string { return p.stdout.String() + p.stderr.String() }

// jobServer starts Beam's job server for a Flink, "[local]" for one within it, and returns its address.
func jobServer(t *testing.T, master string) string {
	t.Helper()
	_, at := java(t, nil, []string{"JobService started on "}, flinkLib,
		"-Xmx1500m", "org.apache.beam.runners.flink.FlinkJobServerDriver", "--flink-master", master,
		"--job-port", "0", "--artifact-port", "0", "--expansion-port", "0", "--artifacts-dir", t.TempDir())
	return at[0]
}

// The same prompts make the same files on every runner, with any parallelism.
func TestFlinkEmbedded(t *testing.T) {
	prompts := mixed(t, 498)
	w := newWorker(t, simulator.Options{World: uneven()})
	run := func(flags ...string) map[string]string {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		complete(t, append(runOf(w.URL, prompts, out, "--set", "output.prompts_per_shard=20", "--"), flags...)...)
		proved(t, out)
		return files(t, out)
	}
	wanted := run()
	if diff := cmp.Diff(wanted, run("--runner=direct")); diff != "" {
		t.Errorf("direct: files differ from those of prism: %s", diff)
	}
	server := jobServer(t, "[local]")
	for _, parallelism := range []string{"1", "2", "4"} {
		got := run("--runner=flink", "--endpoint="+server, "--environment_type=LOOPBACK", "--parallelism="+parallelism)
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("Flink, parallelism %s: files differ from those of prism: %s", parallelism, diff)
		}
	}
}

// A killed submitting program is gone on with by the same command.
func TestFlinkEmbeddedKilled(t *testing.T) {
	prompts := mixed(t, killedPrompts)
	_, wanted := undisturbed(t, prompts, killedRun)
	server := jobServer(t, "[local]")
	w := newWorker(t, slowly(simulator.Options{}))
	out := filepath.Join(t.TempDir(), "out")
	args := append(killedRun(w.URL, prompts, out), "--", "--runner=flink", "--endpoint="+server, "--environment_type=LOOPBACK", "--parallelism=2")
	killAt(t, w, 60, args)
	complete(t, args...)
	if diff := cmp.Diff(wanted, files(t, out)); diff != "" {
		t.Errorf("files differ from those of the undisturbed run: %s", diff)
	}
	if _, err := os.Stat(filepath.Join(out, "run.json")); err != nil {
		t.Error(err)
	}
}

// onProcesses are Beam's flags for workers that are processes of the cluster.
func onProcesses(t *testing.T, server string, parallelism int) []string {
	t.Helper()
	return []string{
		"--runner=flink", "--endpoint=" + server, "--environment_type=PROCESS",
		fmt.Sprintf(`--environment_config={"command":%q}`, installed(t, "worker.sh")), fmt.Sprint("--parallelism=", parallelism),
	}
}

// Workers of a cluster have an environment of their own. A key that is missing there ends the run
// with one sentence that names its variable, also when the submitting program has it.
func TestFlinkWorkersWithoutKey(t *testing.T) {
	w := newWorker(t, simulator.Options{APIKey: "right"})
	args := runOf(w.URL, promptFile(t, 3), filepath.Join(t.TempDir(), "out"),
		"--set", "shared_storage=true", "--set", "worker.api_key_env=COEVAL_TEST_KEY", "--")
	p := begin(t, []string{"COEVAL_TEST_KEY=right"}, append(args, onProcesses(t, jobServer(t, "[local]"), 1)...)...)
	within(t, javaPatience, "the program ends", func() bool { return !p.alive() })
	said := strings.TrimSpace(p.stderr.String())
	if code := p.cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	lines := strings.Split(said, "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "api_key_env names the environment variable COEVAL_TEST_KEY, which is not set") || len(lines) > 3 {
		t.Errorf("it does not say in a sentence which variable is missing:\n%s", said)
	}
	if n := w.Stats().Requests; n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
