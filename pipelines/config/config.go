// Package config defines the settings of a run: their types, defaults, presets and checks.
//
// [Config] has every setting, [Config.Validate] reports all invalid ones, and [Config.Resolve] returns
// the options of the stages. With given prompts and a journal that has all answers, the texts, scores and
// selections of a run follow from the settings in [Config.Data].
package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"coeval/datasets/prompts"
	"coeval/pipelines/access"
	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/pairs"
	"coeval/transforms/rating"
	"coeval/transforms/score"
	"coeval/transforms/stage"
)

// Config has every setting of a run. The doc tags explain the keys. [Default] has the defaults; the
// zero value of a field is a setting like any other.
type Config struct {
	Preset   string   `yaml:"preset"     json:"preset"     doc:"settings of a published method: paper-1 to paper-4 (the iterations of Meta-Rewarding), self-rewarding, temporal-1 or temporal-2; a key that you set wins over the preset"`
	Roles    []string `yaml:"roles"      json:"roles"      doc:"roles to make pairs for: actor, judge"`
	Seed     *int64   `yaml:"seed"       json:"seed"       doc:"seed of the run; another seed gives other texts; null sends no seed, for servers that refuse it"`
	Verdicts string   `yaml:"verdicts"   json:"verdicts"   doc:"free; or enforced: servers with structured outputs must end judgments and comparisons in a verdict"`
	Prompts  Prompts  `yaml:"prompts"    json:"prompts"`
	Output   Output   `yaml:"output"     json:"output"`
	// SharedStorage describes machines, not data.
	SharedStorage bool `yaml:"shared_storage" json:"shared_storage" doc:"local paths are the same folders on every machine of a cluster, for example on NFS"`

	Worker    Worker    `yaml:"worker"     json:"worker"`
	Actor     ActorRole `yaml:"actor"      json:"actor"`
	Past      PoolRole  `yaml:"past"       json:"past"`
	Future    PoolRole  `yaml:"future"     json:"future"`
	Judge     JudgeRole `yaml:"judge"      json:"judge"`
	MetaJudge MetaRole  `yaml:"meta_judge" json:"meta_judge"`
	Method    Method    `yaml:"method"     json:"method"`
	Budget    Budget    `yaml:"budget"     json:"budget"`
	Client    Client    `yaml:"client"     json:"client"`
	Simulate  Simulate  `yaml:"simulate"   json:"simulate"`
}

// Prompts selects the prompts and decides how they are read.
type Prompts struct {
	Paths   []string `yaml:"paths"          json:"paths"          doc:"files, globs and folders of JSON lines, JSON, CSV, TSV, text, YAML (.gz and .zst too) or Parquet"`
	Field   string   `yaml:"field"          json:"field"          doc:"path of the prompt, for example text or body.messages: a string or a list of messages; empty finds the usual names"`
	IDField string   `yaml:"id_field"       json:"id_field"       doc:"field with an ID of your own; empty finds the usual names"`
	// DropLastAnswer and the slice are omitted from run.json at their defaults, so that its bytes
	// equal those of earlier versions.
	DropLastAnswer string  `yaml:"drop_last_answer" json:"drop_last_answer,omitempty" doc:"treatment of an answer at the end of a conversation. auto leaves it out and reports how often, always leaves it out, never makes the line bad"`
	Limit          int64   `yaml:"limit"          json:"limit"          doc:"number of distinct prompts to read, from the first one on; 0 reads all"`
	Sample         int64   `yaml:"sample"         json:"sample"         doc:"number of distinct prompts to draw; 0 takes all; a slice of about that size is used whole"`
	SampleSeed     int64   `yaml:"sample_seed"    json:"sample_seed"    doc:"decides which prompts are drawn"`
	Slice          string  `yaml:"slice"          json:"slice,omitempty" doc:"one of several equal parts that don't overlap, for example 1/4 for the first of four iterations; empty takes all"`
	SliceSeed      int64   `yaml:"slice_seed"     json:"slice_seed,omitempty" doc:"decides which prompts are in which slice"`
	MaxBad         float64 `yaml:"max_bad_prompts" json:"max_bad_prompts" doc:"largest share of bad lines; a run with more does not begin"`
	MaxLineBytes   int     `yaml:"max_line_bytes" json:"max_line_bytes" doc:"longest line in bytes, at most 64 MiB; a longer one is bad"`
}

