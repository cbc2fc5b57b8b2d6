package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	beamcore "github.com/apache/beam/sdks/v2/go/pkg/beam/core"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Bounds of the waiting for runners.
var (
	// reachTime bounds the connection to a job server, answerTime its first answer.
	reachTime  = 10 * time.Second
	answerTime = time.Minute
	// submitTime bounds the answer to the submission, even if the run is stopped meanwhile.
	submitTime = time.Minute
	// cancelTime bounds the cancelling of a job, and the wait for its end.
	cancelTime = 30 * time.Second
	// goneTime is how long an unreachable job server is asked again before its job counts as lost.
	goneTime = 2 * time.Minute
	// requestTime bounds one request for a job's state.
	requestTime = 20 * time.Second
	// askAgain is the time between two requests for a job's state.
	askAgain = time.Second
)

// remote reports whether a job server runs the job, which then outlives this program.
func remote() bool {
	switch Runner() {
	case "direct", "dot", "dataflow":
		return false
	}
	return flagOf("endpoint") != ""
}

// Run runs the pipeline to its end. If ctx ends first, Run cancels the job; if that fails, the error
// wraps an [*Uncancelled].
func Run(ctx context.Context, p *beam.Pipeline) error {
	var err error
	switch {
	case Runner() == "dataflow" && !DryRun():
		err = runDataflow(ctx, p)
	case remote():
		err = runRemote(ctx, p, flagOf("endpoint"))
	default:
		_, err = beamx.RunWithMetrics(ctx, p)
	}
	return err
}

// Uncancelled is the error of a job that may still run although its run has ended.
type Uncancelled struct{ why string }

func (u *Uncancelled) Error() string { return u.why }

func uncancelled(what, where string, err error) error {
	return &Uncancelled{fmt.Sprintf("%s could not be cancelled: its workers will stop when they notice that the run has ended. Cancel it %s (%s)", what, where, oneLine(err))}
}

// job is a job on a job server.
type job struct {
	endpoint string

	mu    sync.Mutex
	id    string
	state jobpb.JobState_Enum
	lost  error // why its state is unknown
}

func runRemote(ctx context.Context, p *beam.Pipeline, endpoint string) error {
	j := &job{endpoint: endpoint}
	dial := grpcx.Dial
	grpcx.Dial = func(ctx context.Context, to string, timeout time.Duration) (*grpc.ClientConn, error) {
		if to != endpoint {
			return dial(ctx, to, timeout)
		}
		return j.dial()
	}
	defer func() { grpcx.Dial = dial }()
	_, err := beamx.RunWithMetrics(ctx, p)
	if ctx.Err() != nil && !j.ended() {
		return errors.Join(err, j.cancel())
	}
	return j.verdict(err)
}

// verdict returns the result of a run whose runner returned err: nil only if the job is done. It cancels
// a job that may still run.
func (j *job) verdict(err error) error {
	j.mu.Lock()
	id, state, lost := j.id, j.state, j.lost
	j.mu.Unlock()
	switch {
	case id != "" && state == jobpb.JobState_DONE:
		return nil // even if its metrics are missing
	case lost != nil:
		return errors.Join(lost, j.cancel())
	case id != "" && !hasEnded(state):
		return errors.Join(cmp.Or(j.explain(err), error(&explainedError{fmt.Sprintf("the state of job %s at %s is unknown", id, j.endpoint)})), j.cancel())
	case id != "" && err == nil:
		return notDone("the job "+id+" at "+j.endpoint, state.String())
	}
	return j.explain(err)
}

func notDone(what, state string) error {
	return &explainedError{fmt.Sprintf("%s ended %s, not DONE: the run is not complete. All answers so far are in the journal; run the same command to continue", what, strings.TrimPrefix(state, "JOB_STATE_"))}
}

func hasEnded(state jobpb.JobState_Enum) bool {
	switch state {
	case jobpb.JobState_CANCELLED, jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED:
		return true
	}
	return false
}

func (j *job) saw(state jobpb.JobState_Enum) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !hasEnded(j.state) { // a reopened stream repeats old states
		j.state = state
	}
}

func (j *job) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return hasEnded(j.state)
}

// dial connects to the job server.
func (j *job) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+j.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), grpc.WithUnaryInterceptor(j.note), grpc.WithStreamInterceptor(j.follow))
}

