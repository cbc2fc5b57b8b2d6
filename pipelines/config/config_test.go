package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/prompts"
	"coeval/schemas"
	"coeval/transforms/judge"
	"coeval/transforms/pairs"
)

// valid is the default config with what has no default.
func valid() Config {
	c := Default()
	c.Prompts.Paths, c.Output.Dir = []string{"p.jsonl"}, "out"
	c.Worker.URLs, c.Worker.Model = []string{"http://host:8000/v1"}, "m"
	return c
}

// keys returns the keys of the problems of a config.
func keys(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not joined", err)
	}
	var all []string
	for _, e := range joined.Unwrap() {
		var p *Problem
		if !errors.As(e, &p) {
			t.Fatalf("%v is no problem", e)
		}
		if p.Allowed == "" || !strings.HasPrefix(p.Error(), p.Key+" is ") {
			t.Errorf("the problem reads %q", p)
		}
		all = append(all, p.Key)
	}
	return all
}

// All that is wrong is told at once, each problem once.
func TestValidateTellsAll(t *testing.T) {
	got := keys(t, Config{Method: Method{Rho: 0.7}, Simulate: Simulate{Faults: "x"}}.Validate())
	slices.Sort(got)
	want := []string{
		"actor.n",
		"budget.comparisons", "budget.distance", "budget.judgments", "budget.max_comparisons", "budget.max_judgments", "budget.regret",
		"client.patience", "client.tries",
		"judge.n", "judge.reads", "judge.scale", "judge.verdict", "meta_judge.verdict",
		"method.elo_lambda", "method.fixed_position_weights", "method.min_judgments", "method.min_meta_judgments",
		"method.pairs", "method.phase", "method.position_weights", "method.rating", "method.read_min_mass", "method.rho",
		"output.dir", "output.prompts_per_shard",
		"prompts.max_line_bytes", "prompts.paths",
		"roles",
		"simulate.faults", "simulate.slots", "simulate.world",
		"verdicts", "worker.model", "worker.urls",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The simulated worker needs neither model nor URL, and a run for the actor alone no
// meta-judge.
func TestValidateAsksForWhatIsNeeded(t *testing.T) {
	c := valid()
	c.Worker = Worker{}
	if diff := cmp.Diff([]string{"worker.model", "worker.urls"}, keys(t, c.Validate())); diff != "" {
		t.Errorf("without a worker: %s", diff)
	}
	c.Actor.Model, c.Actor.URLs, c.Judge.Model = "m", []string{"http://own/v1"}, "m"
	if diff := cmp.Diff([]string{"meta_judge.model", "judge.urls", "meta_judge.urls"}, keys(t, c.Validate())); diff != "" {
		t.Errorf("without a worker, but with some of the roles' own: %s", diff)
	}
	c.Actor.Model, c.Actor.URLs, c.Judge.Model = "", nil, ""
	c.Roles = []string{schemas.RoleActor}
	c.Simulate.Enabled = true
	if err := c.Validate(); err != nil {
		t.Errorf("simulated: %v", err)
	}
	for _, urls := range []*[]string{&c.Worker.URLs, &c.Actor.URLs, &c.Judge.URLs, &c.MetaJudge.URLs} {
		*urls = []string{"http://host/v1"}
		if diff := cmp.Diff([]string{"simulate.enabled"}, keys(t, c.Validate())); diff != "" {
			t.Errorf("simulated with URLs: %s", diff)
		}
		*urls = nil
	}
	c = valid()
	c.Worker = Worker{}
	for _, r := range []*Role{&c.Actor.Role, &c.Judge.Role, &c.MetaJudge.Role} {
		r.URLs, r.Model = []string{"http://own/v1"}, "own"
	}
	if err := c.Validate(); err != nil {
		t.Errorf("every role has its own: %v", err)
	}
}

// Reads ask for one token without a constraint, also where verdicts are enforced; nothing of them is in the settings
// of a run without. What would constrain them is refused.
func TestReads(t *testing.T) {
	c := valid()
	plain, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(plain), "read") {
		t.Errorf("a run without reads has %s", plain)
	}
	c.Verdicts, c.Judge.Verdict, c.MetaJudge.Verdict, c.Judge.Reads = EnforcedVerdicts, ReadVerdict, ReadVerdict, 3
	r, err := c.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Meta.Role; m.Read == nil || m.MaxTokens != 1 || m.Verdict != nil || m.Read.MinMass != 0.5 {
		t.Errorf("the meta-judge is asked as %+v", m)
	}
	if r.Judge.Role.Verdict == nil || r.Judge.Role.Read != nil || r.Judge.Reads != 3 || !r.Score.Reads {
		t.Errorf("the contested response is judged by %+v", r.Judge)
	}
	var names []string
	chain, err := c.Chain()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range chain {
		names = append(names, s.Name)
	}
	if want := []string{"generate", "judge_reads", "score", "judge", "meta"}; !slices.Equal(names, want) {
		t.Errorf("the chain is %v, want %v", names, want)
	}
	c.Judge.ExtraBody = map[string]any{"grammar": "x", "top_logprobs": 5}
	c.MetaJudge.ExtraBody = map[string]any{"logit_bias": map[string]any{}}
	c.Method.ReadMinMass, c.Judge.Reads = 1.5, 0
	want := []string{"judge.extra_body.grammar", "judge.extra_body.top_logprobs", "judge.reads", "meta_judge.extra_body.logit_bias", "method.read_min_mass"}
	c.Verdicts = FreeVerdicts
	got := keys(t, c.Validate())
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTemplates(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "t.tmpl")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := "{{.Rubric}}{{range .Conversation}}{{.}}{{end}}{{.Response}}"
	for _, tt := range []struct {
		judge, meta string
		want        []string
	}{
		{good, good + "{{.JudgmentA}}{{.JudgmentB}}", nil},
		{"{{.Nothing}}", "{{", []string{"judge.template", "meta_judge.template"}},
	} {
		c := valid()
		c.Judge.Template, c.MetaJudge.Template = file(tt.judge), file(tt.meta)
		if diff := cmp.Diff(tt.want, keys(t, c.Validate())); diff != "" {
			t.Errorf("%q and %q: %s", tt.judge, tt.meta, diff)
		}
	}
	// What decides the data is the text, not where it lies.
	c := valid()
	c.Judge.Template = file(good)
	first := data(t, c)
	if !strings.Contains(first, "{{.Response}}") || strings.Contains(first, c.Judge.Template) {
		t.Errorf("data has the name of the template, or lacks its text: %s", first)
	}
	c.Judge.Template = file(good + "!")
	if data(t, c) == first {
		t.Error("another template makes the same data")
	}
}

func TestJudgingSettings(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const bare = "{{.Question}}{{.Response}}"
	for name, tt := range map[string]struct {
		change func(c *Config)
		want   []string
	}{
		"a scale without its rubric":        {func(c *Config) { c.Judge.Scale = [2]float64{1, 10} }, []string{"judge.scale"}},
		"a scale with its rubric":           {func(c *Config) { c.Judge.Scale, c.Judge.Rubric = [2]float64{1, 10}, file("ten points") }, nil},
		"a scale the wrong way":             {func(c *Config) { c.Judge.Scale, c.Judge.Rubric = [2]float64{10, 1}, file("ten points") }, []string{"judge.scale"}},
		"a scale too wide":                  {func(c *Config) { c.Judge.Scale, c.Judge.Rubric = [2]float64{0, 101}, file("much") }, []string{"judge.scale"}},
		"no rubric file":                    {func(c *Config) { c.Judge.Rubric = "no-such-file" }, []string{"judge.rubric"}},
		"patterns of the built-in ends":     {func(c *Config) { c.Judge.Pattern, c.MetaJudge.Pattern = `Score: (\d)`, `(A|B)$` }, nil},
		"patterns of other templates":       {func(c *Config) { c.Judge.Pattern, c.MetaJudge.Pattern = `\[\[(\d)\]\]`, `\[\[(A|B)\]\]` }, []string{"judge.pattern", "meta_judge.pattern"}},
		"a pattern of a rubric":             {func(c *Config) { c.Judge.Pattern, c.Judge.Rubric = `\[\[(\d)\]\]`, file("end with [[4]]") }, nil},
		"bad patterns":                      {func(c *Config) { c.Judge.Pattern, c.MetaJudge.Pattern = "(", "x" }, []string{"judge.pattern", "meta_judge.pattern"}},
		"patterns beside enforced verdicts": {func(c *Config) { c.Judge.Pattern, c.Verdicts = "(.)", EnforcedVerdicts }, []string{"judge.pattern"}},
		"a template with its own rubric":    {func(c *Config) { c.Judge.Template = file(bare) }, []string{"judge.template"}},
		"and a rubric for the meta-judge":   {func(c *Config) { c.Judge.Template, c.Judge.Rubric = file(bare), file("mine") }, nil},
		"and no meta-judge":                 {func(c *Config) { c.Judge.Template, c.Roles = file(bare), []string{schemas.RoleActor} }, nil},
		"a template that shows .Rubric":     {func(c *Config) { c.Judge.Template = file(bare + "{{.Rubric}}") }, nil},
		"the prompts before":                {func(c *Config) { c.Judge.Template, c.MetaJudge.Template = "builtin:2026-11", "builtin:2026-11" }, nil},
		"balance":                           {func(c *Config) { c.Method.JudgeClassCap, c.Method.BalanceDirections = 0.4, 0.1 }, nil},
		"balance out of range":              {func(c *Config) { c.Method.JudgeClassCap, c.Method.BalanceDirections = 1.1, 1 }, []string{"method.judge_class_cap", "method.balance_directions"}},
		"an unknown built-in":               {func(c *Config) { c.Judge.Template = "builtin:2025-01" }, []string{"judge.template"}},
	} {
		c := valid()
		tt.change(&c)
		if diff := cmp.Diff(tt.want, keys(t, c.Validate())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The rubric of the judge is the meta-judge's, whichever built-in templates they have.
func TestRubricIsShared(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rubric.txt")
	if err := os.WriteFile(name, []byte("my own rubric"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := valid()
	c.Judge.Rubric = name
	r, err := c.Resolve()
	if err != nil || r.Judge.Rubric != "my own rubric" || r.Meta.Rubric != "my own rubric" {
		t.Errorf("the rubrics are %q and %q, %v", r.Judge.Rubric, r.Meta.Rubric, err)
	}
	c = valid()
	c.Judge.Template = judge.BuiltIn2026November
	r, err = c.Resolve()
	if err != nil || r.Meta.Rubric != judge.BuiltInRubric(judge.BuiltIn2026November) {
		t.Errorf("the meta-judge's rubric is %q, %v", r.Meta.Rubric, err)
	}
}

// The numbers of the paper's iterations, from DESIGN.md: what is not named is the default.
func TestPresets(t *testing.T) {
	both, actor := []string{schemas.RoleActor, schemas.RoleJudge}, []string{schemas.RoleActor}
	// Yuan et al.: four responses and three judgments at temperature 0.7 and top_p 0.9.
	own := func(c *Config) {
		c.Actor.N, c.Judge.N = 4, 3
		c.Actor.Temperature, c.Actor.TopP = new(0.7), new(0.9)
		c.Judge.Temperature, c.Judge.TopP = new(0.7), new(0.9)
	}
	tests := map[string]struct {
		rho                float64
		response, judgment int
		roles              []string
		change             func(*Config)
	}{
		"":               {0.32, 0, 0, both, nil},
		"paper-1":        {0, 2500, 1100, both, nil},
		"paper-2":        {0.32, 0, 1000, both, nil},
		"paper-3":        {0.32, 0, 0, actor, nil},
		"paper-4":        {0.4, 0, 0, actor, nil},
		"self-rewarding": {0, 0, 0, actor, own},
		"temporal-1":     {0, 0, 0, actor, func(c *Config) { own(c); c.Method.Pairs = pairs.Temporal }},
		"temporal-2":     {0, 0, 0, actor, func(c *Config) { own(c); c.Method.Pairs, c.Method.Phase = pairs.Temporal, 2 }},
	}
	for name, tt := range tests {
		c, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		want := Default()
		want.Preset, want.Roles = name, tt.roles
		want.Method.Rho, want.Method.MaxChosenChars, want.Method.MaxJudgmentChars = tt.rho, tt.response, tt.judgment
		if tt.change != nil {
			tt.change(&want)
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(tests))[1:], Presets()); diff != "" {
		t.Error(diff)
	}
	var p *Problem
	if _, err := Preset("paper-5"); !errors.As(err, &p) || p.Key != "preset" {
		t.Errorf("an unknown preset gives %v", err)
	}
}

// DESIGN.md's defaults.
func TestDefault(t *testing.T) {
	c := Default()
	type numbers struct {
		K, N, Actor, Judge, Meta int
		Temperature, TopP        float64
		Rho, Lambda              float64
		MinJudgments, MinMeta    int
		Weights                  pairs.WeightsMode
		Strip, DropEqual, Hide   bool
		Tries                    int
	}
	got := numbers{
		c.Actor.N, c.Judge.N, c.Actor.MaxTokens, c.Judge.MaxTokens, c.MetaJudge.MaxTokens, *c.MetaJudge.Temperature, *c.MetaJudge.TopP,
		c.Method.Rho, c.Method.EloLambda, c.Method.MinJudgments, c.Method.MinMetaJudgments, c.Method.PositionWeights,
		c.Method.StripReasoning, c.Method.DropEqualScores, c.Method.HideScores, c.Client.Tries,
	}
	want := numbers{7, 11, 2048, 1024, 1024, 0.8, 0.95, 0.32, 0.1, 2, 3, pairs.RunWeights, true, true, false, 5}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func data(t *testing.T, c Config) string {
	t.Helper()
	b, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Data holds what decides the data, and not where things are, how fast workers are asked, or
// where a key is found: run.json is the same wherever and however a run was made.
func TestData(t *testing.T) {
	first := data(t, valid())
	same := map[string]func(*Config){
		"out":            func(c *Config) { c.Output.Dir = "elsewhere-4711" },
		"url":            func(c *Config) { c.Worker.URLs = []string{"http://elsewhere-4711/v1"} },
		"role's url":     func(c *Config) { c.Judge.URLs = []string{"http://elsewhere-4711/v1"} },
		"key":            func(c *Config) { c.Worker.APIKeyEnv = "KEY_4711" },
		"key file":       func(c *Config) { c.Worker.APIKeyFile = "file-4711" },
		"header":         func(c *Config) { c.Worker.Headers = map[string]string{"X-4711": "env:KEY_4711"} },
		"query":          func(c *Config) { c.Actor.Query = map[string]string{"x": "4711"} },
		"role's key":     func(c *Config) { c.Actor.APIKeyEnv = "KEY_4711" },
		"client":         func(c *Config) { c.Client = Client{4711, 4711, 4711, 4711, 4711, 47, 4711} },
		"simulate":       func(c *Config) { c.Simulate = Simulate{Slots: 4711, World: "bad"} }, // not enabled
		"preset's name":  func(c *Config) { c.Preset = "paper-2" },
		"model by role":  func(c *Config) { c.Worker.Model, c.Actor.Model, c.Judge.Model, c.MetaJudge.Model = "", "m", "m", "m" },
		"no stop at all": func(c *Config) { c.Actor.Stop = []string{} },
		"roles' order":   func(c *Config) { c.Roles = []string{schemas.RoleJudge, schemas.RoleActor} },
	}
	for name, change := range same {
		c := valid()
		change(&c)
		got := data(t, c)
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("%s changes the data: %s", name, diff)
		}
		if strings.Contains(got, "4711") {
			t.Errorf("%s is in the data: %s", name, got)
		}
	}
	other := map[string]func(*Config){
		"roles":       func(c *Config) { c.Roles = []string{schemas.RoleJudge} },
		"seed":        func(c *Config) { c.Seed = new(int64(1)) },
		"no seed":     func(c *Config) { c.Seed = nil },
		"no top_p":    func(c *Config) { c.Judge.TopP = nil },
		"paths":       func(c *Config) { c.Prompts.Paths = []string{"q.jsonl"} },
		"limit":       func(c *Config) { c.Prompts.Limit = 3 },
		"slice":       func(c *Config) { c.Prompts.Slice = "1/4" },
		"answers":     func(c *Config) { c.Prompts.DropLastAnswer = prompts.NeverDrop },
		"shards":      func(c *Config) { c.Output.PromptsPerShard = 3 },
		"model":       func(c *Config) { c.Worker.Model = "n" },
		"revision":    func(c *Config) { c.Worker.Revision = "r" },
		"K":           func(c *Config) { c.Actor.N = 3 },
		"N":           func(c *Config) { c.Judge.N = 3 },
		"temperature": func(c *Config) { c.MetaJudge.Temperature = new(0.0) },
		"stop":        func(c *Config) { c.Judge.Stop = []string{"x"} },
		"extra body":  func(c *Config) { c.Judge.ExtraBody = map[string]any{"top_k": 3} },
		"verdicts":    func(c *Config) { c.Verdicts = EnforcedVerdicts },
		"rho":         func(c *Config) { c.Method.Rho = 0.1 },
		"weights":     func(c *Config) { c.Method.PositionWeights = pairs.ResponseWeights },
		"simulated":   func(c *Config) { c.Simulate.Enabled = true },
		"world":       func(c *Config) { c.Simulate.Enabled, c.Simulate.World = true, "bad" },
		"world seed":  func(c *Config) { c.Simulate.Enabled, c.Simulate.Seed = true, 1 },
		"fresh texts": func(c *Config) { c.Simulate.Enabled, c.Simulate.FreshTexts = true, true },
		"utf8 faults": func(c *Config) { c.Simulate.Enabled, c.Simulate.Faults = true, "utf8=0.1" },
	}
	seen := map[string]string{first: "the default"}
	for name, change := range other {
		c := valid()
		change(&c)
		got := data(t, c)
		if as := seen[got]; as != "" {
			t.Errorf("%s makes the same data as %s", name, as)
		}
		seen[got] = name
	}
}

// The error of an unknown preset and of a value that is no text read as sentences.
func TestProblemsRead(t *testing.T) {
	for want, p := range map[string]*Problem{
		"method.rho is 0.7; allowed is less": {Key: "method.rho", Value: "0.7", Allowed: "less"},
		"output.dir is missing; give some":   {Key: "output.dir", Allowed: "some"},
	} {
		if got := fmt.Sprint(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Settings with which a role can never get a pair are refused, and those beside them are not.
func TestPairsArePossible(t *testing.T) {
	both, actor, judge := []string{schemas.RoleActor, schemas.RoleJudge}, []string{schemas.RoleActor}, []string{schemas.RoleJudge}
	for _, tt := range []struct {
		roles           []string
		k, n, min, meta int
		want            []string
	}{
		{both, 2, 3, 2, 3, nil},
		{both, 1, 3, 2, 3, []string{"actor.n"}},
		{judge, 1, 3, 2, 3, nil}, // the only response is contested
		{both, 2, 1, 2, 3, []string{"judge.n"}},
		{both, 2, 2, 2, 3, []string{"judge.n"}},
		{actor, 2, 2, 2, 3, nil},
		{actor, 2, 1, 1, 3, nil}, // a mean of one judgment is a score
		{actor, 2, 4, 5, 3, []string{"judge.n"}},
		{judge, 7, 4, 2, 5, []string{"judge.n"}},
	} {
		c := valid()
		c.Roles, c.Actor.N, c.Judge.N, c.Method.MinJudgments, c.Method.MinMetaJudgments = tt.roles, tt.k, tt.n, tt.min, tt.meta
		if diff := cmp.Diff(tt.want, keys(t, c.Validate())); diff != "" {
			t.Errorf("%+v: %s", tt, diff)
		}
	}
}

// tenPoints sets a least margin with a scale of 1 to 10, whose width is 9.
// A key in a wrong place is refused, and is neither in the sentence nor in the config that is printed.
func TestMisplacedKeys(t *testing.T) {
	const secret = "sk-abcdefgh-12345678"
	for name, change := range map[string]func(*Config){
		"worker.api_key_env":       func(c *Config) { c.Worker.APIKeyEnv = secret },
		"worker.api_key_file":      func(c *Config) { c.Worker.APIKeyFile = secret },
		"judge.api_key_env":        func(c *Config) { c.Judge.APIKeyEnv = "ABCDEFGHIJ0123456789abcdef" },
		"actor.api_key_env":        func(c *Config) { c.Actor.APIKeyEnv = "not a name: " + secret },
		"worker.urls[0]":           func(c *Config) { c.Worker.URLs = []string{"https://user:" + secret + "@host/v1"} },
		"judge.urls[0]":            func(c *Config) { c.Judge.URLs = []string{"https://swordfish-4711@host/v1"} },
		"actor.urls[0]":            func(c *Config) { c.Actor.URLs = []string{"https://host/v1?key=swordfish-4711"} },
		"meta_judge.urls[0]":       func(c *Config) { c.MetaJudge.URLs = []string{"https://host/v1#swordfish-4711"} },
		"meta_judge.urls[0] ":      func(c *Config) { c.MetaJudge.URLs = []string{"https://host/" + secret + "/v1"} },
		"meta_judge.urls[0]  ":     func(c *Config) { c.MetaJudge.URLs = []string{"host swordfish-4711@x"} },
		"judge.extra_body.api_key": func(c *Config) { c.Judge.ExtraBody = map[string]any{"api_key": "swordfish-4711"} },
		"judge.extra_body.a.b[1].token": func(c *Config) {
			c.Judge.ExtraBody = map[string]any{"a": map[string]any{"b": []any{1, map[string]any{"token": "swordfish-4711"}}}}
		},
		"judge.extra_body.user": func(c *Config) { c.Judge.ExtraBody = map[string]any{"user": secret} },
	} {
		c := valid()
		change(&c)
		err := c.Validate()
		if diff := cmp.Diff([]string{strings.TrimSpace(name)}, keys(t, err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		printed := fmt.Sprintf("%v %+v", err, c.WithoutSecrets())
		for _, s := range []string{secret, "swordfish", "ABCDEFGHIJ0123456789"} {
			if strings.Contains(printed, s) {
				t.Errorf("%s: the key is shown: %s", name, printed)
			}
		}
	}
	c := valid()
	c.Worker.APIKeyEnv, c.Judge.APIKeyFile, c.Actor.ExtraBody = "OPENAI_API_KEY", "/run/secrets/key_of_the_judge_server", map[string]any{"prompt_cache_key": "a", "min_tokens": 3}
	c.Judge.URLs = []string{"http://host/v1"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(fmt.Sprintf("%+v", c.Worker), fmt.Sprintf("%+v", c.WithoutSecrets().Worker)); diff != "" {
		t.Error(diff)
	}
}

func TestReasoningTags(t *testing.T) {
	c := valid()
	c.Method.ReasoningTags = Texts{"<analysis>", "((plan)) ((done))"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	r, err := c.Resolve()
	if err != nil || len(r.Generate.Role.ReasoningTags) != 2 || len(r.Judge.Role.ReasoningTags) != 2 || len(r.Meta.Role.ReasoningTags) != 2 {
		t.Errorf("the roles have other tags: %v", err)
	}
	c.Method.ReasoningTags = Texts{"<"}
	if diff := cmp.Diff([]string{"method.reasoning_tags"}, keys(t, c.Validate())); diff != "" {
		t.Error(diff)
	}
}