// Output decides where the files go.
type Output struct {
	Dir             string `yaml:"dir"               json:"dir"               doc:"folder of the run and of its journal"`
	PromptsPerShard int64  `yaml:"prompts_per_shard" json:"prompts_per_shard" doc:"largest number of prompts in a shard; the number of shards is the smallest power of two that keeps to it"`
}

// Worker has the defaults for roles without settings of their own.
type Worker struct {
	URLs          []string `yaml:"urls"        json:"urls"        doc:"base URLs of OpenAI-compatible servers, for example http://host:8000/v1, for every role without its own"`
	Model         string   `yaml:"model"       json:"model"       doc:"model of every role without its own"`
	Revision      string   `yaml:"revision"    json:"revision"    doc:"label that distinguishes checkpoints served under one name"`
	access.Access `yaml:",inline"`
	CAFile        string `yaml:"ca_file,omitempty" json:"ca_file,omitempty" doc:"PEM file with a certificate authority for https servers, trusted in addition to the system's; for every role"`
}

// Role configures one role: its model, its servers and its sampling.
type Role struct {
	URLs          []string `yaml:"urls"        json:"urls"        doc:"servers of this role; empty takes worker.urls"`
	Model         string   `yaml:"model"       json:"model"       doc:"model of this role; empty takes worker.model"`
	Revision      string   `yaml:"revision"    json:"revision"    doc:"checkpoint of this role; empty takes worker.revision"`
	access.Access `yaml:",inline"`
	Temperature   *float64       `yaml:"temperature" json:"temperature" doc:"sampling temperature; null sends none, for servers that refuse it"`
	TopP          *float64       `yaml:"top_p"       json:"top_p"       doc:"nucleus sampling: the share of probability that tokens are drawn from; null sends none"`
	MaxTokens     int            `yaml:"max_tokens"  json:"max_tokens"  doc:"largest number of tokens of a text; a text that is cut off does not count; 0 sends no limit"`
	Stop          Texts          `yaml:"stop"        json:"stop"        doc:"texts that end a generation"`
	ExtraBody     map[string]any `yaml:"extra_body"  json:"extra_body"  doc:"request fields sent unchanged, for example top_k or chat_template_kwargs; run.json publishes them, so use no secrets"`
}

// Texts is a list that YAML shows quoted, because the library cannot read a block that contains line
// breaks alone.
type Texts []string

// MarshalYAML returns the list as JSON, which is valid YAML.
func (t Texts) MarshalYAML() ([]byte, error) { return json.Marshal(append([]string{}, t...)) }

// ActorRole configures the actor.
type ActorRole struct {
	Role `yaml:",inline"`
	N    int `yaml:"n" json:"n" doc:"K: responses to a prompt"`
}

// JudgeRole configures the judge.
type JudgeRole struct {
	Role     `yaml:",inline"`
	N        int    `yaml:"n"        json:"n"        doc:"judgments of a response"`
	Template string `yaml:"template" json:"template" doc:"file with a Go text/template for the judge's prompt; empty is the built-in template, and builtin:2026-11 the previous one"`
	// The meta-judge sees the Rubric too.
	Rubric string `yaml:"rubric" json:"rubric" doc:"file with the rubric that .Rubric shows to judge and meta-judge; empty is the built-in one"`
	// Scale and Pattern decide how a judgment is parsed.
	Scale   [2]float64 `yaml:"scale"   json:"scale"   doc:"lowest and highest score in points, within 0 to 100; the built-in rubric needs [0, 5]"`
	Pattern string     `yaml:"pattern" json:"pattern" doc:"regular expression whose one group is the score, in its last match; empty reads a score line"`
	// Verdict and Reads decide how responses are scored.
	Verdict string `yaml:"verdict" json:"verdict" doc:"reasoned: scores come from judgments in words. read: scores come from the probabilities of one token, and only the contested response gets n judgments in words"`
	Reads   int    `yaml:"reads"   json:"reads"   doc:"number of reads of a response, with verdict: read; more than 1 helps only if a server answers equal requests differently"`
	// Calibration changes no request.
	Calibration string `yaml:"calibration" json:"calibration" doc:"file of coeval calibrate that maps mean scores to people's scale; empty leaves them as they are"`
}

