package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coeval/datasets/lock"
	"coeval/runners/engine/enginetest"
	"coeval/transforms/simulator"
)

// jobService is a job server whose jobs run until they are cancelled, and do nothing.
type jobService struct {
	jobpb.UnimplementedJobServiceServer
	jobpb.UnimplementedArtifactStagingServiceServer

	endpoint string
	// refuses is its answer to a job that is prepared.
	refuses error

	mu        sync.Mutex
	submitted chan struct{} // closed with the first job
	cancelled []string
	ended     chan struct{} // closed when the job is cancelled
}

const jobID = "job-7"

// serveJobs starts a job server that ends with the test.
func serveJobs(t *testing.T, refuses error) *jobService {
	t.Helper()
	s := &jobService{refuses: refuses, submitted: make(chan struct{}), ended: make(chan struct{})}
	enginetest.Serve(t, func(server *grpc.Server, address string) {
		s.endpoint = address
		jobpb.RegisterJobServiceServer(server, s)
		jobpb.RegisterArtifactStagingServiceServer(server, s)
	})
	return s
}

func (s *jobService) Prepare(context.Context, *jobpb.PrepareJobRequest) (*jobpb.PrepareJobResponse, error) {
	return &jobpb.PrepareJobResponse{
		PreparationId: "preparation", StagingSessionToken: "token", ArtifactStagingEndpoint: &pipepb.ApiServiceDescriptor{Url: s.endpoint},
	}, s.refuses
}

// ReverseArtifactRetrievalService wants no artifact.
func (s *jobService) ReverseArtifactRetrievalService(jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer) error {
	return nil
}

func (s *jobService) Run(context.Context, *jobpb.RunJobRequest) (*jobpb.RunJobResponse, error) {
	close(s.submitted)
	return &jobpb.RunJobResponse{JobId: jobID}, nil
}

func (s *jobService) GetMessageStream(_ *jobpb.JobMessagesRequest, stream jobpb.JobService_GetMessageStreamServer) error {
	select {
	case <-stream.Context().Done():
	case <-s.ended:
	}
	return nil
}

func (s *jobService) Cancel(_ context.Context, r *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancelled = append(s.cancelled, r.GetJobId()); len(s.cancelled) == 1 {
		close(s.ended)
	}
	return &jobpb.CancelJobResponse{State: jobpb.JobState_CANCELLING}, nil
}

func (s *jobService) GetState(context.Context, *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	select {
	case <-s.ended:
		return &jobpb.JobStateEvent{State: jobpb.JobState_CANCELLED}, nil
	default:
		return &jobpb.JobStateEvent{State: jobpb.JobState_RUNNING}, nil
	}
}

func (s *jobService) flags() []string {
	return []string{"--", "--runner=flink", "--endpoint=" + s.endpoint, "--environment_type=PROCESS", `--environment_config={"command":"none"}`}
}

func (s *jobService) isCancelled(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cancelled) != 1 || s.cancelled[0] != jobID {
		t.Errorf("cancelled are %q, want %q", s.cancelled, jobID)
	}
}

// Ctrl-C ends the job of a cluster, whose workers see in the lock that their run has ended. The
// submitting program needs no API key for it: the workers do.
func TestInterruptedOnACluster(t *testing.T) {
	t.Parallel()
	s := serveJobs(t, nil)
	w := newWorker(t, simulator.Options{})
	out := filepath.Join(t.TempDir(), "out")
	args := runOf(w.URL, promptFile(t, 4), out, "--set", "shared_storage=true", "--set", "worker.api_key_env=COEVAL_TEST_KEY_OF_THE_WORKERS")
	p := begin(t, nil, append(args, s.flags()...)...)
	eventually(t, "the job is submitted", func() bool { return isClosed(s.submitted) || !p.alive() })
	if !isClosed(s.submitted) {
		t.Fatalf("nothing was submitted: %s", p.stderr.String())
	}
	var attempt string
	entries, err := os.ReadFile(filepath.Join(out, "operations", ".lock"))
	if err == nil {
		attempt = attemptOf(t, entries)
	}
	if err := lock.NewFence(out, attempt).Check(t.Context()); err != nil {
		t.Errorf("while the job runs its workers are told %v", err)
	}
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != exitFailed || !strings.Contains(p.stderr.String(), "run the same command: ") || strings.Contains(p.stderr.String(), "could not be cancelled") {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
	s.isCancelled(t)
	if err := lock.NewFence(out, attempt).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "was ended") {
		t.Errorf("workers that are left are told %v", err)
	}
}