// note keeps the job's ID from the answer to its submission. It waits for that answer even if the run is
// stopped meanwhile, because a job without a known ID can't be cancelled.
func (j *job) note(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	submitted, ok := reply.(*jobpb.RunJobResponse)
	if !ok {
		return invoke(ctx, method, request, reply, cc, o...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTime)
	defer cancel()
	err := invoke(ctx, method, request, reply, cc, o...)
	if err == nil {
		j.mu.Lock()
		j.id = submitted.GetJobId()
		j.mu.Unlock()
	}
	return err
}

// follow wraps the stream of a job's messages so that it lasts until the job has ended, across broken
// connections. Beam would take the end of the stream for the end of the job.
func (j *job) follow(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	if desc.StreamName != "GetMessageStream" {
		return open(ctx, desc, cc, method, o...)
	}
	return &messages{job: j, ctx: ctx, client: jobpb.NewJobServiceClient(cc), open: func() (grpc.ClientStream, error) {
		return open(ctx, desc, cc, method, o...)
	}}, nil
}

// messages is the stream of a job's messages and states, which reconnects.
type messages struct {
	grpc.ClientStream // nil before the first message and after a break

	job     *job
	ctx     context.Context
	client  jobpb.JobServiceClient
	open    func() (grpc.ClientStream, error)
	request any
}

// SendMsg keeps the request for every time the stream is opened.
func (m *messages) SendMsg(request any) error {
	m.request = request
	return nil
}

// CloseSend is a no-op: the stream has one request.
func (m *messages) CloseSend() error { return nil }

// RecvMsg returns the next message. If the stream breaks before the job has ended, it polls the job's
// state, and returns a final state as the next message.
func (m *messages) RecvMsg(reply any) error {
	for {
		err := m.receive(reply)
		message, ok := reply.(*jobpb.JobMessagesResponse)
		if err == nil {
			if state := message.GetStateResponse(); ok && state != nil {
				m.job.saw(state.GetState())
			}
			return nil
		}
		m.ClientStream = nil
		if !ok || m.job.ended() || m.ctx.Err() != nil {
			return err
		}
		state, lost := m.job.ask(m.ctx, m.client)
		if lost != nil {
			return lost
		}
		if m.job.saw(state); hasEnded(state) {
			message.Response = &jobpb.JobMessagesResponse_StateResponse{StateResponse: &jobpb.JobStateEvent{State: state}}
			return nil
		}
	}
}

func (m *messages) receive(reply any) error {
	if m.ClientStream == nil {
		stream, err := m.open()
		if err == nil {
			err = errors.Join(stream.SendMsg(m.request), stream.CloseSend())
		}
		if err != nil {
			return err
		}
		m.ClientStream = stream
	}
	return m.ClientStream.RecvMsg(reply)
}

// ask polls the job's state. If the job server does not answer for goneTime, the job is lost.
func (j *job) ask(ctx context.Context, client jobpb.JobServiceClient) (jobpb.JobState_Enum, error) {
	lose := func(why string, err error) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.lost = &explainedError{fmt.Sprintf("the job server at --endpoint=%s %s (%s), so that the job %s may continue without this program. Check in the runner's own pages that it has ended, then run the same command again: no paid answer is lost",
			j.endpoint, why, oneLine(err), j.id)}
		return j.lost
	}
	for deadline := time.Now().Add(goneTime); ; {
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		limited, cancel := context.WithTimeout(ctx, requestTime)
		is, err := client.GetState(limited, &jobpb.GetJobStateRequest{JobId: j.id})
		cancel()
		switch {
		case err == nil:
			return is.GetState(), nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case status.Code(err) == codes.NotFound:
			return 0, lose("no longer knows its job, as after a restart", err)
		case !time.Now().Before(deadline):
			return 0, lose(fmt.Sprintf("has not answered for %s", goneTime), err)
		}
	}
}

// cancel cancels the job and waits for its end. Without a submitted job it is a no-op.
func (j *job) cancel() (err error) {
	j.mu.Lock()
	id := j.id
	j.mu.Unlock()
	if id == "" {
		return nil
	}
	defer func() {
		if err != nil {
			err = uncancelled("the job "+id, "at "+j.endpoint, err)
		}
	}()
	ctx, done := context.WithTimeout(context.Background(), cancelTime)
	defer done()
	cc, err := j.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	client := jobpb.NewJobServiceClient(cc)
	if _, err := client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: id}); err != nil {
		return err
	}
	for {
		is, err := client.GetState(ctx, &jobpb.GetJobStateRequest{JobId: id})
		if err != nil {
			return err
		}
		if hasEnded(is.GetState()) {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it is still %s after %s", is.GetState(), cancelTime)
		}
	}
}

// explainedError is an error that needs no further explanation.
type explainedError struct{ why string }

func (t *explainedError) Error() string { return t.why }

// explain replaces the error of a job that the server refused. The job API has no call for the server's
// version: a wrong version shows only in a refusal.
func (j *job) explain(err error) error {
	if err == nil {
		return nil
	}
	for _, step := range []string{"job failed to prepare", "failed to submit job", "failed to stage artifacts", "unexpected job update"} {
		if strings.Contains(err.Error(), step) {
			return &explainedError{fmt.Sprintf("the job server at --endpoint=%s refused the job: %s (%s). Use a job server of Beam %s, the version of this program",
				j.endpoint, step, oneLine(Cause(err)), beamcore.SdkVersion)}
		}
	}
	return err
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Reach returns an error if no job server answers at the address in Beam's flags, or if Dataflow accepts
// no jobs there.
func Reach(ctx context.Context) (err error) {
	if Runner() == "dataflow" && !DryRun() {
		return dataflowHere().reach(ctx)
	}
	if !remote() {
		return nil
	}
	j := &job{endpoint: flagOf("endpoint")}
	knocking, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := knock(knocking, j.endpoint); err != nil {
		return err
	}
	cc, err := j.dial()
	if err != nil {
		return fmt.Errorf("--endpoint=%s: %w", j.endpoint, err)
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	limited, done := context.WithTimeout(ctx, answerTime)
	defer done()
	_, err = jobpb.NewJobServiceClient(cc).DescribePipelineOptions(limited, &jobpb.DescribePipelineOptionsRequest{})
	said := status.Convert(err)
	switch {
	case err == nil, said.Code() == codes.Unimplemented && !strings.Contains(said.Message(), "unknown service"):
		return nil // some job servers lack this call
	case ctx.Err() != nil:
		return ctx.Err()
	case said.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("the server at --endpoint=%s accepted a request and did not answer for %s. If it is the job server, it is overloaded: try again later", j.endpoint, answerTime)
	}
	return fmt.Errorf("the server at --endpoint=%s is not a Beam job server of a known version (Beam %s). Give the address of its job port, by default 8099 (%s: %s)",
		j.endpoint, beamcore.SdkVersion, said.Code(), oneLine(errors.New(said.Message())))
}
