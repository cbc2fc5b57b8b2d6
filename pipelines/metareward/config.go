// Package metareward is the pipeline of one Meta-Rewarding iteration: its configuration and
// its graph.
//
//	prompts ─► source.Read ─► infer.RunStages ─► pairs.ActorPairs ─► pairs.JudgePairs (─► pairs.BalancePairs) ─► sink.Write ─► sink.Commit
//	                                                    │                   ▲
//	                                                    └─ PositionCounts ──┘
//
// [Config] has every setting of a run, [Config.Validate] reports all invalid settings, and [Build]
// makes the graph. The texts, scores and choices of a run depend on the config's data settings, the
// prompts and the journal alone; see [Config.Data].
package metareward

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"coeval/datasets/prompts"
	"coeval/schemas"
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
	Verdicts string   `yaml:"verdicts"   json:"verdicts"   doc:"free, or enforced: servers that support it must end judgments and comparisons in a verdict"`
	Prompts  Prompts  `yaml:"prompts"    json:"prompts"`
	Output   Output   `yaml:"output"     json:"output"`
	// SharedStorage describes machines, not data.
	SharedStorage bool `yaml:"shared_storage" json:"shared_storage" doc:"local paths are the same folders on every machine of a cluster, as on NFS"`

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
	Paths   []string `yaml:"paths"          json:"paths"          doc:"files, globs and folders of JSONL, JSON arrays, CSV, TSV (.gz and .zst too) or Parquet"`
	Field   string   `yaml:"field"          json:"field"          doc:"path of the prompt, as text or body.messages: a string or a list of messages; empty finds the usual names"`
	IDField string   `yaml:"id_field"       json:"id_field"       doc:"field with an ID of your own; empty finds the usual names"`
	// DropLastAnswer and the slice are omitted from run.json at their defaults, so that its bytes
	// equal those of earlier versions.
	DropLastAnswer string  `yaml:"drop_last_answer" json:"drop_last_answer,omitempty" doc:"the answer with which a conversation ends is left out: auto reports how often, always does not, never makes the line bad"`
	Limit          int64   `yaml:"limit"          json:"limit"          doc:"number of distinct prompts to read, from the first; 0 reads all"`
	Sample         int64   `yaml:"sample"         json:"sample"         doc:"number of distinct prompts to draw; 0 takes all"`
	SampleSeed     int64   `yaml:"sample_seed"    json:"sample_seed"    doc:"decides which prompts are drawn"`
	Slice          string  `yaml:"slice"          json:"slice,omitempty" doc:"one of several equal parts that don't overlap, as 1/4, for example one for each iteration; empty takes all"`
	SliceSeed      int64   `yaml:"slice_seed"     json:"slice_seed,omitempty" doc:"decides which prompts are in which slice"`
	MaxBad         float64 `yaml:"max_bad_prompts" json:"max_bad_prompts" doc:"largest share of bad lines; a run with more does not begin"`
	MaxLineBytes   int     `yaml:"max_line_bytes" json:"max_line_bytes" doc:"a longer line is a bad one"`
}

// Output decides where the files go.
type Output struct {
	Dir             string `yaml:"dir"               json:"dir"               doc:"folder of the run and of its journal"`
	PromptsPerShard int64  `yaml:"prompts_per_shard" json:"prompts_per_shard" doc:"most prompts in a shard; the number of shards is the least power of two that keeps to it"`
}

// Worker has the defaults for roles without settings of their own.
type Worker struct {
	URLs     []string `yaml:"urls"        json:"urls"        doc:"bases of OpenAI-compatible servers, as http://host:8000/v1, for every role without its own"`
	Model    string   `yaml:"model"       json:"model"       doc:"model of every role without its own"`
	Revision string   `yaml:"revision"    json:"revision"    doc:"label that distinguishes checkpoints served under one name"`
	Access   `yaml:",inline"`
	CAFile   string `yaml:"ca_file,omitempty" json:"ca_file,omitempty" doc:"PEM file with a certificate authority for https servers, trusted in addition to the system's; for every role"`
}

