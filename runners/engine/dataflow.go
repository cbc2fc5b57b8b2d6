package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/gcpopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/x/beamx"
	df "google.golang.org/api/dataflow/v1b3"
	"google.golang.org/api/googleapi"
)

// Times of requests to Dataflow.
var (
	// pollInterval is the time between two requests.
	pollInterval = 5 * time.Second
	// dataflowTime bounds the cancelling of a job, which Dataflow may not know yet, and the request for
	// its state.
	dataflowTime = 5 * time.Minute
)

// runDataflow runs the job on Dataflow. Beam's runner ignores the context and returns when the job has
// ended. runDataflow does not wait for it if the job could not be cancelled.
func runDataflow(ctx context.Context, p *beam.Pipeline) error {
	if *jobopts.JobName == "" { // Beam's default differs for each call
		*jobopts.JobName = fmt.Sprintf("coeval-%d", time.Now().UnixNano())
	}
	return dataflowHere().await(ctx, func() (id string, err error) {
		result, err := beamx.RunWithMetrics(context.WithoutCancel(ctx), p)
		if err != nil || flagOf("template_location") != "" { // no job was made
			return "", err
		}
		return result.JobID(), nil
	})
}

// dataflowJob is the address of a Dataflow job.
type dataflowJob struct{ project, region, endpoint, name string }

// dataflowHere returns the job of Beam's flags.
func dataflowHere() dataflowJob {
	return dataflowJob{
		project: gcpopts.GetProjectFromFlagOrEnvironment(context.Background()), region: gcpopts.GetRegion(context.Background()),
		endpoint: flagOf("dataflow_endpoint"), name: *jobopts.JobName,
	}
}

// reach returns an error if Dataflow would refuse the job's project or region. It lists the region's jobs
// to find out, which Google refuses for a region that does not exist.
func (j dataflowJob) reach(ctx context.Context) error {
	client, err := dataflowlib.NewClient(ctx, j.endpoint)
	if err != nil {
		return fmt.Errorf("no credentials for --runner=dataflow: set GOOGLE_APPLICATION_CREDENTIALS or run `gcloud auth application-default login` (%s)", oneLine(err))
	}
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err = repeat(limited, func(ctx context.Context) error {
		_, err := client.Projects.Locations.Jobs.List(j.project, j.region).Filter("ACTIVE").PageSize(1).Context(ctx).Do()
		return err
	})
	answer := (*googleapi.Error)(nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &answer) || !stays(answer.Code):
		return fmt.Errorf("--region=%s of --project=%s: Dataflow did not answer for %s (%s). Check the network and try again", j.region, j.project, answerTime, oneLine(err))
	case answer.Code == http.StatusUnauthorized, answer.Code == http.StatusForbidden:
		return fmt.Errorf("--project=%s: no permission to list its Dataflow jobs (%d: %s). Grant the role Dataflow Developer", j.project, answer.Code, oneLine(errors.New(answer.Message)))
	}
	return fmt.Errorf("--region=%s of --project=%s: Dataflow accepts no jobs there (%d: %s). Give a region of Dataflow, for example us-central1", j.region, j.project, answer.Code, oneLine(errors.New(answer.Message)))
}

// await waits for a job and returns nil if it is done. It cancels the job if ctx ends.
func (j dataflowJob) await(ctx context.Context, run func() (id string, err error)) error {
	var id string
	var err error
	ended := make(chan struct{})
	go func() { // outlives await if the job can't be cancelled; the program ends then
		defer close(ended)
		id, err = run()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		if err := j.cancel(ended); err != nil {
			return err
		}
		<-ended
	}
	if err != nil || id == "" {
		return err
	}
	return j.done(context.WithoutCancel(ctx), id)
}

// done returns an error if a job that has ended did not succeed.
func (j dataflowJob) done(ctx context.Context, id string) error {
	what := fmt.Sprintf("the Dataflow job %s (%s)", j.name, id)
	ctx, cancel := context.WithTimeout(ctx, dataflowTime)
	defer cancel()
	client, err := dataflowlib.NewClient(ctx, j.endpoint)
	var is *df.Job
	if err == nil {
		err = repeat(ctx, func(ctx context.Context) (err error) {
			is, err = client.Projects.Locations.Jobs.Get(j.project, j.region, id).Context(ctx).Do()
			return err
		})
	}
	switch {
	case err != nil:
		return &explainedError{fmt.Sprintf("%s has ended, but its result is unknown: %s", what, oneLine(err))}
	case is.CurrentState != "JOB_STATE_DONE":
		return notDone(what, is.CurrentState)
	}
	return nil
}

// cancel cancels a job as soon as Dataflow knows it, unless the job ends first.
func (j dataflowJob) cancel(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), dataflowTime)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	client, err := dataflowlib.NewClient(ctx, j.endpoint)
	if err == nil {
		err = repeat(ctx, func(ctx context.Context) error {
			id, err := j.find(ctx, client)
			if err == nil {
				_, err = client.Projects.Locations.Jobs.Update(j.project, j.region, id, &df.Job{RequestedState: "JOB_STATE_CANCELLED"}).Context(ctx).Do()
			}
			return err
		})
	}
	select {
	case <-ended:
		return nil
	default:
	}
	if err != nil {
		return uncancelled("the Dataflow job "+j.name, "with `gcloud dataflow jobs cancel`", err)
	}
	return nil
}

// errNoJob means that Dataflow does not know the job. It may be too new.
var errNoJob = errors.New("there is no active job of that name")

// find returns the ID of the active job of that name.
func (j dataflowJob) find(ctx context.Context, client *df.Service) (id string, err error) {
	err = client.Projects.Locations.Jobs.List(j.project, j.region).Filter("ACTIVE").Context(ctx).Pages(ctx, func(page *df.ListJobsResponse) error {
		for _, job := range page.Jobs {
			if job.Name == j.name {
				id = job.Id
			}
		}
		return nil
	})
	if err == nil && id == "" {
		err = errNoJob
	}
	return id, err
}

// repeat repeats a request to Google until it succeeds, fails for good, or ctx ends.
func repeat(ctx context.Context, ask func(context.Context) error) error {
	for {
		limited, cancel := context.WithTimeout(ctx, requestTime)
		err := ask(limited)
		cancel()
		if answer := (*googleapi.Error)(nil); err == nil || errors.As(err, &answer) && stays(answer.Code) {
			return err
		}
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return err
		}
	}
}

// stays reports whether a repeated request would get the same status.
func stays(code int) bool {
	return code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests
}
