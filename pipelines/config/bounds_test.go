package config_test

import (
	"math"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/go-cmp/cmp"

	"coeval/datasets/prompts"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/schemas"
	"coeval/transforms/pairs"
)

// Each key is allowed up to its bounds and not beyond. An allowed value makes a graph.
func TestBounds(t *testing.T) {
	tests := []struct {
		key  string
		good []func(*config.Config)
		bad  []func(*config.Config)
	}{
		{"preset", funcs(func(c *config.Config, s string) { c.Preset = s }, "", "paper-1", "paper-4"), funcs(func(c *config.Config, s string) { c.Preset = s }, "paper-5", "Paper-1")},
		{"output.dir", nil, funcs(func(c *config.Config, s string) { c.Output.Dir = s }, "")},
		{"output.prompts_per_shard", funcs(func(c *config.Config, n int64) { c.Output.PromptsPerShard = n }, 1, 1<<40), funcs(func(c *config.Config, n int64) { c.Output.PromptsPerShard = n }, 0, -1)},
		{"prompts.paths", nil, []func(*config.Config){func(c *config.Config) { c.Prompts.Paths = nil }}},
		{"prompts.limit", funcs(func(c *config.Config, n int64) { c.Prompts.Limit = n }, 0, 1), funcs(func(c *config.Config, n int64) { c.Prompts.Limit = n }, -1)},
		{"prompts.sample", funcs(func(c *config.Config, n int64) { c.Prompts.Sample = n }, 0, 1), funcs(func(c *config.Config, n int64) { c.Prompts.Sample = n }, -1)},
		{"prompts.slice", funcs(func(c *config.Config, s string) { c.Prompts.Slice = s }, "", "1/1", "4/4"), funcs(func(c *config.Config, s string) { c.Prompts.Slice = s }, "0/4", "5/4", "2", "a/b")},
		{"prompts.drop_last_answer", funcs(func(c *config.Config, s string) { c.Prompts.DropLastAnswer = s }, "auto", "always", "never"), funcs(func(c *config.Config, s string) { c.Prompts.DropLastAnswer = s }, "yes")},
		{"prompts.max_bad_prompts", floats(func(c *config.Config, x float64) { c.Prompts.MaxBad = x }, 0, 1), floats(func(c *config.Config, x float64) { c.Prompts.MaxBad = x }, -0.01, 1.01, math.NaN())},
		{"prompts.max_line_bytes", ints(func(c *config.Config, n int) { c.Prompts.MaxLineBytes = n }, 100, 64<<20), ints(func(c *config.Config, n int) { c.Prompts.MaxLineBytes = n }, 99, 64<<20+1)},
		{"actor.n", ints(func(c *config.Config, n int) { c.Actor.N = n }, 2, 256), ints(func(c *config.Config, n int) { c.Actor.N = n }, 0, 1, 257)},
		{"judge.n", ints(func(c *config.Config, n int) { c.Judge.N = n }, 3, 256), ints(func(c *config.Config, n int) { c.Judge.N = n }, 0, 1, 2, 257)},
		{"actor.temperature", floats(func(c *config.Config, x float64) { c.Actor.Temperature = &x }, 0, 10), floats(func(c *config.Config, x float64) { c.Actor.Temperature = &x }, -0.1, 10.1, math.NaN())},
		{"judge.top_p", floats(func(c *config.Config, x float64) { c.Judge.TopP = &x }, 0.01, 1), floats(func(c *config.Config, x float64) { c.Judge.TopP = &x }, 0, 1.01, math.NaN())},
		{"meta_judge.max_tokens", ints(func(c *config.Config, n int) { c.MetaJudge.MaxTokens = n }, 0, 1), ints(func(c *config.Config, n int) { c.MetaJudge.MaxTokens = n }, -1)},
		{"actor.extra_body.top_p", []func(*config.Config){func(c *config.Config) { c.Actor.ExtraBody = map[string]any{"top_k": 20} }}, []func(*config.Config){func(c *config.Config) { c.Actor.ExtraBody = map[string]any{"top_p": 1} }}},
		{"worker.urls[1]", funcs(addURL, "https://api.example.com/v1", "http://[::1]:8000"), funcs(addURL, "", "host:8000", "ftp://host/v1", "http://", "http://user:key@host/v1", "http://host/v1?key=k")},
		{"judge.urls[0]", funcs(judgeURL, "http://other/v1"), funcs(judgeURL, "other")},
		{"method.rho", floats(func(c *config.Config, x float64) { c.Method.Rho = x }, 0, 0.499999), floats(func(c *config.Config, x float64) { c.Method.Rho = x }, -0.1, 0.5, 0.4999999, 1e-7, math.NaN(), math.Inf(1))},
		{"method.min_margin", floats(func(c *config.Config, x float64) { c.Method.MinMargin = x }, 0, 0.001, 5), floats(func(c *config.Config, x float64) { c.Method.MinMargin = x }, -0.1, 5.1, 0.0001, math.NaN())},
		{"method.min_margin", floats(tenPoints, 0, 5.1, 9), floats(tenPoints, -0.1, 9.001)},
		{"method.max_chosen_chars", ints(func(c *config.Config, n int) { c.Method.MaxChosenChars = n }, 0, 1), ints(func(c *config.Config, n int) { c.Method.MaxChosenChars = n }, -1)},
		{"method.max_judgment_chars", ints(func(c *config.Config, n int) { c.Method.MaxJudgmentChars = n }, 0, 1), ints(func(c *config.Config, n int) { c.Method.MaxJudgmentChars = n }, -1)},
		{"method.min_judgments", ints(func(c *config.Config, n int) { c.Method.MinJudgments = n }, 1, 11), ints(func(c *config.Config, n int) { c.Method.MinJudgments = n }, 0, 257)},
		{"method.min_meta_judgments", ints(func(c *config.Config, n int) { c.Method.MinMetaJudgments = n }, 2, 11), ints(func(c *config.Config, n int) { c.Method.MinMetaJudgments = n }, 1, 257)},
		{"method.position_weights", funcs(func(c *config.Config, m pairs.WeightsMode) { c.Method.PositionWeights = m }, pairs.RunWeights, pairs.ResponseWeights, pairs.FixedWeights), funcs(func(c *config.Config, m pairs.WeightsMode) { c.Method.PositionWeights = m }, "", "all")},
		{"method.fixed_position_weights", funcs(fixedWeights, [2]float64{0, 1}, [2]float64{0.3, 0.7}), funcs(fixedWeights, [2]float64{0, 0}, [2]float64{0.6, 0.6}, [2]float64{-0.5, 1.5}, [2]float64{math.NaN(), 1})},
		{"method.elo_lambda", floats(func(c *config.Config, x float64) { c.Method.EloLambda = x }, 1e-6, 1e3), floats(func(c *config.Config, x float64) { c.Method.EloLambda = x }, 0, 9e-7, 1001, math.NaN())},
		{"method.rating", funcs(func(c *config.Config, r string) { c.Method.Rating = r }, "auto", "elo", "scores"), funcs(func(c *config.Config, r string) { c.Method.Rating = r }, "", "glicko")},
		{"budget.comparisons", funcs(func(c *config.Config, s string) { c.Budget.Comparisons = s }, "all", "settled"), funcs(func(c *config.Config, s string) { c.Budget.Comparisons = s }, "", "some")},
		{"budget.regret", floats(func(c *config.Config, x float64) { c.Budget.Regret = x }, 0.01, 0.9), floats(func(c *config.Config, x float64) { c.Budget.Regret = x }, 0, 1, -0.1, math.NaN())},
		{"budget.max_comparisons", ints(func(c *config.Config, n int) { c.Budget.MaxComparisons = n }, 2, 110, 65280), ints(func(c *config.Config, n int) { c.Budget.MaxComparisons = n }, 0, 1, 65281)},
		{"budget.judgments", funcs(func(c *config.Config, s string) { c.Judge.Verdict, c.Budget.Judgments = config.ReadVerdict, s }, "auto", "all", "rounds"), funcs(func(c *config.Config, s string) { c.Budget.Judgments = s }, "", "some", "rounds")},
		{"budget.distance", floats(func(c *config.Config, x float64) { c.Budget.Distance = x }, 0.001, 1.8, 10), floats(func(c *config.Config, x float64) { c.Budget.Distance = x }, 0, -1, 10.1, 1.8001, math.NaN())},
		{"budget.max_judgments", ints(inRounds, 11, 40, 256), ints(inRounds, -1, 0, 10, 257)},
		{"client.max_in_flight", ints(func(c *config.Config, n int) { c.Client.MaxInFlight = n }, 0, 1<<20), ints(func(c *config.Config, n int) { c.Client.MaxInFlight = n }, -1, 1<<20+1)},
		{"client.requests_per_minute", ints(func(c *config.Config, n int) { c.Client.RequestsPerMinute = n }, 0, 60), ints(func(c *config.Config, n int) { c.Client.RequestsPerMinute = n }, -1, 1<<30+1)},
		{"client.tokens_per_minute", ints(func(c *config.Config, n int) { c.Client.TokensPerMinute = n }, 0, 60), ints(func(c *config.Config, n int) { c.Client.TokensPerMinute = n }, -1, 1<<30+1)},
		{"client.window", ints(func(c *config.Config, n int) { c.Client.Window = n }, 0, 1<<20), ints(func(c *config.Config, n int) { c.Client.Window = n }, -1, 1<<20+1)},
		{"client.request_timeout", funcs(func(c *config.Config, d time.Duration) { c.Client.RequestTimeout = d }, 0, 1), funcs(func(c *config.Config, d time.Duration) { c.Client.RequestTimeout = d }, -time.Second)},
		{"client.tries", ints(func(c *config.Config, n int) { c.Client.Tries = n }, 1, 100), ints(func(c *config.Config, n int) { c.Client.Tries = n }, 0, 101)},
		{"client.patience", funcs(func(c *config.Config, d time.Duration) { c.Client.Patience = d }, time.Nanosecond), funcs(func(c *config.Config, d time.Duration) { c.Client.Patience = d }, 0, -1)},
		{"simulate.slots", ints(func(c *config.Config, n int) { c.Simulate.Slots = n }, 1, 1<<20), ints(func(c *config.Config, n int) { c.Simulate.Slots = n }, 0, 1<<20+1)},
		{"simulate.latency", funcs(func(c *config.Config, d time.Duration) { c.Simulate.Latency = d }, 0), funcs(func(c *config.Config, d time.Duration) { c.Simulate.Latency = d }, -1)},
		{"simulate.max_n", ints(func(c *config.Config, n int) { c.Simulate.MaxN = n }, 0, 1024), ints(func(c *config.Config, n int) { c.Simulate.MaxN = n }, -1, 1025)},
		{"simulate.world", funcs(func(c *config.Config, s string) { c.Simulate.World = s }, "mild", "bad"), funcs(func(c *config.Config, s string) { c.Simulate.World = s }, "", "good")},
		{"simulate.faults", funcs(func(c *config.Config, s string) { c.Simulate.Faults = s }, "", "429=0.1,reset=0.02"), funcs(func(c *config.Config, s string) { c.Simulate.Faults = s }, "429", "429=2", "gremlins=0.1")},
		{"verdicts", funcs(func(c *config.Config, s string) { c.Verdicts = s }, "free", "enforced"), funcs(func(c *config.Config, s string) { c.Verdicts = s }, "", "forced")},
		{"worker.api_key_file", funcs(func(c *config.Config, s string) { c.Worker.APIKeyFile = s }, "key"), funcs(func(c *config.Config, s string) { c.Worker.APIKeyEnv, c.Worker.APIKeyFile = s, s }, "KEY")},
		{"actor.api_key_file", funcs(func(c *config.Config, s string) { c.Worker.APIKeyEnv, c.Actor.APIKeyFile = s, s }, "KEY"), funcs(func(c *config.Config, s string) { c.Actor.APIKeyEnv, c.Actor.APIKeyFile = s, s }, "KEY")},
		{
			"judge.extra_body.regex",
			funcs(func(c *config.Config, s string) { c.Judge.ExtraBody = map[string]any{s: "a"} }, "regex"),
			funcs(func(c *config.Config, s string) {
				c.Verdicts, c.Judge.ExtraBody = config.EnforcedVerdicts, map[string]any{s: "a"}
			}, "regex"),
		},
		{"roles", nil, []func(*config.Config){func(c *config.Config) { c.Roles = nil }}},
		{"roles[0]", nil, []func(*config.Config){func(c *config.Config) { c.Roles = []string{schemas.RoleMetaJudge} }}},
		{"roles[1]", nil, []func(*config.Config){func(c *config.Config) { c.Roles = []string{schemas.RoleActor, schemas.RoleActor} }}},
		{"judge.template", nil, []func(*config.Config){func(c *config.Config) { c.Judge.Template = "no-such-file" }}},
	}
	for _, tt := range tests {
		t.Run(tt.key, func(t *testing.T) {
			for i, change := range tt.good {
				c := config.Valid()
				change(&c)
				if err := c.Validate(); err != nil {
					t.Errorf("good value %d: %v", i, err)
				}
				_, s := beam.NewPipelineWithRoot()
				scan := &prompts.Scan{Files: []prompts.File{{Path: "p.jsonl"}}, Prompts: 1}
				if err := metareward.Build(s, c, metareward.Input{Attempt: "a", Scan: scan}); err != nil {
					t.Errorf("good value %d makes no graph: %v", i, err)
				}
			}
			for i, change := range tt.bad {
				c := config.Valid()
				change(&c)
				if diff := cmp.Diff([]string{tt.key}, config.KeysOf(t, c.Validate())); diff != "" {
					t.Errorf("bad value %d: problems of the keys %s", i, diff)
				}
				_, s := beam.NewPipelineWithRoot()
				if err := metareward.Build(s, c, metareward.Input{Attempt: "a", Scan: &prompts.Scan{Prompts: 1}}); err == nil {
					t.Errorf("bad value %d makes a graph", i)
				}
			}
		})
	}
}

func funcs[T any](set func(*config.Config, T), values ...T) []func(*config.Config) {
	out := make([]func(*config.Config), len(values))
	for i, v := range values {
		out[i] = func(c *config.Config) { set(c, v) }
	}
	return out
}

func ints(set func(*config.Config, int), values ...int) []func(*config.Config) {
	return funcs(set, values...)
}

func floats(set func(*config.Config, float64), values ...float64) []func(*config.Config) {
	return funcs(set, values...)
}

func addURL(c *config.Config, u string)           { c.Worker.URLs = append(c.Worker.URLs, u) }
func judgeURL(c *config.Config, u string)         { c.Judge.URLs = []string{u} }
func fixedWeights(c *config.Config, w [2]float64) { c.Method.FixedPositionWeights = w }

func tenPoints(c *config.Config, x float64) {
	c.Method.MinMargin, c.Judge.Scale = x, [2]float64{1, 10}
	c.Judge.Rubric = "testdata/rubric.txt"
}

// inRounds asks judgments in rounds, at most n.
func inRounds(c *config.Config, n int) {
	c.Judge.Verdict, c.Budget.Judgments, c.Budget.MaxJudgments = config.ReadVerdict, config.RoundJudgments, n
}
