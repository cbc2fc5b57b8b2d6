package infer

import "coeval/transforms/stage"

// The names under which this package uses what stages and callers share.
type (
	Stage    = stage.Stage
	Caller   = stage.Caller
	Call     = stage.Call
	Role     = stage.Role
	Endpoint = stage.Endpoint
	Verdict  = stage.Verdict
)
