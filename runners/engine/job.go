package engine

import (
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
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/gcpopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	// reachTime bounds the wait for a job server's first sign of life.
	reachTime = 10 * time.Second
	// submitTime bounds the answer to the submission, whatever becomes of the run meanwhile.
	submitTime = time.Minute
	// cancelTime bounds the cancelling of a job, and the wait for its end.
	cancelTime = 30 * time.Second
)

// remote says whether the job is one of a job server, which goes on when this program ends.
func remote() bool {
	switch Runner() {
	case "direct", "dot", "dataflow":
		return false
	}
	return flagOf("endpoint") != ""
}

// Run runs the pipeline to its end. When ctx ends before that, the job is cancelled where it runs,
// and where that fails the error has a [*Uncancelled] in it.
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

// Uncancelled says that a job goes on though its run has ended.
type Uncancelled struct{ why string }

func (u *Uncancelled) Error() string { return u.why }

func uncancelled(what, where string, err error) error {
	return &Uncancelled{fmt.Sprintf("%s could not be cancelled: its workers stop by themselves when they see that the run has ended, but cancel it %s (%s)", what, where, oneLine(err))}
}

// job is what a job server was given.
type job struct {
	endpoint string

	mu sync.Mutex
	id string
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
	if ctx.Err() != nil {
		return errors.Join(err, j.cancel())
	}
	return j.explain(err)
}

// dial connects to the job server, which has been reached before.
func (j *job) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+j.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)), grpc.WithUnaryInterceptor(j.note))
}

// note takes the job's ID from the answer to its submission. That is waited for also when the
// run is stopped just then: else nobody knew of the job.
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

// cancel cancels the job and returns when it has ended, or nothing was submitted.
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
		switch is.GetState() {
		case jobpb.JobState_CANCELLED, jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED:
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it is still %s after %s", is.GetState(), cancelTime)
		}
	}
}

// refused is the error of a job that a job server did not take.
type refused struct{ why string }

func (r *refused) Error() string { return r.why }

// explain tells a job that was not taken from one that failed. The job API has no call that tells
// a server's version, so that a wrong one shows by what it refuses.
func (j *job) explain(err error) error {
	if err == nil {
		return nil
	}
	for _, step := range []string{"job failed to prepare", "failed to submit job", "failed to stage artifacts", "unexpected job update"} {
		if strings.Contains(err.Error(), step) {
			return &refused{fmt.Sprintf("the job server at --endpoint=%s did not take the job: %s (%s); this program is made with Beam %s, and a job server of that version takes its jobs",
				j.endpoint, step, oneLine(Cause(err)), beamcore.SdkVersion)}
		}
	}
	return err
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// Reach returns an error when no job server answers where Beam's flags say.
func Reach(ctx context.Context) (err error) {
	if !remote() {
		return nil
	}
	j := &job{endpoint: flagOf("endpoint")}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := knock(ctx, j.endpoint); err != nil {
		return err
	}
	cc, err := j.dial()
	if err != nil {
		return fmt.Errorf("--endpoint=%s: %w", j.endpoint, err)
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	_, err = jobpb.NewJobServiceClient(cc).DescribePipelineOptions(ctx, &jobpb.DescribePipelineOptionsRequest{})
	said := status.Convert(err)
	switch {
	case err == nil, said.Code() == codes.Unimplemented && !strings.Contains(said.Message(), "unknown service"):
		return nil // some servers lack this call, and no more
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	}
	return fmt.Errorf("what answers at --endpoint=%s is no Beam job server of a version that this program knows (Beam %s): give the address of its job port, 8099 if it was not set (%s: %s)",
		j.endpoint, beamcore.SdkVersion, said.Code(), oneLine(errors.New(said.Message())))
}

// runDataflow runs the job on Dataflow. Beam's runner there takes no notice of the context.
func runDataflow(ctx context.Context, p *beam.Pipeline) error {
	if *jobopts.JobName == "" { // Beam's own is another each time that it is asked for
		*jobopts.JobName = fmt.Sprintf("coeval-%d", time.Now().UnixNano())
	}
	ended := make(chan struct{})
	var cancelled sync.WaitGroup
	var cancelErr error
	cancelled.Go(func() {
		select {
		case <-ended:
		case <-ctx.Done():
			cancelErr = cancelDataflow(ended, dataflowJob{
				project: gcpopts.GetProjectFromFlagOrEnvironment(context.Background()), region: gcpopts.GetRegion(context.Background()),
				endpoint: flagOf("dataflow_endpoint"), name: *jobopts.JobName,
			})
		}
	})
	_, err := beamx.RunWithMetrics(ctx, p)
	close(ended)
	cancelled.Wait()
	return errors.Join(err, cancelErr)
}

// dataflowJob is where a job of Dataflow is found.
type dataflowJob struct{ project, region, endpoint, name string }

// lookAgain is how often a job that is being submitted is looked for.
var lookAgain = 5 * time.Second

// cancelDataflow cancels a job as soon as Dataflow knows it, unless it ends before.
func cancelDataflow(ended <-chan struct{}, j dataflowJob) error {
	ctx := context.Background()
	client, err := dataflowlib.NewClient(ctx, j.endpoint)
	for err == nil {
		var found *df.Job
		if found, err = dataflowlib.GetRunningJobByName(client, j.project, j.region, j.name); err == nil {
			_, err = client.Projects.Locations.Jobs.Update(j.project, j.region, found.Id, &df.Job{RequestedState: "JOB_STATE_CANCELLED"}).Context(ctx).Do()
			break
		}
		if !strings.Contains(err.Error(), "Unable to find") {
			break
		}
		select {
		case <-ended:
			return nil
		case <-time.After(lookAgain):
			err = nil
		}
	}
	if err != nil {
		return uncancelled("the Dataflow job "+j.name, "with `gcloud dataflow jobs cancel`", err)
	}
	return nil
}
