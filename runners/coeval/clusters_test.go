package main

import (
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/google/go-cmp/cmp"
	df "google.golang.org/api/dataflow/v1b3"

	"coeval/datasets/store/storetest"
	"coeval/runners/engine/enginetest"
	"coeval/transforms/simulator"
)

var update = flag.Bool("golden", false, "write the golden files and docs/reference/cli.md anew") // -update is Beam's

// bucketWithPrompts serves a gs:// with n prompts in gs://bucket/prompts.jsonl.
func bucketWithPrompts(t *testing.T, n int) (storetest.Environment, *storetest.Bucket) {
	t.Helper()
	env, b := storetest.GCSBucket(t, nil)
	prompts, err := os.ReadFile(promptFile(t, n))
	if err != nil {
		t.Fatal(err)
	}
	b.Put(t, "prompts.jsonl", prompts)
	return env, b
}

// Dataflow runs the steps between two shuffles in one process. None may lie between the
// reading of a bucket and the selection of the judge's pairs but the one by which the weights
// of the whole run are summed, which is a side input.
func TestDataflowDryRun(t *testing.T) {
	t.Parallel()
	env, b := bucketWithPrompts(t, 3)
	w := newWorker(t, simulator.Options{})
	got := want(t, env.List(), append(runOf(w.URL, "gs://bucket/prompts.jsonl", cloudOut),
		"--", "--runner=dataflow", "--dry_run", "--project=p", "--region=us-central1", "--staging_location=gs://bucket/staging")...)
	golden := filepath.Join("testdata", "dataflow.golden.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wanted), got); diff != "" {
		t.Errorf("the translated graph is another (-want +got), see -golden:\n%s", diff)
	}
	if n := w.Stats().Requests; n != 0 {
		t.Errorf("a dry run made %d requests", n)
	}
	if got := slices.Collect(func(yield func(string) bool) {
		for name := range b.Objects(t, "runs/") {
			if !yield(name) {
				return
			}
		}
	}); len(got) != 0 {
		t.Errorf("a dry run wrote %v", got)
	}

	// From the selection of the judge's pairs back along the data: nothing is shuffled until the
	// buckets are.
	takes := map[string][]string{}
	for line := range strings.Lines(got) {
		step, from, _ := strings.Cut(strings.TrimSpace(line), " <- ")
		takes[strings.TrimSuffix(step, " [shuffle]")] = strings.Split(from, ", ")
	}
	path := []string{}
	for step := stepNamed(t, takes, "judgePairsFn"); ; {
		path = append(path, step)
		if strings.Contains(step, "infer.RunStages") && strings.HasSuffix(step, "findFn") {
			break
		}
		from := slices.DeleteFunc(slices.Clone(takes[step]), func(s string) bool { return strings.Contains(s, "PositionCounts") })
		if len(from) != 1 || len(path) > len(takes) {
			t.Fatalf("%s takes from %v; the line from the findings breaks there, after %v", step, from, path)
		}
		step = from[0]
	}
	for _, step := range path {
		if strings.Contains(got, step+" [shuffle]") {
			t.Errorf("%s lies between the findings and the judge's pairs", step)
		}
	}
}

// transform finds the transforms that have a spec in a pipeline's text: their names and URNs.
var transform = regexp.MustCompile(`unique_name:\s*"([^"]+)"\s+spec:\s*\{\s*urn:\s*"([^"]+)"`)

// The job that Dataflow is sent has no steps of its own: with Runner v2 it runs the pipeline that
// pipelineUrl names. Both are logged in a dry run: that pipeline has the steps and shuffles of the
// summary, and no shuffle beside them, and the job has the values of Beam's flags.
func TestDataflowJob(t *testing.T) {
	t.Parallel()
	env, _ := bucketWithPrompts(t, 3)
	p := begin(t, env.List(), append(runOf("http://127.0.0.1:1/v1", "gs://bucket/prompts.jsonl", cloudOut, "--verbose"),
		"--", "--runner=dataflow", "--dry_run", "--project=p", "--region=us-central1", "--staging_location=gs://bucket/staging", "--num_workers=2",
		"--autoscaling_algorithm=NONE", "--worker_machine_type=n2-standard-2", "--service_account_email=coeval@p.iam.gserviceaccount.com",
		"--subnetwork=regions/us-central1/subnetworks/s", "--no_use_public_ips")...)
	if code := p.wait(t); code != exitDone {
		t.Fatalf("exit code %d\n%s", code, p.stderr.String())
	}
	var model string
	var job df.Job
	for line := range strings.Lines(p.stderr.String()) {
		_, quoted, _ := strings.Cut(strings.TrimSpace(line), " msg=")
		switch said, err := strconv.Unquote(quoted); {
		case err != nil:
		case strings.HasPrefix(said, "components:"):
			model = said
		case strings.HasPrefix(said, "{"):
			if err := json.Unmarshal([]byte(said), &job); err != nil {
				t.Fatal(err)
			}
		}
	}

	steps, shuffles := map[string]bool{}, map[string]bool{}
	for _, found := range transform.FindAllStringSubmatch(model, -1) {
		steps[found[1]] = true
		if found[2] == graphx.URNGBK {
			shuffles[found[1]] = true
		}
	}
	wantShuffles := map[string]bool{}
	for line := range strings.Lines(p.stdout.String()) {
		step, _, _ := strings.Cut(strings.TrimSpace(line), " <- ")
		step, shuffle := strings.CutSuffix(step, " [shuffle]")
		if shuffle {
			wantShuffles[step] = true
		}
		if !steps[step] {
			t.Errorf("the pipeline that Dataflow is given has no step %s", step)
		}
	}
	if diff := cmp.Diff(wantShuffles, shuffles); diff != "" || len(shuffles) == 0 {
		t.Errorf("shuffles of the pipeline that Dataflow is given: %s", diff)
	}

	checkDataflowJob(t, &job)
}

