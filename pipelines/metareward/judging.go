package metareward

import (
	"fmt"

	"coeval/datasets/journal"
	"coeval/transforms/judge"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

// Judging is the set-up for judging given responses with the judge of a config.
type Judging struct {
	// Chain judges and scores. Its calls equal those of a run, but its scores stay on the judge's
	// scale, because a calibration is fitted to them.
	Chain []stage.Spec
	Asking

	Role stage.Role
	// N is the number of judgments of each response, Template the digest of the judge's prompt.
	N        int
	Template string
}

// NewJudging returns the set-up for the responses of that number of prompts. It returns an error if
// the config is invalid.
func NewJudging(c Config, attempt string, prompts int64, lengths journal.PrefixBits, retryFailed []string) (*Judging, error) {
	if err := c.ValidateJudging(); err != nil {
		return nil, err
	}
	options, err := c.resolve()
	if err != nil {
		return nil, err
	}
	options.score.Calibration = nil
	judging, err := judge.Spec(options.judge)
	if err != nil {
		return nil, err
	}
	scoring, err := score.Spec(options.score)
	if err != nil {
		return nil, err
	}
	template, err := judge.ParseTemplate(options.judge)
	if err != nil {
		return nil, err
	}
	return &Judging{
		Chain:  []stage.Spec{judging, scoring},
		Asking: c.NewAsking(attempt, prompts, lengths, retryFailed, &options.judge.Role),
		Role:   options.judge.Role, N: options.judge.N, Template: template.Digest(),
	}, nil
}

// CalibrationWarnings returns one sentence for each difference between the judge and the judge of its
// calibration. It returns none without a calibration.
func (c Config) CalibrationWarnings() ([]string, error) {
	options, err := c.resolve()
	if err != nil {
		return nil, err
	}
	made := options.score.Calibration
	if made == nil {
		return nil, nil
	}
	template, err := judge.ParseTemplate(options.judge)
	if err != nil {
		return nil, err
	}
	var warnings []string
	warn := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		warnings = append(warnings, fmt.Sprintf("%s: %s: coeval calibrate makes another", c.Judge.Calibration, text))
	}
	was := stage.Role{Model: made.Judge.Model, Revision: made.Judge.Revision}
	if is := options.judge.Role.Identity(); was.Identity() != is {
		warn("the calibration of %s was made for the judge %s, this run's is %s", made.Date, was.Identity(), is)
	}
	if is := template.Digest(); made.Judge.Template != is {
		warn("the calibration of %s was made with another judge.template", made.Date)
	}
	if is := options.judge.N; made.Judge.Judgments != is {
		warn("the calibration of %s was made from means of %d judgments, this run's are of %d (judge.n)", made.Date, made.Judge.Judgments, is)
	}
	return warnings, nil
}