// MetaRole configures the meta-judge. It has no n: it writes one comparison for each ordered pair
// of judgments.
type MetaRole struct {
	Role     `yaml:",inline"`
	Template string `yaml:"template" json:"template" doc:"file with a Go text/template for the meta-judge's prompt; empty is the built-in template, and builtin:2026-11 the previous one"`
	Pattern  string `yaml:"pattern"  json:"pattern"  doc:"regular expression whose one group is A or B, in its last match; empty reads a verdict line"`
	Verdict  string `yaml:"verdict"  json:"verdict"  doc:"reasoned: comparisons are in words; read: a comparison is the probabilities of A and B as one token"`
}

// The allowed values of JudgeRole.Verdict and MetaRole.Verdict.
const (
	ReasonedVerdict = "reasoned"
	ReadVerdict     = "read"
)

// Method has the numbers of the method.
type Method struct {
	// Pairs and Phase are left out of run.json where they are the default, so that its bytes are
	// those of earlier versions.
	Pairs                pairs.ActorMethod `yaml:"pairs"                  json:"pairs,omitempty"        doc:"tiers: both responses of an actor pair are the actor's; temporal: the rejected response may be past's, and in phase 2 the chosen one future's"`
	Phase                int               `yaml:"phase"                  json:"phase,omitempty"        doc:"phase of temporal: 1, or 2 with responses of future"`
	Rho                  float64           `yaml:"rho"                    json:"rho"                    doc:"width of the two score tiers in which length decides, 0 to below 0.5"`
	MinMargin            float64           `yaml:"min_margin"             json:"min_margin"             doc:"smallest score difference of an actor pair, in points"`
	MaxChosenChars       int               `yaml:"max_chosen_chars"       json:"max_chosen_chars"       doc:"longest chosen response; an actor pair with a longer one is dropped; 0 is off"`
	MaxJudgmentChars     int               `yaml:"max_judgment_chars"     json:"max_judgment_chars"     doc:"longest chosen judgment; a judge pair with a longer one is dropped; 0 is off"`
	MinJudgments         int               `yaml:"min_judgments"          json:"min_judgments"          doc:"smallest number of parsed judgments of a response with a score"`
	MinMetaJudgments     int               `yaml:"min_meta_judgments"     json:"min_meta_judgments"     doc:"smallest number of distinct parsed judgments of the contested response"`
	PositionWeights      pairs.WeightsMode `yaml:"position_weights"       json:"position_weights"       doc:"source of the position weights: run, response, fixed"`
	FixedPositionWeights [2]float64        `yaml:"fixed_position_weights" json:"fixed_position_weights" doc:"weights of a win in first and in second place, for position_weights: fixed"`
	Rating               string            `yaml:"rating"                 json:"rating,omitempty"       doc:"rating of judgments: elo, or scores, which expects judgments with near scores to be about equally good. auto is scores with budget.comparisons: settled, and elo otherwise"`
	EloLambda            float64           `yaml:"elo_lambda"             json:"elo_lambda"             doc:"penalty that keeps Elo scores finite"`
	HideScores           bool              `yaml:"hide_scores"            json:"hide_scores"            doc:"show the meta-judge the judgments without their score lines"`
	DropEqualScores      bool              `yaml:"drop_equal_scores"      json:"drop_equal_scores"      doc:"drop judge pairs whose judgments give the same score"`
	JudgeClassCap        float64           `yaml:"judge_class_cap"        json:"judge_class_cap,omitempty"    doc:"largest share of the judge pairs whose chosen judgments have one score, above 0 to 1; 0 is off"`
	BalanceDirections    float64           `yaml:"balance_directions"     json:"balance_directions,omitempty" doc:"largest difference of judge pairs whose chosen judgment scores higher and lower, as a share of both, above 0 to below 1; 0 is off"`
	StripReasoning       bool              `yaml:"strip_reasoning"        json:"strip_reasoning"        doc:"remove reasoning before a response is judged, a score parsed or a pair written"`
	ReadMinMass          float64           `yaml:"read_min_mass"          json:"read_min_mass,omitempty" doc:"a read is unparsed if the probabilities of its labels sum to less, above 0 to 1"`
	ReasoningTags        Texts             `yaml:"reasoning_tags"         json:"reasoning_tags,omitempty" doc:"tags around reasoning in addition to the known ones, for example <analysis> or \"((plan)) ((done))\""`
}

