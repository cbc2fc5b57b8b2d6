// Package stage defines the steps of the method as pure functions of a dossier, and the calls that they
// make.
//
// A [Stage] advances one dossier. It requests generations from a [Caller], and has no access to a network,
// a journal or a runner. So the same stage runs against servers, against the journal when files are
// written, and in a plan, which sends no request. Packages of stages register a decoder under a name with
// [Register]. [Chain] then rebuilds stages from their [Spec]s in another process.
//
// Calls are keyed by their content: see [Call.Key]. The journal stores answers under these keys. So a
// change of any digest in this package makes every run request its answers again.
package stage

import (
	"context"

	"coeval/schemas"
)

// A Stage advances one dossier: it requests generations from c and adds its reading of them. Given
// the same generations it leaves the same dossier. It returns an error only when the run has to
// stop. A call that failed for good becomes a [schemas.Failure] in the dossier instead.
type Stage func(ctx context.Context, c Caller, d *schemas.Dossier) error

// A Caller gets generations from a fleet of servers, from the journal, or from both.
type Caller interface {
	// Do makes all calls concurrently and returns when the last one is done: replicate First + k of
	// calls[i] is at [i][k]. It returns an error only when the run has to stop.
	Do(ctx context.Context, calls []Call) ([][]schemas.Generation, error)
}

// Do makes the calls. It returns the cause of a cancelled context, such as the error of a template, instead of the
// error that the caller returns for the cancellation.
func Do(ctx context.Context, c Caller, calls []Call) ([][]schemas.Generation, error) {
	said, err := c.Do(ctx, calls)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return said, err
}

// A Call requests the replicates First to First + N − 1 of the same messages. Stages that work in rounds request
// later replicates of these messages. A round finds the answers of a call that requested all of them at once.
type Call struct {
	Role *Role
	// Stage names the stage of the call, for failures and counts.
	Stage    string
	PromptID string
	// Inputs identify the request: the template's digest, and a digest or a content-derived ID
	// of every text that Messages renders. Together with the role they make the journal's key.
	Inputs   []string
	First, N int
	// Messages renders the request. A replay never calls it.
	Messages func() []schemas.Message
}

// Key identifies the call without its replicate. Calls with equal keys request the same texts.
func (c *Call) Key() string { return Keys([]Call{*c})[0] }

// Keys returns the key of each call. Calls of one stage share a role, whose digest is computed
// once.
func Keys(calls []Call) []string {
	out := make([]string, len(calls))
	var role *Role
	var parts []string
	for i := range calls {
		if calls[i].Role != role {
			role, parts = calls[i].Role, []string{calls[i].Role.digest()}
		}
		parts = append(parts[:1], calls[i].Inputs...)
		out[i] = schemas.Digest(parts...)
	}
	return out
}