func attemptOf(t *testing.T, lock []byte) string {
	t.Helper()
	var held struct {
		Attempt string `json:"attempt"`
	}
	if err := json.Unmarshal(lock, &held); err != nil || held.Attempt == "" {
		t.Fatalf("the lock holds %q, %v", lock, err)
	}
	return held.Attempt
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A run whose lease another takes ends its job too.
func TestTakenOverOnACluster(t *testing.T) {
	t.Parallel()
	s := serveJobs(t, nil)
	env, b := bucketWithPrompts(t, 4)
	w := newWorker(t, simulator.Options{})
	p := begin(t, env.List(), append(runOf(w.URL, "gs://bucket/prompts.jsonl", cloudOut), s.flags()...)...)
	eventually(t, "the job is submitted", func() bool { return isClosed(s.submitted) || !p.alive() })
	b.Put(t, "runs/out/operations/lease.json", []byte(`{"pid":1,"host":"elsewhere","since":"2026-01-01T00:00:00Z","attempt":"other","id":"other","released":false}`))
	if code := p.wait(t); code != exitFailed || !strings.Contains(p.stderr.String(), "another run (process 1 on elsewhere") {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
	s.isCancelled(t)
}

// A worker whose boot was gone before it began ends, and does not take another parent for it.
func TestWorkerOfABootThatIsGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // where nobody answers, so that it waits
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	at := l.Addr().String()
	p := begin(t, []string{"COEVAL_BOOT=" + strconv.Itoa(os.Getppid())}, "--worker=true", "--id=1", "--logging_endpoint="+at, "--control_endpoint="+at)
	eventually(t, "the worker ends", func() bool { return !p.alive() })
}

// A server at --endpoint that takes no job of this program is named in one line, before anything is
// asked.
func TestJobServersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler()) // as Flink's own address
	t.Cleanup(web.Close)
	other := grpc.NewServer()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- other.Serve(l) }()
	t.Cleanup(func() {
		other.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	old := serveJobs(t, status.Error(codes.Unknown, "java.lang.IllegalArgumentException: unknown coder\n\tat org.apache.beam.Old"))
	for _, test := range []struct{ what, endpoint, want string }{
		{"no job server but a page", strings.TrimPrefix(web.URL, "http://"), "is not a Beam job server of a known version (Beam 2.77.0). Give the address of its job port"},
		{"another service", l.Addr().String(), "is not a Beam job server of a known version (Beam 2.77.0). Give the address of its job port"},
		{"another version", old.endpoint, "refused the job: job failed to prepare (rpc error: code = Unknown desc = java.lang.IllegalArgumentException: unknown coder at org.apache.beam.Old). Use a job server of Beam 2.77.0"},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t, simulator.Options{})
			out := filepath.Join(t.TempDir(), "out")
			p := begin(t, nil, append(runOf(w.URL, promptFile(t, 2), out, "--set", "shared_storage=true"), (&jobService{endpoint: test.endpoint}).flags()...)...)
			began := time.Now()
			code, said := p.wait(t), strings.TrimSpace(p.stderr.String())
			said = strings.TrimPrefix(said, "Prompts: 2 prompts of 2 lines in 1 file, read from prompt (2)\n")
			said = strings.TrimPrefix(said, "flink runs the job; see its web pages for progress\n")
			if code != exitFailed || !strings.Contains(said, test.want) || !strings.Contains(said, test.endpoint) || strings.Contains(said, "\n") {
				t.Errorf("exit code %d after %s\n%s\nwant one line with %q", code, time.Since(began), said, test.want)
			}
			if n := w.Stats().Requests; n != 0 {
				t.Errorf("%d requests were made", n)
			}
		})
	}
}