// Budget bounds the number of calls. The zero value sets no bound.
type Budget struct {
	Comparisons    string  `yaml:"comparisons"     json:"comparisons"     doc:"all: request all comparisons of a prompt; settled: request them in rounds until the judge pair is settled"`
	Regret         float64 `yaml:"regret"          json:"regret"          doc:"the judge pair is settled when its expected regret is at most this share of the expected distance between the best and the worst judgment. A smaller share takes more comparisons"`
	MaxComparisons int     `yaml:"max_comparisons" json:"max_comparisons" doc:"largest number of comparisons of a prompt with comparisons: settled; both orders count"`
	// Judgments, Distance and MaxJudgments decide how often the contested response is judged after reads.
	Judgments    string  `yaml:"judgments"      json:"judgments"      doc:"with judge.verdict: read, judgments of the contested response. all: judge.n at once. rounds: judge.n first and then 6 a round until one score is distant from the read. auto: rounds if comparisons is settled and judge.n is at most max_judgments, all otherwise"`
	Distance     float64 `yaml:"distance"       json:"distance"       doc:"with judgments in rounds, a score is distant when it lies this many standard deviations of the read's distribution from the read's mean. A larger number takes more judgments"`
	MaxJudgments int     `yaml:"max_judgments"  json:"max_judgments"  doc:"largest number of judgments of the contested response in rounds"`
}

// The allowed values of Budget.Comparisons.
const (
	AllComparisons     = "all"
	SettledComparisons = "settled"
)

// The allowed values of Budget.Judgments.
const (
	AutoJudgments  = "auto"
	AllJudgments   = "all"
	RoundJudgments = "rounds"
)

// Client configures the client of the servers. It does not affect texts.
type Client struct {
	MaxInFlight       int           `yaml:"max_in_flight"   json:"max_in_flight"   doc:"largest number of generations in flight at each server; 0 lets the run find the number that keeps the server busy"`
	Window            int           `yaml:"window"          json:"window"          doc:"prompts in progress at a time; 0 lets the run find the number that keeps the servers busy"`
	RequestsPerMinute int           `yaml:"requests_per_minute" json:"requests_per_minute" doc:"largest number of requests to each server in a minute; 0 follows its headers"`
	TokensPerMinute   int           `yaml:"tokens_per_minute" json:"tokens_per_minute" doc:"largest number of tokens that each server reads and writes in a minute; 0 follows its headers"`
	RequestTimeout    time.Duration `yaml:"request_timeout" json:"request_timeout" doc:"longest wait for one request; 0 derives it from its tokens and the server's rate, with ample room"`
	Tries             int           `yaml:"tries"           json:"tries"           doc:"number of tries of a call that servers fail, until it counts as a failure"`
	Patience          time.Duration `yaml:"patience"        json:"patience"        doc:"longest wait of a run while no server of a role answers; at most 9s if none has ever sent anything but web pages"`
}

// Simulate replaces the servers by the simulated worker in this process.
type Simulate struct {
	Enabled    bool          `yaml:"enabled"     json:"enabled"     doc:"use the simulated worker; no model, no GPU"`
	Slots      int           `yaml:"slots"       json:"slots"       doc:"choices that it generates at a time"`
	Latency    time.Duration `yaml:"latency"     json:"latency"     doc:"mean time for a choice"`
	World      string        `yaml:"world"       json:"world"       doc:"quality of its judges: mild, moderate, noisy, bad"`
	Seed       uint64        `yaml:"seed"        json:"seed"        doc:"seed of its hidden truth"`
	FreshTexts bool          `yaml:"fresh_texts" json:"fresh_texts" doc:"answer each repetition of a request with another text"`
	MaxN       int           `yaml:"max_n"       json:"max_n"       doc:"largest number of choices in a request; 0 means no limit"`
	Faults     string        `yaml:"faults"      json:"faults"      doc:"faults to inject, for example 429=0.1,reset=0.02"`
	// ReadDiscrimination, ReadNoise and ReadMass are how well it reads.
	ReadDiscrimination float64 `yaml:"read_discrimination" json:"read_discrimination" doc:"discrimination of its reads, relative to 1 for its verdicts in words; 0 to 1"`
	ReadNoise          float64 `yaml:"read_noise" json:"read_noise" doc:"standard deviation of a read's own error, in logits for comparisons and points for scores"`
	ReadMass           float64 `yaml:"read_mass" json:"read_mass" doc:"probability of its labels together; 0 to 1"`
	// URL is the address of the worker that the program has started. It is not a setting.
	URL string `yaml:"-" json:"-"`
}

