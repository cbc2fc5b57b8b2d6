package metareward

import (
	"context"
	"fmt"

	"coeval/datasets/journal"
	"coeval/pipelines/config"
)

// CheckRespondent returns an error if a run with this config would mix answers of the simulated worker
// with answers of real servers in the journal of its folder.
//
// A run that starts the simulated worker itself is refused when real servers have answered before. A
// run that asks servers is refused after a run that started the simulated worker. Whether its servers
// are real is known after their first answer, and checked again at that time.
func CheckRespondent(ctx context.Context, c *config.Config) error {
	was, err := journal.ReadRespondent(ctx, JournalDir(c.Output.Dir))
	if err != nil {
		return err
	}
	return MixesRespondents(c, was)
}

// MixesRespondents is CheckRespondent for a journal with this respondent.
func MixesRespondents(c *config.Config, was journal.Respondent) error {
	switch {
	case c.Simulate.Enabled && was.Kind == journal.Real:
		return fmt.Errorf("%s has answers of real servers, and --simulate (simulate.enabled) would add invented ones. Give the simulated run another --out", c.Output.Dir)
	case !c.Simulate.Enabled && was.Worker != "":
		return fmt.Errorf("%s has answers of the simulated worker (--simulate), and this run uses servers. Give the real run another --out", c.Output.Dir)
	}
	return nil
}

// ClaimRespondent records that the simulated worker answers, before its first answer, if the config
// enables it. The caller must own the lock of the run's folder.
func ClaimRespondent(ctx context.Context, c *config.Config) error {
	if err := CheckRespondent(ctx, c); err != nil || !c.Simulate.Enabled {
		return err
	}
	worker, err := c.Simulate.Worker()
	if err != nil {
		return err
	}
	return journal.WriteRespondent(ctx, JournalDir(c.Output.Dir), journal.Respondent{Kind: journal.Simulated, Worker: worker.Identity()})
}
