package engine

import (
	"context"
	"errors"
	"flag"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coeval/runners/engine/enginetest"
)

// jobService is a job server of one job. It breaks off the first message streams, and returns its
// states one after the other; the last one repeats.
type jobService struct {
	jobpb.UnimplementedJobServiceServer

	// breaks are the errors that end the first streams before any message; nil is an orderly end.
	breaks []error
	// GetState returns stateErr if it is set, otherwise the states in order.
	states   []jobpb.JobState_Enum
	stateErr error
	// silent is true if no call is answered.
	silent bool

	mu        sync.Mutex
	streams   int
	cancelled int
}

func (s *jobService) GetMessageStream(_ *jobpb.JobMessagesRequest, stream jobpb.JobService_GetMessageStreamServer) error {
	s.mu.Lock()
	n := s.streams
	s.streams++
	s.mu.Unlock()
	if n < len(s.breaks) {
		return s.breaks[n]
	}
	return stream.Send(&jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_StateResponse{
		StateResponse: &jobpb.JobStateEvent{State: s.states[len(s.states)-1]},
	}})
}

func (s *jobService) GetState(context.Context, *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stateErr != nil {
		return nil, s.stateErr
	}
	state := s.states[0]
	if len(s.states) > 1 {
		s.states = s.states[1:]
	}
	return &jobpb.JobStateEvent{State: state}, nil
}

func (s *jobService) Cancel(context.Context, *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled++
	if s.stateErr != nil {
		return nil, s.stateErr
	}
	s.states = []jobpb.JobState_Enum{jobpb.JobState_CANCELLED}
	return &jobpb.CancelJobResponse{}, nil
}

func (s *jobService) DescribePipelineOptions(ctx context.Context, _ *jobpb.DescribePipelineOptionsRequest) (*jobpb.DescribePipelineOptionsResponse, error) {
	if s.silent {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return &jobpb.DescribePipelineOptionsResponse{}, nil
}

// serve returns the service's address.
func serve(t *testing.T, s *jobService) (endpoint string) {
	t.Helper()
	return enginetest.Serve(t, func(server *grpc.Server, _ string) { jobpb.RegisterJobServiceServer(server, s) })
}

// shorten sets one of the package's times until the test ends.
func shorten(t *testing.T, which *time.Duration, to time.Duration) {
	t.Helper()
	was := *which
	*which = to
	t.Cleanup(func() { *which = was })
}

// If its message stream breaks off, a job is polled until its state is DONE.
func TestFollowedJobs(t *testing.T) {
	shorten(t, &askAgain, time.Millisecond)
	shorten(t, &goneTime, 20*time.Millisecond)
	const (
		running   = jobpb.JobState_RUNNING
		done      = jobpb.JobState_DONE
		cancelled = jobpb.JobState_CANCELLED
		failed    = jobpb.JobState_FAILED
	)
	broken := status.Error(codes.Unavailable, "the connection is gone")
	for _, test := range []struct {
		what      string
		server    *jobService
		want      string
		cancelled int
	}{
		{"undisturbed", &jobService{states: []jobpb.JobState_Enum{done}}, "", 0},
		{"broken once", &jobService{breaks: []error{broken}, states: []jobpb.JobState_Enum{running, done}}, "", 0},
		{"ended before the job, again and again", &jobService{breaks: make([]error, 9), states: []jobpb.JobState_Enum{running, running, done}}, "", 0},
		{"cancelled", &jobService{states: []jobpb.JobState_Enum{cancelled}}, "ended CANCELLED, not DONE", 0},
		{"cancelled meanwhile", &jobService{breaks: []error{nil}, states: []jobpb.JobState_Enum{cancelled}}, "ended CANCELLED, not DONE", 0},
		{"failed meanwhile", &jobService{breaks: []error{broken}, states: []jobpb.JobState_Enum{running, failed}}, "failed", 0},
		{"drained", &jobService{breaks: []error{nil}, states: []jobpb.JobState_Enum{jobpb.JobState_DRAINED}}, "ended DRAINED, not DONE", 0},
		{"no answer", &jobService{breaks: []error{broken}, stateErr: broken}, "may continue without this program", 1},
		{"restarted", &jobService{breaks: []error{broken}, stateErr: status.Error(codes.NotFound, "no such job")}, "no longer knows its job", 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			if test.server.breaks != nil && len(test.server.states) > 0 && test.server.states[0] != running {
				test.server.breaks = make([]error, 1000) // only the state is known
			}
			j := &job{endpoint: serve(t, test.server), id: "job-1"}
			cc, err := j.dial()
			if err != nil {
				t.Fatal(err)
			}
			err = j.verdict(runnerlib.WaitForCompletion(t.Context(), jobpb.NewJobServiceClient(cc), "job-1"))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("it returns %v, want %q", err, test.want)
			}
			if u := (*Uncancelled)(nil); errors.As(err, &u) != (test.cancelled > 0) {
				t.Errorf("it returns %v", err)
			}
			if test.server.cancelled != test.cancelled {
				t.Errorf("cancelled %d times, want %d", test.server.cancelled, test.cancelled)
			}
			if err := cc.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A run that is stopped while it waits for an answer does not wait on.
func TestFollowedJobIsLeft(t *testing.T) {
	shorten(t, &askAgain, time.Millisecond)
	j := &job{endpoint: serve(t, &jobService{breaks: make([]error, 1), stateErr: status.Error(codes.Unavailable, "no")}), id: "job-1"}
	cc, err := j.dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := runnerlib.WaitForCompletion(ctx, jobpb.NewJobServiceClient(cc), "job-1"); err == nil {
		t.Error("it returns no error")
	}
	if err := cc.Close(); err != nil {
		t.Error(err)
	}
}

// A job server that is slow is not taken for something else.
func TestReachOfASlowJobServer(t *testing.T) {
	shorten(t, &answerTime, 50*time.Millisecond)
	for _, name := range []string{"runner", "endpoint"} {
		was := flagOf(name)
		t.Cleanup(func() {
			if err := flag.Set(name, was); err != nil {
				t.Error(err)
			}
		})
	}
	reach := func(s *jobService) error {
		if err := errors.Join(flag.Set("runner", "flink"), flag.Set("endpoint", serve(t, s))); err != nil {
			t.Fatal(err)
		}
		return Reach(t.Context())
	}
	if err := reach(&jobService{silent: true}); err == nil || !strings.Contains(err.Error(), "did not answer for 50ms") || strings.Contains(err.Error(), "is not a Beam job server") {
		t.Errorf("it returns %v", err)
	}
	shorten(t, &answerTime, time.Minute)
	if err := reach(&jobService{}); err != nil {
		t.Errorf("of a job server that answers: %v", err)
	}
}
