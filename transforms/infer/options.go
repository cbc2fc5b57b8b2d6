package infer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"coeval/datasets/journal"
	"coeval/transforms/fleet"
	"coeval/transforms/infer/spending"
	"coeval/transforms/stage"
)

// Options configure how the stages' calls are made. They have no influence on the texts.
type Options struct {
	// Attempt is the ID of the attempt. All its bundles in one process share a fleet and a journal.
	Attempt string `json:"attempt"`
	// Journal is the folder of the journal. Empty means none: then nothing is replayed either.
	Journal string `json:"journal,omitempty"`
	// PrefixBits are the prefix lengths of the journal's folders.
	PrefixBits journal.PrefixBits `json:"prefix_bits"`
	// Fence is the run's folder, whose lock must name the attempt: otherwise the process stops
	// asking. Empty means no check.
	Fence string `json:"fence,omitempty"`
	// Keys are the endpoints whose API keys and other secrets must be readable before the first request.
	Keys []stage.Endpoint `json:"keys,omitempty"`
	// Window is the number of prompts that a bundle has in progress. More fill the permits better and
	// take more memory, about 0.25 MB each. Zero means half of the permits of all servers, a quarter
	// if MaxInFlight is given, and at least 128.
	Window int `json:"window,omitempty"`
	// MaxInFlight is the largest number of generations in flight at each server. A value should
	// be larger than the server's slots: a request of n choices has n permits until its slowest choice
	// is done, while the slots of the others have long been free. Zero means that the process finds the
	// number that keeps the server busy.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// RequestsPerMinute and TokensPerMinute are the quota of each server, as hosted APIs have it. Zero
	// means the quota in its headers.
	RequestsPerMinute int `json:"requests_per_minute,omitempty"`
	TokensPerMinute   int `json:"tokens_per_minute,omitempty"`
	// RequestTimeout bounds one request. It must be longer than the longest generation. Zero means a
	// multiple of the time that the requested tokens take at the server.
	RequestTimeout time.Duration `json:"request_timeout,omitempty"`
	// Tries is the largest number of times that a failing call is sent while the servers answer other
	// calls. Zero means 5.
	Tries int `json:"tries,omitempty"`
	// Patience is how long the run waits while no server of a role answers. It waits at most 9 seconds for servers
	// that have never sent a byte, or only web pages. Zero means 10 minutes.
	Patience time.Duration `json:"patience,omitempty"`
	// RetryFailed has the codes of recorded failures that are repeated; "all" is all of them. Zero
	// means none.
	RetryFailed []string `json:"retry_failed,omitempty"`
	// Prove has the roles whose servers must prove before the first request that they enforce verdicts.
	// Zero means that each server is tested before its first call.
	Prove []stage.Role `json:"prove,omitempty"`
	// Bounds limit all requests of this process together. Zero means no limit.
	Bounds spending.Bounds `json:"bounds,omitzero"`
}

// AllCodes in RetryFailed means every code.
const AllCodes = "all"

// Retries reports whether a recorded failure with this code is requested again.
func Retries(codes []string, code string) bool {
	return code != "" && (slices.Contains(codes, code) || slices.Contains(codes, AllCodes))
}

func (o Options) withDefaults() Options {
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Minute
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Attempt == "" {
		errs = append(errs, errors.New("infer: Attempt is empty; it must name the run"))
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Window", int64(o.Window)},
		{"MaxInFlight", int64(o.MaxInFlight)},
		{"RequestsPerMinute", int64(o.RequestsPerMinute)},
		{"TokensPerMinute", int64(o.TokensPerMinute)},
		{"RequestTimeout", int64(o.RequestTimeout)},
		{"Tries", int64(o.Tries)},
		{"Patience", int64(o.Patience)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("infer: %s is %d; it must be at least 0", f.name, f.value))
		}
	}
	return errors.Join(append(errs, o.Bounds.Validate())...)
}

func (o *Options) fleetOptions() fleet.Options {
	return fleet.Options{
		MaxInFlight: o.MaxInFlight, RequestsPerMinute: o.RequestsPerMinute, TokensPerMinute: o.TokensPerMinute,
		RequestTimeout: o.RequestTimeout, Tries: o.Tries, Patience: o.Patience,
	}
}