// checkDataflowJob compares a job with the flags of TestDataflowJob.
func checkDataflowJob(t *testing.T, job *df.Job) {
	t.Helper()
	if job.Type != "JOB_TYPE_BATCH" || job.ProjectId != "p" || len(job.Steps) != 0 || job.Environment == nil || len(job.Environment.WorkerPools) != 1 {
		t.Fatalf("job %s of %s with %d steps and environment %+v", job.Type, job.ProjectId, len(job.Steps), job.Environment)
	}
	for _, experiment := range []string{"use_runner_v2", "use_portable_job_submission"} {
		if !slices.Contains(job.Environment.Experiments, experiment) {
			t.Errorf("experiments %v, without %s the pipeline is not what is run", job.Environment.Experiments, experiment)
		}
	}
	var given struct {
		Options struct{ PipelineURL, Region, TempLocation string } `json:"options"`
	}
	if err := json.Unmarshal(job.Environment.SdkPipelineOptions, &given); err != nil {
		t.Fatal(err)
	}
	if o := given.Options; o.Region != "us-central1" || !strings.HasPrefix(o.PipelineURL, "gs://bucket/staging/") || !strings.HasPrefix(o.TempLocation, "gs://bucket/staging") {
		t.Errorf("options %+v", o)
	}
	if got, want := job.Environment.ServiceAccountEmail, "coeval@p.iam.gserviceaccount.com"; got != want {
		t.Errorf("service account %s, want %s", got, want)
	}
	pool := job.Environment.WorkerPools[0]
	pool.SdkHarnessContainerImages, pool.WorkerHarnessContainerImage = nil, "" // Beam's, of its version
	if len(pool.Packages) != 1 || pool.Packages[0].Name != "worker" || !strings.HasPrefix(pool.Packages[0].Location, "gs://bucket/staging/") {
		t.Errorf("packages %+v", pool.Packages)
	}
	pool.Packages = nil
	if diff := cmp.Diff(&df.WorkerPool{
		AutoscalingSettings: &df.AutoscalingSettings{Algorithm: "AUTOSCALING_ALGORITHM_NONE"}, IpConfiguration: "WORKER_IP_PRIVATE",
		Kind: "harness", MachineType: "n2-standard-2", NumWorkers: 2, Subnetwork: "regions/us-central1/subnetworks/s",
	}, pool); diff != "" {
		t.Errorf("workers: %s", diff)
	}
}

// stepNamed returns the one step whose name ends so.
func stepNamed(t *testing.T, steps map[string][]string, ending string) string {
	t.Helper()
	var found []string
	for step := range steps {
		if strings.HasSuffix(step, ending) {
			found = append(found, step)
		}
	}
	if len(found) != 1 {
		t.Fatalf("steps that end in %s: %v, want one", ending, found)
	}
	return found[0]
}

