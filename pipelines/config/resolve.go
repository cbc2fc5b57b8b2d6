package config

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"coeval/datasets/prompts"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/transforms/generate"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/meta"
	"coeval/transforms/pairs"
	"coeval/transforms/score"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// Resolved has the options of the stages for a config.
type Resolved struct {
	Generate generate.Options
	Judge    judge.Options
	Score    score.Options
	Meta     meta.Options
}

// Resolve reads the files that the config names, and returns the options of the stages.
func (c Config) Resolve() (*Resolved, error) {
	judging, err := readTemplate("judge.template", c.Judge.Template)
	if err != nil {
		return nil, err
	}
	comparing, err := readTemplate("meta_judge.template", c.MetaJudge.Template)
	if err != nil {
		return nil, err
	}
	rubric, err := readText("judge.rubric", c.Judge.Rubric)
	if err != nil {
		return nil, err
	}
	calibration, err := readCalibration(c.Judge.Calibration)
	if err != nil {
		return nil, err
	}
	actor, err := c.NewRole(schemas.RoleActor, &c.Actor.Role)
	if err != nil {
		return nil, err
	}
	pools, err := c.resolvePools(actor)
	if err != nil {
		return nil, err
	}
	judgeRole, err := c.NewRole(schemas.RoleJudge, &c.Judge.Role)
	if err != nil {
		return nil, err
	}
	metaJudge, err := c.NewRole(schemas.RoleMetaJudge, &c.MetaJudge.Role)
	if err != nil {
		return nil, err
	}
	if c.Verdicts == EnforcedVerdicts {
		judgeRole.Verdict, metaJudge.Verdict = points.Verdict(c.Judge.scale()), meta.Verdict()
	}
	strip := c.Method.StripReasoning
	comparisons := *metaJudge
	if c.ReadsComparisons() {
		comparisons = readRole(metaJudge, c.Method.ReadMinMass)
	}
	reads, minMass := 0, 0.0
	if c.ReadsScores() {
		reads, minMass = c.Judge.Reads, c.Method.ReadMinMass
	}
	return &Resolved{
		Generate: generate.Options{Role: *actor, N: c.Actor.N, StripReasoning: strip, Pools: pools},
		Judge: judge.Options{
			Role: *judgeRole, N: c.Judge.N, StripReasoning: strip,
			Template: judging, Rubric: rubric, Scale: c.Judge.scale(), Pattern: c.Judge.Pattern, Reads: reads, ReadMinMass: minMass,
			Rounds: c.Rounds(),
		},
		Score: score.Options{
			MinJudgments: c.Method.MinJudgments, MinDistinct: c.Method.MinMetaJudgments, Calibration: calibration, Reads: c.ReadsScores(),
		},
		Meta: meta.Options{
			Role: comparisons, MinJudgments: c.Method.MinMetaJudgments,
			HideScores: c.Method.HideScores, StripReasoning: strip, Budget: c.Budget.policy(),
			Template: comparing, Rubric: sharedRubric(rubric, judging, comparing), Pattern: c.MetaJudge.Pattern,
			Scale: c.Judge.scale(), ScorePattern: c.Judge.Pattern,
		},
	}, nil
}

// readRole returns the meta-judge as it is asked for reads: one token without a constraint.
func readRole(r *stage.Role, minMass float64) stage.Role {
	role := *r
	role.Verdict, role.Stop, role.MaxTokens = nil, nil, 1
	role.Read = meta.Read()
	role.Read.MinMass = minMass
	return role
}

// scale returns the judge's scale in thousandths of a point; the zero value for the built-in one.
func (r *JudgeRole) scale() points.Scale {
	if r.Scale == [2]float64{0, 5} {
		return points.Scale{}
	}
	return points.Scale{Min: int(math.Round(1000 * r.Scale[0])), Max: int(math.Round(1000 * r.Scale[1]))}
}

// readTemplate returns the source of a template, or the name of a built-in one.
func readTemplate(key, name string) (string, error) {
	switch {
	case name == "":
		return judge.BuiltIn, nil
	case name == judge.BuiltIn || name == judge.BuiltIn2026November:
		return name, nil
	case strings.HasPrefix(name, "builtin:"):
		return "", &Problem{Key: key, Value: fmt.Sprintf("%q", name), Allowed: fmt.Sprintf("%s, %s, or a file", judge.BuiltIn, judge.BuiltIn2026November)}
	}
	return readText(key, name)
}

// sharedRubric returns the meta-judge's rubric. It is the judge's, even when the built-in templates of
// the two have different dates.
func sharedRubric(rubric, judging, comparing string) string {
	if own := judge.BuiltInRubric(judging); rubric == "" && own != judge.BuiltInRubric(comparing) {
		return own
	}
	return rubric
}

func readText(key, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := store.ReadSetting(context.Background(), name)
	if err != nil {
		return "", &Problem{Key: key, Value: fmt.Sprintf("%q", name), Allowed: fmt.Sprintf("a file that can be read (%v)", err)}
	}
	return string(b), nil
}

