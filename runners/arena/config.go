// Package arena compares models: a pairwise judge decides each game, one comparison of two answers. The
// package writes the games and the figures.
//
// A [Config] names the models, the judge and the prompts. A [Contest] requests the answers and the verdicts;
// package winrate computes the figures. [Verify] computes a written contest's figures again.
package arena

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/runners/arena/winrate"
	"coeval/runners/settings"
	"coeval/schemas"
	"coeval/transforms/pairwise"
	"coeval/transforms/stage"
)

// Config is every setting of an arena.
type Config struct {
	// A are the models that are measured, B is the baseline.
	A []SideConfig `yaml:"a" json:"a"`
	B SideConfig   `yaml:"b" json:"b"`
	// Chain compares each model of A with the one before it, too.
	Chain bool        `yaml:"chain" json:"chain"`
	Judge JudgeConfig `yaml:"judge" json:"judge"`

	Prompts config.Prompts `yaml:"prompts" json:"prompts"`
	// CategoryField is the field of the prompts' metadata with their category.
	CategoryField string `yaml:"category_field" json:"category_field"`
	Output        Output `yaml:"output"         json:"output"`
	Seed          int64  `yaml:"seed"           json:"seed"`
	// StripReasoning removes reasoning from answers and verdicts.
	StripReasoning bool `yaml:"strip_reasoning" json:"strip_reasoning"`
	// Outcome is hard or soft, Resamples the number of bootstrap resamples.
	Outcome   winrate.Outcome `yaml:"outcome"   json:"outcome"`
	Resamples int             `yaml:"resamples" json:"resamples"`
	// Known are folders of other arenas, whose games give the difficulty of the prompts.
	Known []string `yaml:"known" json:"known"`

	Worker   config.Worker   `yaml:"worker"   json:"worker"`
	Client   config.Client   `yaml:"client"   json:"client"`
	Simulate config.Simulate `yaml:"simulate" json:"simulate"`
}

// Output is the place of the files.
type Output struct {
	Dir string `yaml:"dir" json:"dir"`
}

// SideConfig is one model, on a server or with given answers.
type SideConfig struct {
	config.Role `yaml:",inline"`

	// Answers is a file of prompts and answers. Empty requests the answers from the model.
	Answers string `yaml:"answers" json:"answers"`
}

// UnmarshalYAML reads a model over the defaults: a list has no elements that could have them.
func (s *SideConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain SideConfig
	p := plain{Role: answering()}
	if err := unmarshal(&p); err != nil {
		return err
	}
	*s = SideConfig(p)
	return nil
}

// identity is the model with its revision.
func (s *SideConfig) identity() string {
	r := stage.Role{Model: s.Model, Revision: s.Revision}
	return r.Identity()
}

// JudgeConfig is the pairwise judge.
type JudgeConfig struct {
	config.Role `yaml:",inline"`

	Verdict    pairwise.Scale `yaml:"verdict"    json:"verdict"`
	Replicates int            `yaml:"replicates" json:"replicates"`
	Template   string         `yaml:"template"   json:"template"`
}

// DefaultConfig returns the config of an arena with nothing given.
func DefaultConfig() Config {
	d := config.Default()
	c := Config{
		Prompts: d.Prompts, Client: d.Client, Simulate: d.Simulate, Worker: d.Worker,
		StripReasoning: true, Outcome: winrate.Hard, Resamples: 1000, CategoryField: "category",
		B:     SideConfig{Role: answering()},
		Judge: JudgeConfig{Role: d.MetaJudge.Role, Verdict: pairwise.Five, Replicates: 1},
	}
	c.Judge.Temperature, c.Judge.TopP = new(0.7), new(1.0)
	return c
}

// answering is how a model is asked for an answer that is compared.
func answering() config.Role {
	r := config.Default().Actor.Role
	r.Temperature, r.TopP = new(0.7), new(1.0)
	return r
}

// ParseConfig returns the config of a YAML file, over the defaults. Its error shows the line but
// not its text, which may contain a key.
func ParseConfig(name string, data []byte) (Config, error) {
	c := DefaultConfig()
	if err := settings.Decode(name, data, &c); err != nil {
		return c, err
	}
	return c, nil
}

// NewSide returns a model as the command line names it: MODEL or MODEL@REVISION.
func NewSide(name string) SideConfig {
	s := SideConfig{Role: answering()}
	s.Model = name
	if model, revision, ok := strings.Cut(name, "@"); ok {
		s.Model, s.Revision = model, revision
	}
	return s
}

