package config

import (
	"context"
	"fmt"

	"coeval/datasets/store"
	"coeval/transforms/judge"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

// readCalibration returns the content of a calibration file. The content travels to the workers, the
// file does not.
func readCalibration(name string) (*score.Calibration, error) {
	if name == "" {
		return nil, nil
	}
	b, err := store.ReadSetting(context.Background(), name)
	problem := func(err error) error {
		return &Problem{Key: "judge.calibration", Value: fmt.Sprintf("%q", name), Allowed: fmt.Sprintf("a file of coeval calibrate --map (%v)", err)}
	}
	if err != nil {
		return nil, problem(err)
	}
	c, err := score.ParseCalibration(b)
	if err != nil {
		return nil, problem(err)
	}
	return c, nil
}

// ScoredBy returns the options of the verdicts that score responses.
func (r *Resolved) ScoredBy() (judge.Options, error) {
	if r.Judge.Reads > 0 {
		return r.Judge.ReadOptions()
	}
	return r.Judge, nil
}

// CalibrationWarnings returns one sentence for each difference between the judge and the judge of its
// calibration. It returns none without a calibration.
func (c Config) CalibrationWarnings() ([]string, error) {
	options, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	made := options.Score.Calibration
	if made == nil {
		return nil, nil
	}
	asked, err := options.ScoredBy()
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
	if is := options.Judge.Role.Identity(); was.Identity() != is {
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