// NewRole returns a role of this name. It takes missing settings from c.Worker.
func (c *Config) NewRole(name string, r *Role) (*stage.Role, error) {
	out := &stage.Role{
		Name: name, Model: cmp.Or(r.Model, c.Worker.Model), Revision: cmp.Or(r.Revision, c.Worker.Revision),
		MaxTokens: r.MaxTokens, Stop: r.Stop,
		Endpoints: c.Endpoints(r), ReasoningTags: c.Method.ReasoningTags,
	}
	if r.Temperature != nil {
		out.Temperature = *r.Temperature
	} else {
		out.Omit = append(out.Omit, stage.Temperature)
	}
	if r.TopP != nil {
		out.TopP = *r.TopP
	} else {
		out.Omit = append(out.Omit, stage.TopP)
	}
	if c.Seed != nil {
		out.Seed = *c.Seed
	} else {
		out.Omit = append(out.Omit, stage.Seed)
	}
	if c.Simulate.Enabled {
		if worker, err := c.Simulate.Worker(); err == nil { // Validate reports the error
			out.Simulated = worker.Identity()
		}
	}
	if len(r.ExtraBody) > 0 {
		b, err := json.Marshal(r.ExtraBody) // sorts the keys
		if err != nil {
			return nil, &Problem{Key: name + ".extra_body", Value: fmt.Sprint(r.ExtraBody), Allowed: fmt.Sprintf("a value that JSON can represent (%v)", err)}
		}
		out.ExtraBody = string(b)
	}
	return out, nil
}

// Chain returns the stages of a run. It returns an error if the config is invalid.
func (c Config) Chain() ([]stage.Spec, error) {
	options, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	return c.chain(options)
}

// chain returns the stages of a run. Without the role judge it contains no comparisons.
func (c *Config) chain(r *Resolved) ([]stage.Spec, error) {
	first, err := generate.Spec(r.Generate)
	if err != nil {
		return nil, err
	}
	second, err := judge.Spec(r.Judge)
	if err != nil {
		return nil, err
	}
	third, err := score.Spec(r.Score)
	if err != nil {
		return nil, err
	}
	chain := []stage.Spec{first, second, third}
	if c.ReadsScores() {
		reads, err := judge.ReadSpec(r.Judge)
		if err != nil {
			return nil, err
		}
		chain = []stage.Spec{first, reads, third}
	}
	if !c.Wants(schemas.RoleJudge) {
		return chain, nil
	}
	if c.ReadsScores() { // reasons for the contested response alone
		chain = append(chain, second)
	}
	fourth, err := meta.Spec(r.Meta)
	if err != nil {
		return nil, err
	}
	return append(chain, fourth), nil
}

// Worker returns the options of the simulated worker.
func (s *Simulate) Worker() (*simulator.Options, error) {
	w, err := world.Named(s.World)
	if err != nil {
		return nil, err
	}
	w.Seed = s.Seed
	w.ReadLoss, w.ReadNoise, w.ReadOther = 1-s.ReadDiscrimination, s.ReadNoise, 1-s.ReadMass
	faults, err := simulator.ParseFaults(s.Faults)
	if err != nil {
		return nil, err
	}
	return &simulator.Options{
		World: &w, Slots: s.Slots, Latency: s.Latency, FreshTexts: s.FreshTexts, MaxN: s.MaxN, Faults: faults,
	}, nil
}

// ActorOptions returns the options for choosing actor pairs.
func (m *Method) ActorOptions() pairs.ActorOptions {
	return pairs.ActorOptions{Rho: m.Rho, MinMargin: m.MinMargin, MaxChosenChars: m.MaxChosenChars, Method: m.Pairs, Phase: m.Phase}
}

// JudgeOptions returns the options for choosing judge pairs. An undecided rating is elo.
func (m *Method) JudgeOptions() pairs.JudgeOptions {
	w := m.FixedPositionWeights
	mode := pairs.RatingMode(m.Rating)
	if m.Rating == AutoRating {
		mode = pairs.EloRating
	}
	return pairs.JudgeOptions{
		Rating:          mode,
		PositionWeights: m.PositionWeights, Fixed: schemas.PositionWeights{First: w[0], Second: w[1]},
		Lambda: m.EloLambda, MaxJudgmentChars: m.MaxJudgmentChars,
		KeepEqualScores: !m.DropEqualScores, MinJudgments: m.MinMetaJudgments,
		Balance: pairs.BalanceOptions{ClassCap: m.JudgeClassCap, Directions: m.BalanceDirections},
	}
}

// withoutPlace returns the JSON of a stage's options without the addresses of its servers.
func withoutPlace[O generate.Options | judge.Options | meta.Options](o O) (json.RawMessage, error) {
	switch p := any(&o).(type) {
	case *generate.Options:
		p.Role.Endpoints = nil
		p.Pools = slices.Clone(p.Pools)
		for i := range p.Pools {
			p.Pools[i].Role.Endpoints = nil
		}
	case *judge.Options:
		p.Role.Endpoints = nil
	case *meta.Options:
		p.Role.Endpoints = nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b, nil
}

// Reading returns the options of the prompts' reader.
func (c *Config) Reading() prompts.Options {
	return prompts.Options{
		Field: c.Prompts.Field, IDField: c.Prompts.IDField, DropLastAnswer: c.Prompts.DropLastAnswer, MaxLineBytes: c.Prompts.MaxLineBytes,
	}
}

// Selection returns the selection of prompts.
func (c *Config) Selection() prompts.Selection {
	slice, err := prompts.ParseSlice(c.Prompts.Slice, c.Prompts.SliceSeed)
	if err != nil { // Validate refuses it; a part has at least one prompt
		slice = prompts.Slice{Index: 1, Count: -1}
	}
	return prompts.Selection{Limit: c.Prompts.Limit, Slice: slice, Sample: c.Prompts.Sample, SampleSeed: c.Prompts.SampleSeed}
}