// Settings that a cluster would refuse late, and paths that its workers could not reach, are refused at once.
func TestClustersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	prompts := promptFile(t, 2)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(http.NotFoundHandler()) // as Flink's own REST interface is one
	t.Cleanup(other.Close)
	noJobServer := other.Listener.Addr().String()
	dataflow := []string{"--runner=dataflow", "--project=p", "--region=us-central1", "--staging_location=gs://bucket/staging"}
	without := func(i int) []string { return slices.Delete(slices.Clone(dataflow), i, i+1) }
	local := filepath.Join(t.TempDir(), "out")
	tests := []struct {
		what, prompts, out string
		more               []string
		code               int
		want               string
	}{
		{"no project", "gs://b/p", cloudOut, append([]string{"--"}, without(1)...), exitUsage, "--runner=dataflow needs --project, "},
		{"no region", "gs://b/p", cloudOut, append([]string{"--"}, without(2)...), exitUsage, "--runner=dataflow needs --region, "},
		{"no staging", "gs://b/p", cloudOut, append([]string{"--"}, without(3)...), exitUsage, "--runner=dataflow needs --staging_location, "},
		{"local staging", "gs://b/p", cloudOut, append([]string{"--"}, append(without(3), "--staging_location=/tmp/x")...), exitUsage, `--staging_location is "/tmp/x"; allowed is gs://`},
		{"a zone", "gs://b/p", cloudOut, append([]string{"--"}, append(without(2), "--region=us-central1-a")...), exitUsage, `--region is "us-central1-a"; allowed is a region`},
		{"local output", "gs://b/p", local, append([]string{"--set", "shared_storage=true", "--"}, dataflow...), exitUsage, "allowed with --runner=dataflow is gs://BUCKET/FOLDER"},
		{"output on S3", "gs://b/p", "s3://b/out", append([]string{"--"}, dataflow...), exitUsage, "allowed with --runner=dataflow is gs://BUCKET/FOLDER"},
		{"local prompts", prompts, cloudOut, append([]string{"--"}, dataflow...), exitUsage, "prompts.paths[0] is"},
		{"no job server given", "gs://b/p", cloudOut, []string{"--", "--runner=flink"}, exitUsage, "--runner=flink needs --endpoint, "},
		{"local paths on Flink", prompts, "gs://b/o", []string{"--", "--runner=flink", "--endpoint=" + nobody}, exitUsage, "or shared_storage: true"},
		{"a relative path", prompts, "out", []string{"--set", "shared_storage=true", "--", "--runner=flink", "--endpoint=" + nobody}, exitUsage, `output.dir is "out"; allowed is an absolute path`},
		{"simulated worker", "gs://b/p", cloudOut, []string{"--simulate", "--", "--runner=flink", "--endpoint=" + nobody}, exitUsage, "simulate.enabled is true; allowed is false"},
		{"no job server", prompts, local, []string{"--", "--runner=flink", "--environment_type=LOOPBACK", "--endpoint=" + nobody}, exitFailed, "no job server answers at --endpoint=" + nobody},
		{"another server", prompts, local, []string{"--", "--runner=flink", "--environment_type=LOOPBACK", "--endpoint=" + noJobServer}, exitFailed, "the server at --endpoint=" + noJobServer + " is not a Beam job server of a known version"},
		{"no job server, NFS", prompts, local, []string{"--set", "shared_storage=true", "--", "--runner=flink", "--endpoint=" + nobody}, exitFailed, "no job server answers at --endpoint=" + nobody},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{})
			env := []string{"CLOUDSDK_CONFIG=" + t.TempDir(), "GOOGLE_CLOUD_PROJECT=", "CLOUDSDK_COMPUTE_REGION="}
			p := begin(t, env, runOf(w.URL, test.prompts, test.out, test.more...)...)
			code, said := p.wait(t), strings.TrimSpace(p.stderr.String())
			if code != test.code || !strings.Contains(said, test.want) || strings.Contains(said, "\n") {
				t.Errorf("exit code %d\n%s\nwant %d and one line with %q", code, said, test.code, test.want)
			}
			if n := w.Stats().Requests; n != 0 {
				t.Errorf("%d requests were made", n)
			}
		})
	}
}

// A region where Dataflow is not is refused in one line that names it, before anything is asked.
func TestNoSuchRegionOfDataflow(t *testing.T) {
	t.Parallel()
	env, b := bucketWithPrompts(t, 3)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1b3/projects/p/locations/us-central9/jobs", func(w http.ResponseWriter, _ *http.Request) {
		enginetest.Answer(w, http.StatusBadRequest, enginetest.WrongRegion)
	})
	endpoint, credentials := enginetest.Google(t, mux)
	w := newWorker(t, simulator.Options{})
	p := begin(t, append(env.List(), "GOOGLE_APPLICATION_CREDENTIALS="+credentials), append(runOf(w.URL, "gs://bucket/prompts.jsonl", cloudOut),
		"--", "--runner=dataflow", "--project=p", "--region=us-central9", "--staging_location=gs://bucket/staging", "--dataflow_endpoint="+endpoint)...)
	code, said := p.wait(t), strings.TrimSpace(p.stderr.String())
	if wanted := "--region=us-central9 of --project=p: Dataflow accepts no jobs there"; code != exitFailed || !strings.Contains(said, wanted) || strings.Contains(said, "\n") {
		t.Errorf("exit code %d\n%s\nwant %d and one line with %q", code, said, exitFailed, wanted)
	}
	if n, left := w.Stats().Requests, b.Objects(t, "runs/"); n != 0 || len(left) != 0 {
		t.Errorf("%d requests were made, and %d objects written", n, len(left))
	}
}

// A worker ends with the process that started it, since a runner ends that process alone: a worker that were
// left behind would ask for the same answers as its successor.
func TestWorkerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	runner, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, and says nothing for ever
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
	at := runner.Addr().String()
	boot := launch(t, exec.CommandContext(t.Context(), "sh", "-c", `"$@" & wait`, "boot",
		program, "--worker=true", "--id=1", "--logging_endpoint="+at, "--control_endpoint="+at))
	c, err := runner.Accept()
	if err != nil {
		t.Fatal(err)
	}
	boot.signal(t, os.Kill)
	// Both write to this process, whose wait for the first is over when the last has ended.
	eventually(t, "the worker ends", func() bool { return !boot.alive() })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