// Access is what servers are sent beside a request. A role without urls of its own takes worker's,
// except for what it sets itself.
type Access struct {
	APIKeyEnv    string            `yaml:"api_key_env" json:"api_key_env" doc:"environment variable that holds the API key; a role without urls of its own uses the worker's where this is empty"`
	APIKeyFile   string            `yaml:"api_key_file" json:"api_key_file" doc:"file that holds the API key, instead of a variable"`
	APIKeyHeader string            `yaml:"api_key_header,omitempty" json:"api_key_header,omitempty" doc:"header that carries the key as it is, as api-key; empty sends Authorization: Bearer KEY"`
	Headers      map[string]string `yaml:"headers,omitempty" json:"headers,omitempty" doc:"more headers, as {X-Org: lab}; a value env:NAME or file:PATH is read there and never shown"`
	Query        map[string]string `yaml:"query,omitempty" json:"query,omitempty" doc:"parameters of the URL, as {api-version: 2024-10-21}; a value env:NAME or file:PATH is read there and never shown"`
}

// Role configures one role: its model, its servers and its sampling.
type Role struct {
	URLs        []string `yaml:"urls"        json:"urls"        doc:"servers of this role; empty takes worker.urls"`
	Model       string   `yaml:"model"       json:"model"       doc:"model of this role; empty takes worker.model"`
	Revision    string   `yaml:"revision"    json:"revision"    doc:"checkpoint of this role; empty takes worker.revision"`
	Access      `yaml:",inline"`
	Temperature *float64       `yaml:"temperature" json:"temperature" doc:"sampling temperature; null sends none, for servers that refuse it"`
	TopP        *float64       `yaml:"top_p"       json:"top_p"       doc:"nucleus sampling: the share of probability that tokens are drawn from; null sends none"`
	MaxTokens   int            `yaml:"max_tokens"  json:"max_tokens"  doc:"most tokens of a text; a text that is cut off does not count; 0 sends no limit"`
	Stop        Texts          `yaml:"stop"        json:"stop"        doc:"texts that end a generation"`
	ExtraBody   map[string]any `yaml:"extra_body"  json:"extra_body"  doc:"fields sent unchanged, as top_k or chat_template_kwargs; run.json publishes them, so no secrets"`
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
	Template string `yaml:"template" json:"template" doc:"file with a Go text/template for the judge's prompt; empty is the built-in one, and builtin:2026-11 the one before it"`
	// The meta-judge sees the Rubric too.
	Rubric string `yaml:"rubric" json:"rubric" doc:"file with the rubric that .Rubric shows to judge and meta-judge; empty is the built-in one"`
	// Scale and Pattern decide how a judgment is parsed.
	Scale   [2]float64 `yaml:"scale"   json:"scale"   doc:"lowest and highest score in points, within 0 to 100; the built-in rubric needs [0, 5]"`
	Pattern string     `yaml:"pattern" json:"pattern" doc:"regular expression whose one group is the score, in its last match; empty reads a score line"`
	// Verdict and Reads decide how responses are scored.
	Verdict string `yaml:"verdict" json:"verdict" doc:"reasoned: scores come from judgments in words; read: from the probabilities of one token, and only the contested response gets the n judgments"`
	Reads   int    `yaml:"reads"   json:"reads"   doc:"under verdict: read, reads of a response; more than 1 helps only where a server answers equal requests differently"`
	// Calibration changes no request.
	Calibration string `yaml:"calibration" json:"calibration" doc:"file of coeval calibrate that maps mean scores to people's scale; empty leaves them as they are"`
}

