//go:build flink

package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"coeval/runners/engine"
	"coeval/schemas"
	_ "coeval/transforms/coders"
	"coeval/transforms/infer/simulator"
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
	fill(reflect.ValueOf(&v).Elem(), i%3)
	return v
}

func fill(v reflect.Value, entries int) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, entries)
		}
	case reflect.Pointer:
		if entries > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), entries)
		}
	case reflect.Slice:
		if entries > 0 {
			v.Set(reflect.MakeSlice(v.Type(), entries-1, entries-1))
		}
		for i := range v.Len() {
			fill(v.Index(i), entries)
		}
	case reflect.Map:
		if entries > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		if entries > 1 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, entries)
			fill(value, entries)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString("ä 😀")
	}
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

// arrived holds what came through the shuffle: with LOOPBACK the worker is this process.
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
	server := jobServer(t)
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

// came fails the test if not each value of a type came once, as it was.
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
		if diff := cmp.Diff(was, is, cmpopts.EquateEmpty()); diff != "" {
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

// These tests need what `make flink` installs.

// flinkLib is the folder of Flink's jars.
const flinkLib = "../../.bin/flink/lib"

// jobServer starts Beam's job server with an embedded Flink and returns its address.
func jobServer(t *testing.T) string {
	t.Helper()
	lib, err := filepath.Abs(flinkLib)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-Xmx1500m"}
	for _, open := range []string{"java.lang", "java.util", "java.nio", "sun.nio.ch", "java.util.concurrent"} {
		args = append(args, "--add-opens=java.base/"+open+"=ALL-UNNAMED")
	}
	args = append(args, "-cp", lib+"/*", "org.apache.beam.runners.flink.FlinkJobServerDriver", "--flink-master", "[local]",
		"--job-port", "0", "--artifact-port", "0", "--expansion-port", "0", "--artifacts-dir", t.TempDir())
	cmd := exec.Command("java", args...)
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), "JobService started on "); ok {
				address <- strings.TrimSpace(at)
			}
		}
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	select {
	case at := <-address:
		return at
	case <-ended:
		t.Fatal("the job server ended before it served; does `make flink` install into .bin/?")
	case <-time.After(2 * time.Minute):
		t.Fatal("the job server said nothing for two minutes")
	}
	return ""
}

// The same prompts make the same files on every runner, whatever the parallelism.
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
	server := jobServer(t)
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
	server := jobServer(t)
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
