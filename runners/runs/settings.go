package runs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"coeval/pipelines/config"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/meta"
	"coeval/transforms/score"
)

// Settings are the settings in run.json's config that decide the content of the tables.
type Settings struct {
	Roles     []string         `json:"roles"`
	Actor     generate.Options `json:"actor"`
	Judge     judge.Options    `json:"judge"`
	MetaJudge meta.Options     `json:"meta_judge"`
	Method    config.Method    `json:"method"`
	// Calibration maps S to people's scale; nil leaves S on the judge's scale.
	Calibration *score.Calibration `json:"calibration"`

	judgeTemplate judge.Template
}

// maxCount bounds the counts of a run: more texts of one kind than any config may ask for.
const maxCount = 256

// decodeSettings decodes config and returns all problems of its values at once.
func decodeSettings(config json.RawMessage) (Settings, error) {
	var s Settings
	if err := json.Unmarshal(config, &s); err != nil {
		return s, err
	}
	errs := []error{s.Method.ActorOptions().Validate()}
	if len(s.Roles) == 0 {
		errs = append(errs, errors.New("roles is empty; allowed are actor and judge"))
	}
	for _, role := range s.Roles {
		if role != schemas.RoleActor && role != schemas.RoleJudge {
			errs = append(errs, fmt.Errorf("roles has %q; allowed are actor and judge", role))
		}
	}
	if s.Wants(schemas.RoleJudge) {
		errs = append(errs, s.Method.JudgeOptions().Validate())
	}
	if s.Calibration != nil {
		if err := s.Calibration.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("calibration: %w", err))
		}
	}
	type number struct {
		key   string
		value int
	}
	var numbers []number
	for i, p := range s.Actor.Pools {
		if generate.PoolStage(p.Role.Name) == "" {
			errs = append(errs, fmt.Errorf("actor.pools[%d].role.name is %q; allowed are past and future", i, p.Role.Name))
		}
		numbers = append(numbers, number{fmt.Sprintf("actor.pools[%d].n", i), p.N})
	}
	if s.Judge.Reads != 0 {
		numbers = append(numbers, number{"judge.reads", s.Judge.Reads})
	}
	if r := s.Judge.Rounds; r != nil {
		numbers = append(numbers, number{"judge.rounds.max", r.Max})
		if s.Judge.Reads == 0 || !(r.Distance > 0 && r.Distance <= 10) {
			errs = append(errs, fmt.Errorf("judge.rounds.distance is %v with judge.reads %d; allowed is above 0 to 10 with at least one read", r.Distance, s.Judge.Reads))
		}
	}
	for _, number := range append(numbers, []number{
		{"actor.n", s.Actor.N},
		{"judge.n", s.Judge.N},
		{"method.min_judgments", s.Method.MinJudgments},
		{"method.min_meta_judgments", s.Method.MinMetaJudgments},
	}...) {
		if number.value < 1 || number.value > maxCount {
			errs = append(errs, fmt.Errorf("%s is %d; allowed is 1 to %d", number.key, number.value, maxCount))
		}
	}
	var err error
	if s.Judge.Template == "" {
		s.Judge.Template = judge.BuiltIn2026November // older runs don't name their template
	}
	s.judgeTemplate, err = judge.ParseTemplate(s.Judge)
	return s, errors.Join(append(errs, err)...)
}

// Wants reports whether the run makes pairs of a role.
func (s *Settings) Wants(role string) bool { return slices.Contains(s.Roles, role) }

// ReadsScores and ReadsComparisons report whether responses are scored, and judgments compared, by reads.
func (s *Settings) ReadsScores() bool { return s.Judge.Reads > 0 }

// ReadsComparisons is described at [Settings.ReadsScores].
func (s *Settings) ReadsComparisons() bool {
	return s.Wants(schemas.RoleJudge) && s.MetaJudge.Role.Read != nil
}

// PoolOf returns the role beside the actor, past or future, whose model gave a response; empty for the
// actor's.
func (s *Settings) PoolOf(model string) string {
	for i := range s.Actor.Pools {
		if p := &s.Actor.Pools[i]; p.Role.Identity() == model {
			return p.Role.Name
		}
	}
	return ""
}

// JudgePrompt returns the messages that the judge got about a response, rendered from the template in
// run.json.
func (s *Settings) JudgePrompt(p *schemas.PromptRow, response string) ([]schemas.Message, error) {
	return s.judgeTemplate.Messages(&schemas.Prompt{Messages: p.Prompt, Metadata: p.Metadata}, response)
}

// Scale returns the lowest and the highest score that the judge may give, in points.
func (s *Settings) Scale() (low, high float64) {
	if sc := s.Judge.Scale; sc != (points.Scale{}) {
		return float64(sc.Min) / 1000, float64(sc.Max) / 1000
	}
	return 0, MaxScore
}

// JudgeTemplate returns the digest of the judge's template.
func (s *Settings) JudgeTemplate() string { return s.judgeTemplate.Digest() }