// AutoRating is the value of method.rating that lets the budget decide.
const AutoRating = "auto"

// The allowed values of Verdicts.
const (
	FreeVerdicts     = "free"
	EnforcedVerdicts = "enforced"
)

// Default returns the default config.
func Default() Config {
	role := Role{Temperature: new(0.8), TopP: new(0.95), MaxTokens: 1024}
	actor, judging := role, role
	actor.MaxTokens, actor.Temperature, actor.TopP = 2048, new(0.8), new(0.95)
	judging.Temperature, judging.TopP = new(0.8), new(0.95)
	return Config{
		Roles: []string{schemas.RoleActor, schemas.RoleJudge}, Seed: new(int64(0)), Verdicts: FreeVerdicts,
		Prompts: Prompts{DropLastAnswer: prompts.AutoDrop, MaxBad: 0.01, MaxLineBytes: 1 << 20},
		Output:  Output{PromptsPerShard: 1250},
		Actor:   ActorRole{Role: actor, N: 7}, Judge: JudgeRole{Role: judging, N: 11, Scale: [2]float64{0, 5}, Verdict: ReasonedVerdict, Reads: 1}, MetaJudge: MetaRole{Role: role, Verdict: ReasonedVerdict},
		Method: Method{
			Pairs: pairs.Tiers, Phase: 1, Rho: 0.32, MinJudgments: 2, MinMetaJudgments: 3, PositionWeights: pairs.RunWeights,
			FixedPositionWeights: [2]float64{0.5, 0.5}, Rating: AutoRating, EloLambda: 0.1, DropEqualScores: true, StripReasoning: true,
			ReadMinMass: stage.DefaultMinMass,
		},
		Budget: Budget{
			Comparisons: AllComparisons, Regret: rating.DefaultRegret, MaxComparisons: rating.DefaultMaxComparisons,
			Judgments: AutoJudgments, Distance: judge.DefaultDistance, MaxJudgments: judge.DefaultMaxJudgments,
		},
		Client:   Client{Tries: 5, Patience: 10 * time.Minute},
		Simulate: Simulate{Slots: 256, Latency: 20 * time.Millisecond, World: "moderate", ReadDiscrimination: 1, ReadMass: 1},
	}
}

// presets are the numbers of published methods. Those of the paper's four iterations are taken from
// secondary sources: the paper's own text was not available.
var presets = map[string]func(*Config){
	"paper-1": func(c *Config) {
		c.Method.Rho, c.Method.MaxChosenChars, c.Method.MaxJudgmentChars = 0, 2500, 1100
	},
	"paper-2": func(c *Config) { c.Method.Rho, c.Method.MaxJudgmentChars = 0.32, 1000 },
	"paper-3": func(c *Config) { c.Method.Rho, c.Roles = 0.32, []string{schemas.RoleActor} },
	"paper-4": func(c *Config) { c.Method.Rho, c.Roles = 0.4, []string{schemas.RoleActor} },

	"self-rewarding": selfRewarding,
	"temporal-1":     func(c *Config) { selfRewarding(c); c.Method.Pairs, c.Method.Phase = pairs.Temporal, 1 },
	"temporal-2":     func(c *Config) { selfRewarding(c); c.Method.Pairs, c.Method.Phase = pairs.Temporal, 2 },
}

// selfRewarding sets the numbers of Yuan et al., arXiv 2401.10020: the best of four responses against
// the worst, by the mean of three judgments. The method temporal varies where the two come from.
func selfRewarding(c *Config) {
	c.Roles, c.Method.Rho = []string{schemas.RoleActor}, 0
	c.Actor.N, c.Judge.N = 4, 3
	for _, r := range []*Role{&c.Actor.Role, &c.Judge.Role} {
		r.Temperature, r.TopP = new(0.7), new(0.9)
	}
}

