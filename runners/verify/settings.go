package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"coeval/pipelines/metareward"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/meta"
	"coeval/transforms/score"
)

// settings are those of run.json's config that decide what the tables must hold.
type settings struct {
	Roles     []string          `json:"roles"`
	Actor     generate.Options  `json:"actor"`
	Judge     judge.Options     `json:"judge"`
	MetaJudge meta.Options      `json:"meta_judge"`
	Method    metareward.Method `json:"method"`
	// Calibration maps S; nil leaves it on the judge's scale.
	Calibration *score.Calibration `json:"calibration"`

	asked judge.Template
}

func decodeSettings(config json.RawMessage) (*settings, error) {
	var s settings
	if err := json.Unmarshal(config, &s); err != nil {
		return nil, err
	}
	errs := []error{s.Method.ActorOptions().Validate()}
	if len(s.Roles) == 0 {
		errs = append(errs, errors.New("roles is empty"))
	}
	for _, role := range s.Roles {
		if role != schemas.RoleActor && role != schemas.RoleJudge {
			errs = append(errs, fmt.Errorf("roles has %q; allowed are actor and judge", role))
		}
	}
	if s.wants(schemas.RoleJudge) {
		errs = append(errs, s.Method.JudgeOptions().Validate())
	}
	if s.Calibration != nil {
		if err := s.Calibration.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("calibration: %w", err))
		}
	}
	const most = 256
	for _, number := range []struct {
		key   string
		value int
	}{
		{"actor.n", s.Actor.N},
		{"judge.n", s.Judge.N},
		{"method.min_judgments", s.Method.MinJudgments},
		{"method.min_meta_judgments", s.Method.MinMetaJudgments},
	} {
		if number.value < 1 || number.value > most {
			errs = append(errs, fmt.Errorf("%s is %d; allowed is 1 to %d", number.key, number.value, most))
		}
	}
	var err error
	s.asked, err = judge.ParseTemplate(s.Judge.Template)
	return &s, errors.Join(append(errs, err)...)
}

func (s *settings) wants(role string) bool { return slices.Contains(s.Roles, role) }
