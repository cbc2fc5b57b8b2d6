package metareward

import (
	"coeval/datasets/journal"
	"coeval/pipelines/config"
	"coeval/transforms/judge"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

// Judging is the set-up for judging given responses with the judge of a config.
type Judging struct {
	// Chain requests the verdicts. Its calls equal those of a run.
	Chain []stage.Spec
	Asking
	// Scoring scores by each kind of verdict, read or reasoned, that Chain requests. Scores stay on the judge's
	// scale, because a calibration is fitted to them.
	Scoring map[string]score.Options

	Role stage.Role
	// Judge describes the verdicts of each kind.
	Judge map[string]JudgedBy
}

// JudgedBy is the number of verdicts on each response, and the digest of the judge's prompt.
type JudgedBy struct {
	N        int
	Template string
}

// NewJudging returns the set-up for the responses of that number of prompts, with these kinds of verdicts; none
// means that of the config. It returns an error if the config is invalid.
func NewJudging(c config.Config, attempt string, prompts int64, lengths journal.PrefixBits, retryFailed []string, verdicts ...string) (*Judging, error) {
	if err := c.ValidateJudging(); err != nil {
		return nil, err
	}
	if len(verdicts) == 0 {
		verdicts = []string{c.Judge.Verdict}
	}
	j := &Judging{Scoring: map[string]score.Options{}, Judge: map[string]JudgedBy{}}
	var roles []*stage.Role
	for _, verdict := range verdicts {
		c.Judge.Verdict = verdict
		options, err := c.Resolve()
		if err != nil {
			return nil, err
		}
		asked, spec := options.Judge, judge.Spec
		if c.ReadsScores() {
			spec = judge.ReadSpec
		}
		one, err := spec(asked)
		if err != nil {
			return nil, err
		}
		options.Score.Calibration = nil
		if asked, err = options.ScoredBy(); err != nil {
			return nil, err
		}
		template, err := judge.ParseTemplate(asked)
		if err != nil {
			return nil, err
		}
		j.Chain, roles = append(j.Chain, one), append(roles, &asked.Role)
		j.Scoring[verdict], j.Judge[verdict] = options.Score, JudgedBy{N: asked.N, Template: template.Digest()}
		j.Role = options.Judge.Role
	}
	j.Asking = NewAsking(c, attempt, prompts, lengths, retryFailed, roles...)
	return j, nil
}