// Presets returns the names of all presets, sorted.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Preset returns the default config with a preset's numbers. The empty name changes nothing.
func Preset(name string) (Config, error) {
	c := Default()
	if name == "" {
		return c, nil
	}
	apply, ok := presets[name]
	if !ok {
		return c, &Problem{Key: "preset", Value: name, Allowed: fmt.Sprintf("one of %v", Presets())}
	}
	c.Preset = name
	apply(&c)
	return c, nil
}

// Data returns the settings that decide the data, as in run.json. It omits locations and the pace of
// requests.
func (c Config) Data() (json.RawMessage, error) {
	data := struct {
		Roles     []string        `json:"roles"`
		Seed      *int64          `json:"seed"`
		Prompts   Prompts         `json:"prompts"`
		PerShard  int64           `json:"prompts_per_shard"`
		Actor     json.RawMessage `json:"actor"`
		Judge     json.RawMessage `json:"judge,omitempty"`
		MetaJudge json.RawMessage `json:"meta_judge,omitempty"`
		Method    Method          `json:"method"`
		// Calibration is the content of the file, so that the tables can be verified without the file.
		Calibration *score.Calibration `json:"calibration,omitempty"`
	}{Roles: slices.Sorted(slices.Values(c.Roles)), Seed: c.Seed, Prompts: c.Prompts, PerShard: c.Output.PromptsPerShard, Method: c.DecidedMethod()}
	if data.Prompts.DropLastAnswer == prompts.AutoDrop {
		data.Prompts.DropLastAnswer = ""
	}
	if data.Method.Pairs == pairs.Tiers {
		data.Method.Pairs, data.Method.Phase = "", 0
	}
	resolved, err := c.Resolve()
	if err != nil {
		return nil, err
	}
	if data.Actor, err = withoutPlace(resolved.Generate); err != nil {
		return nil, err
	}
	if data.Judge, err = withoutPlace(resolved.Judge); err != nil {
		return nil, err
	}
	if c.Wants(schemas.RoleJudge) {
		if data.MetaJudge, err = withoutPlace(resolved.Meta); err != nil {
			return nil, err
		}
	}
	data.Calibration = resolved.Score.Calibration
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b, nil
}

// DecidedMethod returns the method with its rating decided. It is empty for elo, so that run.json has the
// bytes of earlier versions.
func (c *Config) DecidedMethod() Method {
	m := c.Method
	if m.Rating == AutoRating && c.Budget.Comparisons == SettledComparisons {
		m.Rating = string(pairs.ScoresRating)
	}
	if m.Rating != string(pairs.ScoresRating) {
		m.Rating = ""
	}
	if !c.ReadsScores() && !c.ReadsComparisons() {
		m.ReadMinMass = 0
	}
	return m
}

// policy returns the rule by which comparisons are asked, nil where all are.
func (b *Budget) policy() *rating.Policy {
	if b.Comparisons != SettledComparisons {
		return nil
	}
	return &rating.Policy{Regret: b.Regret, MaxComparisons: b.MaxComparisons}
}

// Rounds returns the rule by which the contested response is judged in rounds, nil where it gets judge.n judgments at
// once. Without a bound on comparisons, auto asks at once: their number grows with the square of the judgments.
func (c *Config) Rounds() *judge.Rounds {
	b := &c.Budget
	if !c.ReadsScores() || !c.Wants(schemas.RoleJudge) {
		return nil
	}
	if b.Judgments == RoundJudgments || b.Judgments == AutoJudgments && b.Comparisons == SettledComparisons && c.Judge.N <= b.MaxJudgments {
		return &judge.Rounds{Max: b.MaxJudgments, Distance: b.Distance}
	}
	return nil
}

// ReadsScores reports whether responses are scored by reads instead of judgments.
func (c *Config) ReadsScores() bool { return c.Judge.Verdict == ReadVerdict }

// ReadsComparisons reports whether judgments are compared by reads instead of texts.
func (c *Config) ReadsComparisons() bool {
	return c.Wants(schemas.RoleJudge) && c.MetaJudge.Verdict == ReadVerdict
}

// Wants reports whether the run makes pairs for a role.
func (c Config) Wants(role string) bool { return slices.Contains(c.Roles, role) }
