package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coeval/pipelines/config"
	"coeval/runners/arena"
	"coeval/runners/attempt"
	"coeval/runners/estimate"
	"coeval/schemas"
)

// fleetFlags are the speed and the price of the servers.
type fleetFlags struct {
	costFlags

	probe  time.Duration
	others estimate.Others
}

// costFlags are rates and prices.
type costFlags struct {
	rates  estimate.Rates
	prices estimate.Prices
}

func (f *costFlags) register(flags *pflag.FlagSet) {
	flags.Float64Var(&f.rates.Prompt, "prompt-rate", 0, "prompt tokens that all servers together read in a second")
	flags.Float64Var(&f.rates.Completion, "completion-rate", 0, "completion tokens that all servers together write in a second")
	registerPrices(flags, &f.prices)
}

// check returns an error for each invalid rate and price.
func (f *costFlags) check() error {
	var err error
	if (f.rates.Prompt > 0) != (f.rates.Completion > 0) {
		err = errors.New("--prompt-rate and --completion-rate must be given together, because reading and writing both take time")
	}
	return errors.Join(f.rates.Validate(), f.prices.Validate(), err)
}

// of returns the cost of the calls of an arena.
func (f *costFlags) of(c *arena.Calls) *estimate.Cost {
	cost := estimate.CostOf(c.Ask, c.PromptTokens, c.CompletionTokens, f.rates, f.prices)
	return &cost
}

func (f *fleetFlags) register(flags *pflag.FlagSet) {
	f.costFlags.register(flags)
	flags.DurationVar(&f.probe, "probe", 0, "how long to send test requests that measure the rates of the servers, for example 20s")
	flags.IntSliceVar(&f.others.K, "other-k", nil, "show the plan for these values of actor.n too, for example 3,5")
	flags.IntSliceVar(&f.others.N, "other-n", nil, "show the plan for these values of judge.n too, for example 9")
}

const longestProbe = 10 * time.Minute

// maxOther bounds the values of --other-k and --other-n, and their number.
const maxOther, maxOthers = 1000, 20

func checkOthers(flag string, numbers []int) error {
	if len(numbers) > maxOthers {
		return fmt.Errorf("%s has %d numbers; allowed are at most %d", flag, len(numbers), maxOthers)
	}
	for _, n := range numbers {
		if n < 1 || n > maxOther {
			return fmt.Errorf("%s has %d; allowed is 1 to %d", flag, n, maxOther)
		}
	}
	return nil
}

// check returns the problems of the flags.
func (f *fleetFlags) check() error {
	var err error
	switch {
	case f.probe < 0 || f.probe > longestProbe:
		err = fmt.Errorf("--probe is %s; allowed is 0 to %s", f.probe, longestProbe)
	case f.probe > 0 && (f.rates.Prompt > 0 || f.rates.Completion > 0):
		err = errors.New("--probe measures --prompt-rate and --completion-rate: give either --probe or the rates")
	}
	return errors.Join(f.costFlags.check(), checkOthers("--other-k", f.others.K), checkOthers("--other-n", f.others.N), err)
}

// measure asks the servers if that is wanted.
func (f *fleetFlags) measure(c *cobra.Command, config *config.Config) error {
	if f.probe == 0 {
		return nil
	}
	asked := *config
	if asked.Simulate.Enabled {
		s, err := attempt.StartSimulator(&asked)
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // it served, and nobody waits for it
	}
	warnOfKeys(c.ErrOrStderr(), &asked)
	servers, err := probed(&asked)
	if err != nil {
		return err
	}
	f.rates, err = estimate.MeasureRates(c.Context(), servers, f.probe)
	return err
}

// probed returns the servers of all roles, each once, with the first model and the first key that a
// role uses there.
func probed(c *config.Config) ([]estimate.Server, error) {
	if err := checkKeys(c, slices.Sorted(maps.Keys(c.Asked()))...); err != nil {
		return nil, err
	}
	var servers []estimate.Server
	seen := map[string]int{}
	asked := c.Asked()
	for _, name := range []string{schemas.RoleJudge, schemas.RoleActor, schemas.RoleMetaJudge, schemas.RolePast, schemas.RoleFuture} {
		r := asked[name]
		if r == nil {
			continue
		}
		for _, e := range c.Endpoints(r) {
			at, known := seen[e.URL]
			if !known {
				seen[e.URL] = len(servers)
				servers = append(servers, estimate.Server{Endpoint: e, Model: cmp.Or(r.Model, c.Worker.Model)})
				continue
			}
			if has := &servers[at].Endpoint; has.APIKeyEnv == "" && has.APIKeyFile == "" {
				*has = e
			}
		}
	}
	return servers, nil
}