// Validate returns all problems joined. Each names its key, its value and the allowed values.
func (c *Config) Validate() error {
	var errs []error
	fail := func(key, value, allowed string) {
		errs = append(errs, &config.Problem{Key: key, Value: value, Allowed: allowed})
	}
	if len(c.A) == 0 {
		fail("a", "", "at least one model (--a)")
	}
	sides := append(slices.Clone(c.A), c.B)
	seen := map[string]bool{}
	for i := range sides {
		if id := sides[i].identity(); sides[i].Model != "" && seen[id] {
			errs = append(errs, fmt.Errorf("model %q plays twice; give one of them a revision, as MODEL@REVISION", id))
		} else {
			seen[id] = true
		}
		key := fmt.Sprintf("a[%d]", i)
		if i == len(c.A) {
			key = "b"
		}
		errs = append(errs, c.validateRole(key, &sides[i].Role, sides[i].Answers != "")...)
	}
	errs = append(errs, c.validateRole("judge", &c.Judge.Role, false)...)
	if c.Judge.Verdict != pairwise.Five && c.Judge.Verdict != pairwise.Two {
		fail("judge.verdict", fmt.Sprintf("%q", c.Judge.Verdict), "five or two")
	}
	if c.Judge.Replicates < 1 || c.Judge.Replicates > 64 {
		fail("judge.replicates", fmt.Sprint(c.Judge.Replicates), "1 to 64")
	}
	if c.Outcome != winrate.Hard && c.Outcome != winrate.Soft {
		fail("outcome", fmt.Sprintf("%q", c.Outcome), "hard or soft")
	}
	if c.Resamples < 100 || c.Resamples > 100_000 {
		fail("resamples", fmt.Sprint(c.Resamples), "100 to 100000")
	}
	return errors.Join(dedupe(errs)...)
}

// validateRole checks one role with the settings that all share. A model with given answers needs
// no server.
func (c *Config) validateRole(key string, r *config.Role, given bool) []error {
	m := c.Base()
	m.Actor.Role = *r
	if given && !m.Simulate.Enabled {
		m.Worker.URLs = []string{"http://given"}
	}
	var errs []error
	for _, err := range flatten(m.ValidateAnswering()) {
		if p := (*config.Problem)(nil); errors.As(err, &p) {
			if p.Key == "worker.model" {
				p = &config.Problem{Key: "actor.model", Allowed: "the name of a model"}
			}
			if rest, ok := strings.CutPrefix(p.Key, "actor."); ok {
				err = &config.Problem{Key: key + "." + rest, Value: p.Value, Allowed: p.Allowed}
			}
		}
		errs = append(errs, err)
	}
	return errs
}

func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// dedupe keeps the first of errors that read alike: settings that all roles share are checked
// with each.
func dedupe(errs []error) []error {
	seen := map[string]bool{}
	return slices.DeleteFunc(errs, func(err error) bool {
		was := seen[err.Error()]
		seen[err.Error()] = true
		return was
	})
}

// Base returns the settings that an arena shares with a run.
func (c *Config) Base() config.Config {
	m := config.Default()
	m.Prompts, m.Client, m.Simulate, m.Worker = c.Prompts, c.Client, c.Simulate, c.Worker
	m.Seed, m.Output.Dir = &c.Seed, c.Output.Dir
	return m
}

// Contest returns the contest of a config. Answers reads the file of a side: it returns the text by
// prompt ID.
func (c *Config) Contest(ctx context.Context, answers func(ctx context.Context, path string) (map[string]string, error)) (*Contest, error) {
	base := c.Base()
	player := func(s *SideConfig) (Player, error) {
		role, err := base.NewRole(schemas.RoleActor, &s.Role)
		if err != nil {
			return Player{}, err
		}
		p := Player{Role: *role}
		if s.Answers != "" {
			p.Given, err = answers(ctx, s.Answers)
		}
		return p, err
	}
	out := &Contest{Chain: c.Chain, StripReasoning: c.StripReasoning, CategoryOf: c.category}
	for i := range c.A {
		p, err := player(&c.A[i])
		if err != nil {
			return nil, err
		}
		out.Models = append(out.Models, p)
	}
	var err error
	if out.Baseline, err = player(&c.B); err != nil {
		return nil, err
	}
	judge, err := base.NewRole(schemas.RolePairwise, &c.Judge.Role)
	if err != nil {
		return nil, err
	}
	out.Judge = pairwise.Options{Role: *judge, Scale: c.Judge.Verdict, Replicates: c.Judge.Replicates}
	if c.Judge.Template != "" {
		source, err := store.ReadSetting(ctx, c.Judge.Template)
		if err != nil {
			return nil, &config.Problem{Key: "judge.template", Value: fmt.Sprintf("%q", c.Judge.Template), Allowed: fmt.Sprintf("a file that can be read (%v)", err)}
		}
		out.Judge.Template = string(source)
	}
	if _, err := pairwise.Stage(out.Judge); err != nil {
		return nil, err
	}
	return out, nil
}

// category returns the category of a prompt from its metadata.
func (c *Config) category(p *schemas.Prompt) string {
	var fields map[string]any
	if c.CategoryField == "" || json.Unmarshal([]byte(p.Metadata), &fields) != nil {
		return ""
	}
	text, ok := fields[c.CategoryField].(string)
	if !ok {
		return ""
	}
	return text
}