// MetaRole configures the meta-judge. It has no n: the meta-judge is asked once for each ordered pair
// of judgments.
type MetaRole struct {
	Role     `yaml:",inline"`
	Template string `yaml:"template" json:"template" doc:"file with a Go text/template for the meta-judge's prompt; empty is the built-in one, and builtin:2026-11 the one before it"`
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
	Pairs                pairs.ActorMethod `yaml:"pairs"                  json:"pairs,omitempty"        doc:"tiers: both responses of an actor pair are the actor's; temporal: past may give the rejected one, and in phase 2 future the chosen one"`
	Phase                int               `yaml:"phase"                  json:"phase,omitempty"        doc:"of temporal: 1, or 2 where future answers too"`
	Rho                  float64           `yaml:"rho"                    json:"rho"                    doc:"width of the two score tiers in which length decides, 0 to below 0.5"`
	MinMargin            float64           `yaml:"min_margin"             json:"min_margin"             doc:"smallest score difference of an actor pair, in points"`
	MaxChosenChars       int               `yaml:"max_chosen_chars"       json:"max_chosen_chars"       doc:"an actor pair with a longer chosen response is dropped; 0 is off"`
	MaxJudgmentChars     int               `yaml:"max_judgment_chars"     json:"max_judgment_chars"     doc:"a judge pair with a longer chosen judgment is dropped; 0 is off"`
	MinJudgments         int               `yaml:"min_judgments"          json:"min_judgments"          doc:"parsed judgments that a response needs to have a score"`
	MinMetaJudgments     int               `yaml:"min_meta_judgments"     json:"min_meta_judgments"     doc:"distinct parsed judgments that the contested response needs to be compared"`
	PositionWeights      pairs.WeightsMode `yaml:"position_weights"       json:"position_weights"       doc:"where the position weights come from: run, response, fixed"`
	FixedPositionWeights [2]float64        `yaml:"fixed_position_weights" json:"fixed_position_weights" doc:"weights of a win in first and in second place, for position_weights: fixed"`
	Rating               string            `yaml:"rating"                 json:"rating,omitempty"       doc:"how judgments are rated: elo, or scores, which expects judgments with near scores to be about equally good; auto is scores under budget.comparisons: settled and elo otherwise"`
	EloLambda            float64           `yaml:"elo_lambda"             json:"elo_lambda"             doc:"penalty that keeps Elo scores finite"`
	HideScores           bool              `yaml:"hide_scores"            json:"hide_scores"            doc:"show the meta-judge the judgments without their score lines"`
	DropEqualScores      bool              `yaml:"drop_equal_scores"      json:"drop_equal_scores"      doc:"drop judge pairs whose judgments give the same score"`
	JudgeClassCap        float64           `yaml:"judge_class_cap"        json:"judge_class_cap,omitempty"    doc:"largest share of the judge pairs whose chosen judgments have one score, above 0 to 1; 0 is off"`
	BalanceDirections    float64           `yaml:"balance_directions"     json:"balance_directions,omitempty" doc:"largest difference of judge pairs whose chosen judgment scores higher and lower, as a share of both, above 0 to below 1; 0 is off"`
	StripReasoning       bool              `yaml:"strip_reasoning"        json:"strip_reasoning"        doc:"remove thoughts before a response is judged, a score parsed or a pair written"`
	ReadMinMass          float64           `yaml:"read_min_mass"          json:"read_min_mass,omitempty" doc:"a read is unparsed if the probabilities of its labels sum to less, above 0 to 1"`
	ReasoningTags        Texts             `yaml:"reasoning_tags"         json:"reasoning_tags,omitempty" doc:"tags around thoughts in addition to the known ones, as <analysis> or \"((plan)) ((done))\""`
}

// Budget bounds the number of calls. The zero value sets no bound.
type Budget struct {
	Comparisons    string  `yaml:"comparisons"     json:"comparisons"     doc:"all, or settled: ask the comparisons of a prompt in rounds until the choice of its judge pair is settled"`
	Regret         float64 `yaml:"regret"          json:"regret"          doc:"a choice is settled when its expected regret is at most this share of the expected distance between the best and the worst judgment; a smaller share asks more"`
	MaxComparisons int     `yaml:"max_comparisons" json:"max_comparisons" doc:"most comparisons of a prompt under comparisons: settled, both orders counted"`
}

// The allowed values of Budget.Comparisons.
const (
	AllComparisons     = "all"
	SettledComparisons = "settled"
)

// Client configures the client of the servers. It does not affect texts.
type Client struct {
	MaxInFlight       int           `yaml:"max_in_flight"   json:"max_in_flight"   doc:"most generations in flight at each server; 0 lets the run find the number that keeps it busy"`
	Window            int           `yaml:"window"          json:"window"          doc:"prompts in progress at a time; 0 lets the run find the number that keeps the servers busy"`
	RequestsPerMinute int           `yaml:"requests_per_minute" json:"requests_per_minute" doc:"most requests to each server in a minute; 0 follows its headers"`
	TokensPerMinute   int           `yaml:"tokens_per_minute" json:"tokens_per_minute" doc:"most tokens that each server reads and writes in a minute; 0 follows its headers"`
	RequestTimeout    time.Duration `yaml:"request_timeout" json:"request_timeout" doc:"longest wait for one request; 0 derives it from its tokens and the server's rate, with ample room"`
	Tries             int           `yaml:"tries"           json:"tries"           doc:"most attempts of a call that servers fail, before it counts as a failure"`
	Patience          time.Duration `yaml:"patience"        json:"patience"        doc:"how long a run waits while no server answers at all"`
}

