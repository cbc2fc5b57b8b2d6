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
	// Chain asks for the verdicts. Its calls equal those of a run.
	Chain []stage.Spec
	Asking
	// Scoring scores by each kind of verdict, read or reasoned, that Chain asks for. Scores stay on the judge's
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
func NewJudging(c Config, attempt string, prompts int64, lengths journal.PrefixBits, retryFailed []string, verdicts ...string) (*Judging, error) {
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
		options, err := c.resolve()
		if err != nil {
			return nil, err
		}
		asked, spec := options.judge, judge.Spec
		if c.ReadsScores() {
			spec = judge.ReadSpec
		}
		one, err := spec(asked)
		if err != nil {
			return nil, err
		}
		options.score.Calibration = nil
		if asked, err = options.scoredBy(); err != nil {
			return nil, err
		}
		template, err := judge.ParseTemplate(asked)
		if err != nil {
			return nil, err
		}
		j.Chain, roles = append(j.Chain, one), append(roles, &asked.Role)
		j.Scoring[verdict], j.Judge[verdict] = options.score, JudgedBy{N: asked.N, Template: template.Digest()}
		j.Role = options.judge.Role
	}
	j.Asking = c.NewAsking(attempt, prompts, lengths, retryFailed, roles...)
	return j, nil
}

// scoredBy returns the options of the verdicts that score responses.
func (r *resolved) scoredBy() (judge.Options, error) {
	if r.judge.Reads > 0 {
		return r.judge.ReadOptions()
	}
	return r.judge, nil
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
	asked, err := options.scoredBy()
	if err != nil {
		return nil, err
	}
	template, err := judge.ParseTemplate(asked)
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
	if is := asked.N; made.Judge.Judgments != is {
		warn("the calibration of %s was made from means of %d judgments, this run's are of %d (judge.n)", made.Date, made.Judge.Judgments, is)
	}
	return warnings, nil
}