// Simulate replaces the servers by the simulated worker in this process.
type Simulate struct {
	Enabled    bool          `yaml:"enabled"     json:"enabled"     doc:"ask the simulated worker; no model, no GPU"`
	Slots      int           `yaml:"slots"       json:"slots"       doc:"choices that it generates at a time"`
	Latency    time.Duration `yaml:"latency"     json:"latency"     doc:"mean time for a choice"`
	World      string        `yaml:"world"       json:"world"       doc:"quality of its judges: mild, moderate, noisy, bad"`
	Seed       uint64        `yaml:"seed"        json:"seed"        doc:"seed of its hidden truth"`
	FreshTexts bool          `yaml:"fresh_texts" json:"fresh_texts" doc:"answer each repetition of a request with another text"`
	MaxN       int           `yaml:"max_n"       json:"max_n"       doc:"refuse requests of more choices; 0 takes all"`
	Faults     string        `yaml:"faults"      json:"faults"      doc:"faults to inject, as 429=0.1,reset=0.02"`
	// ReadDiscrimination, ReadNoise and ReadMass are how well it reads.
	ReadDiscrimination float64 `yaml:"read_discrimination" json:"read_discrimination" doc:"how much its reads tell of the truth, against 1 for its reasoned verdicts; 0 to 1"`
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
	actor, judge := role, role
	actor.MaxTokens, actor.Temperature, actor.TopP = 2048, new(0.8), new(0.95)
	judge.Temperature, judge.TopP = new(0.8), new(0.95)
	return Config{
		Roles: []string{schemas.RoleActor, schemas.RoleJudge}, Seed: new(int64(0)), Verdicts: FreeVerdicts,
		Prompts: Prompts{DropLastAnswer: prompts.AutoDrop, MaxBad: 0.01, MaxLineBytes: 1 << 20},
		Output:  Output{PromptsPerShard: 1250},
		Actor:   ActorRole{Role: actor, N: 7}, Judge: JudgeRole{Role: judge, N: 11, Scale: [2]float64{0, 5}, Verdict: ReasonedVerdict, Reads: 1}, MetaJudge: MetaRole{Role: role, Verdict: ReasonedVerdict},
		Method: Method{
			Pairs: pairs.Tiers, Phase: 1, Rho: 0.32, MinJudgments: 2, MinMetaJudgments: 3, PositionWeights: pairs.RunWeights,
			FixedPositionWeights: [2]float64{0.5, 0.5}, Rating: AutoRating, EloLambda: 0.1, DropEqualScores: true, StripReasoning: true,
			ReadMinMass: stage.DefaultMinMass,
		},
		Budget:   Budget{Comparisons: AllComparisons, Regret: rating.DefaultRegret, MaxComparisons: rating.DefaultMaxComparisons},
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
	}{Roles: slices.Sorted(slices.Values(c.Roles)), Seed: c.Seed, Prompts: c.Prompts, PerShard: c.Output.PromptsPerShard, Method: c.method()}
	if data.Prompts.DropLastAnswer == prompts.AutoDrop {
		data.Prompts.DropLastAnswer = ""
	}
	if data.Method.Pairs == pairs.Tiers {
		data.Method.Pairs, data.Method.Phase = "", 0
	}
	resolved, err := c.resolve()
	if err != nil {
		return nil, err
	}
	if data.Actor, err = withoutPlace(resolved.generate); err != nil {
		return nil, err
	}
	if data.Judge, err = withoutPlace(resolved.judge); err != nil {
		return nil, err
	}
	if c.wants(schemas.RoleJudge) {
		if data.MetaJudge, err = withoutPlace(resolved.meta); err != nil {
			return nil, err
		}
	}
	data.Calibration = resolved.score.Calibration
	b, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("metareward: %w", err)
	}
	return b, nil
}

// method returns the method with its rating decided. It is empty for elo, so that run.json has the
// bytes of earlier versions.
func (c *Config) method() Method {
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

// ReadsScores reports whether responses are scored by reads instead of judgments.
func (c *Config) ReadsScores() bool { return c.Judge.Verdict == ReadVerdict }

// ReadsComparisons reports whether judgments are compared by reads instead of texts.
func (c *Config) ReadsComparisons() bool {
	return c.wants(schemas.RoleJudge) && c.MetaJudge.Verdict == ReadVerdict
}

func (c Config) wants(role string) bool { return slices.Contains(c.Roles, role) }
