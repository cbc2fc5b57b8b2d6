package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"coeval/datasets/prompts"
	"coeval/datasets/store"
	"coeval/pipelines/access"
	"coeval/schemas"
	"coeval/transforms/answers"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/fleet/openai/logprobs"
	"coeval/transforms/judge"
	"coeval/transforms/judge/points"
	"coeval/transforms/meta"
	"coeval/transforms/pairs"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
	"coeval/transforms/stage"
)

// A Problem is an invalid setting.
type Problem struct {
	// Key is the key of the setting, for example method.rho.
	Key string
	// Value is the value as messages show it, empty for none. Allowed describes the allowed values.
	Value, Allowed string
}

func (p *Problem) Error() string {
	if p.Value == "" {
		return fmt.Sprintf("%s is missing; give %s", p.Key, p.Allowed)
	}
	return fmt.Sprintf("%s is %s; allowed is %s", p.Key, p.Value, p.Allowed)
}

// maxCount bounds counts. A larger number is most likely a typing error.
const maxCount = 256

// ownFields are the fields of a request that extra_body may not set.
var ownFields = []string{"model", "messages", "n", "seed", "temperature", "top_p", "max_tokens", "stop", "stream"}

// Validate returns all problems of the config, joined, each a [*Problem], or nil.
func (c Config) Validate() error {
	v := &validator{}
	v.run(&c)
	v.prompts(&c.Prompts)
	v.served(&c, c.Asked())
	for _, name := range slices.Sorted(maps.Keys(c.Asked())) {
		v.role(name, &c, c.Asked()[name])
	}
	v.worker(&c)
	v.check(within(c.Actor.N, 1, maxCount), "actor.n", c.Actor.N, fmt.Sprintf("1 to %d", maxCount))
	v.check(within(c.Judge.N, 1, maxCount), "judge.n", c.Judge.N, fmt.Sprintf("1 to %d", maxCount))
	v.templates(&c)
	v.reads(&c)
	v.method(&c.Method)
	v.budget(&c.Budget)
	v.rounds(&c)
	v.margin(&c)
	v.pools(&c)
	v.pairable(&c)
	v.client(&c.Client)
	v.simulate(&c)
	return errors.Join(v.problems...)
}

// ValidateJudging is Validate for runs that use the judge alone. It ignores prompts and other roles.
func (c Config) ValidateJudging() error {
	v := &validator{}
	v.run(&c)
	v.served(&c, map[string]*Role{schemas.RoleJudge: &c.Judge.Role})
	v.role("judge", &c, &c.Judge.Role)
	v.worker(&c)
	v.check(within(c.Judge.N, 1, maxCount), "judge.n", c.Judge.N, fmt.Sprintf("1 to %d", maxCount))
	v.check(!within(c.Judge.N, 1, maxCount) || !within(c.Method.MinJudgments, 1, maxCount) || c.Judge.N >= c.Method.MinJudgments,
		"judge.n", c.Judge.N, fmt.Sprintf("at least method.min_judgments, %d: with fewer no response has a score", c.Method.MinJudgments))
	v.templates(&c)
	v.reads(&c)
	v.method(&c.Method)
	v.margin(&c)
	v.client(&c.Client)
	v.simulate(&c)
	return errors.Join(v.problems...)
}

// ValidateAnswering is Validate for runs that use the actor alone. It ignores the settings of the
// method.
func (c Config) ValidateAnswering() error {
	v := &validator{}
	v.run(&c)
	v.prompts(&c.Prompts)
	v.served(&c, map[string]*Role{schemas.RoleActor: &c.Actor.Role})
	v.role("actor", &c, &c.Actor.Role)
	v.worker(&c)
	v.client(&c.Client)
	v.simulate(&c)
	return errors.Join(v.problems...)
}

type validator struct{ problems []error }

func (v *validator) check(ok bool, key string, value any, allowed string) {
	if ok {
		return
	}
	shown := fmt.Sprint(value)
	if s, isText := value.(string); isText {
		shown = access.Quote(s)
	}
	v.report(key, shown, allowed)
}

func (v *validator) report(key, value, allowed string) {
	v.problems = append(v.problems, &Problem{Key: key, Value: value, Allowed: allowed})
}

func within[N int | int64 | float64](x, low, high N) bool { return x >= low && x <= high }

func (v *validator) run(c *Config) {
	v.check(c.Preset == "" || slices.Contains(Presets(), c.Preset), "preset", c.Preset, fmt.Sprintf("one of %v", Presets()))
	v.check(len(c.Roles) > 0, "roles", "", "a list of actor and judge")
	for i, role := range c.Roles {
		known := role == schemas.RoleActor || role == schemas.RoleJudge
		v.check(known && !slices.Contains(c.Roles[:i], role), fmt.Sprintf("roles[%d]", i), role, "actor and judge, each once")
	}
	v.check(c.Verdicts == FreeVerdicts || c.Verdicts == EnforcedVerdicts, "verdicts", c.Verdicts, "free, enforced")
	c.Worker.Check("worker", &c.Worker.Access, v.report)
	v.check(strings.TrimSpace(c.Output.Dir) != "", "output.dir", strings.TrimSpace(c.Output.Dir), "the name of a folder (--out)")
	v.path("output.dir", c.Output.Dir)
	v.check(c.Output.PromptsPerShard > 0, "output.prompts_per_shard", c.Output.PromptsPerShard, "at least 1")
}

// path refuses a path whose meaning differs from its appearance.
func (v *validator) path(key, name string) {
	if name == "" {
		return
	}
	if _, err := store.ParsePath(name); err != nil {
		v.problems = append(v.problems, fmt.Errorf("%s: %w", key, err))
	}
}

func (v *validator) prompts(p *Prompts) {
	v.check(len(p.Paths) > 0, "prompts.paths", "", "at least one file, glob or folder (--prompts)")
	for i, name := range p.Paths {
		v.path(fmt.Sprintf("prompts.paths[%d]", i), name)
	}
	v.check(p.Limit >= 0, "prompts.limit", p.Limit, "at least 0")
	v.check(p.Sample >= 0, "prompts.sample", p.Sample, "at least 0")
	v.check(p.DropLastAnswer == "" || slices.Contains(prompts.DropModes(), p.DropLastAnswer), "prompts.drop_last_answer", p.DropLastAnswer, fmt.Sprintf("one of %v", prompts.DropModes()))
	_, err := prompts.ParseSlice(p.Slice, p.SliceSeed)
	v.check(err == nil, "prompts.slice", p.Slice, "INDEX/COUNT, for example 1/4 for the first of four parts; empty for all")
	v.check(within(p.MaxBad, 0, 1), "prompts.max_bad_prompts", p.MaxBad, "a share from 0 to 1")
	v.check(within(p.MaxLineBytes, 100, 64<<20), "prompts.max_line_bytes", p.MaxLineBytes, "100 to 67108864")
}

// ValidateCluster returns all problems of the config for workers on other machines, joined as those
// of Validate. It does not check access to stores that only machines of one cloud may use.
func (c Config) ValidateCluster() error {
	v := &validator{}
	const allowed = "gs:// or s3://, which all workers reach; or shared_storage: true if it is one folder on all machines, as on NFS"
	const absolute = "an absolute path: workers have working directories of their own"
	path := func(key, path string) {
		v.check(c.SharedStorage || !store.HasLocks(path), key, path, allowed)
		v.check(!c.SharedStorage || !store.HasLocks(path) || filepath.IsAbs(path), key, path, absolute)
	}
	path("output.dir", c.Output.Dir)
	for i, p := range c.Prompts.Paths {
		path(fmt.Sprintf("prompts.paths[%d]", i), p)
	}
	v.check(!c.Simulate.Enabled, "simulate.enabled", c.Simulate.Enabled, "false: the workers of a cluster can't reach it; start `coeval simulate` where they can, and give its URL (--url)")
	return errors.Join(v.problems...)
}

func (v *validator) role(key string, c *Config, r *Role) {
	for i, u := range r.URLs {
		access.CheckURL(fmt.Sprintf("%s.urls[%d]", key, i), u, v.report)
	}
	used := &r.Access
	if len(r.URLs) == 0 {
		used = c.Worker.Overridden(used)
	}
	r.Check(key, used, v.report)
	v.check(r.Temperature == nil || within(*r.Temperature, 0, 10), key+".temperature", number(ShownNumber(r.Temperature)), "0 to 10, or null to send none")
	v.check(r.TopP == nil || *r.TopP > 0 && *r.TopP <= 1, key+".top_p", number(ShownNumber(r.TopP)), "above 0 to 1, or null to send none")
	v.check(r.MaxTokens >= 0, key+".max_tokens", r.MaxTokens, "at least 0")
	for _, field := range ownFields {
		_, set := r.ExtraBody[field]
		v.check(!set, key+".extra_body."+field, "set", "nothing: it has a key of its own")
	}
	access.CheckBody(key+".extra_body", r.ExtraBody, v.report)
	if c.Verdicts == EnforcedVerdicts && (key == schemas.RoleJudge || key == schemas.RoleMetaJudge) {
		for _, field := range openai.ConstraintFields() {
			_, set := r.ExtraBody[field]
			v.check(!set, key+".extra_body."+field, "set", "nothing while verdicts are enforced")
		}
	}
}

func (v *validator) worker(c *Config) {
	for i, u := range c.Worker.URLs {
		access.CheckURL(fmt.Sprintf("worker.urls[%d]", i), u, v.report)
	}
}

// served checks that each of these roles has a model and servers. A setting that all roles lack is
// reported once.
func (v *validator) served(c *Config, roles map[string]*Role) {
	if c.Simulate.Enabled {
		return
	}
	const model, urls = "the name of a model (--model)", "at least one URL of a server (--url), or --simulate to try without one"
	var noModel, noURLs []string
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if roles[name].Model == "" && c.Worker.Model == "" {
			noModel = append(noModel, name)
		}
		if len(roles[name].URLs) == 0 && len(c.Worker.URLs) == 0 {
			noURLs = append(noURLs, name)
		}
	}
	v.lacking(noModel, len(roles), "model", model)
	v.lacking(noURLs, len(roles), "urls", urls)
}

func (v *validator) lacking(names []string, of int, key, allowed string) {
	if len(names) == of {
		names = []string{"worker"}
	}
	for _, name := range names {
		v.check(false, name+"."+key, "", allowed)
	}
}

// pairable checks that the settings allow at least one pair for each requested role.
func (v *validator) pairable(c *Config) {
	if !within(c.Judge.N, 1, maxCount) || !within(c.Actor.N, 1, maxCount) {
		return
	}
	v.check(!c.Wants(schemas.RoleActor) || c.Actor.N >= 2 || c.Method.Pairs == pairs.Temporal, "actor.n", c.Actor.N, "at least 2: an actor pair needs two responses")
	v.check(c.ReadsScores() || c.Judge.N >= c.Method.MinJudgments || !within(c.Method.MinJudgments, 1, maxCount), "judge.n", c.Judge.N,
		fmt.Sprintf("at least method.min_judgments, %d: with fewer no response has a score, and there are no pairs", c.Method.MinJudgments))
	if c.Wants(schemas.RoleJudge) && (c.ReadsScores() || c.Judge.N >= c.Method.MinJudgments) {
		v.check(c.Judge.N >= c.Method.MinMetaJudgments || !within(c.Method.MinMetaJudgments, 2, maxCount), "judge.n", c.Judge.N,
			fmt.Sprintf("at least method.min_meta_judgments, %d: with fewer no judgments are compared, and there are no judge pairs", c.Method.MinMetaJudgments))
	}
}

// A number is shown without quotes.
type number string

// ShownNumber formats a number, or null for none.
func ShownNumber(x *float64) string {
	if x == nil {
		return "null"
	}
	return strconv.FormatFloat(*x, 'g', -1, 64)
}

func (v *validator) templates(c *Config) {
	resolved, err := c.Resolve()
	if err != nil {
		v.problems = append(v.problems, err)
		return
	}
	low, high := c.Judge.Scale[0], c.Judge.Scale[1]
	scaled := low >= 0 && high > low && high <= 100 && schemas.HasDecimals(low, 3) && schemas.HasDecimals(high, 3)
	v.check(scaled, "judge.scale", c.Judge.Scale, "two numbers from 0 to 100 with at most 3 decimals, the lower one first")
	ownRubric := c.Judge.Rubric != "" || c.Judge.Template != ""
	v.check(!scaled || c.Judge.Scale == [2]float64{0, 5} || ownRubric, "judge.scale", c.Judge.Scale, "[0, 5] with the built-in rubric: write the other scale's rubric into a file and name it in judge.rubric")
	endOfJudge, endOfMeta := "", ""
	if isBuiltIn(resolved.Judge.Template) && c.Judge.Rubric == "" { // a rubric of one's own may ask for another end
		endOfJudge = "Score: 4"
	}
	if isBuiltIn(resolved.Meta.Template) {
		endOfMeta = "Winner: A"
	}
	v.pattern("judge", c.Judge.Pattern, c.Verdicts, endOfJudge)
	v.pattern("meta_judge", c.MetaJudge.Pattern, c.Verdicts, endOfMeta)
	if scaled && c.Judge.Template != "" {
		_, err := judge.ParseTemplate(resolved.Judge)
		v.check(err == nil, "judge.template", c.Judge.Template, fmt.Sprintf("a text/template that renders (%v)", err))
		if err == nil {
			v.rubric(c, resolved)
		}
	}
	if c.MetaJudge.Template != "" && c.Wants(schemas.RoleJudge) {
		o := resolved.Meta
		o.Scale, o.Pattern, o.ScorePattern = points.Scale{}, "", "" // they have checks of their own
		_, err := meta.Stage(o)
		v.check(err == nil, "meta_judge.template", c.MetaJudge.Template, fmt.Sprintf("a text/template that renders (%v)", err))
	}
}

// isBuiltIn reports whether a template is one of the built-in ones.
func isBuiltIn(template string) bool {
	return template == judge.BuiltIn || template == judge.BuiltIn2026November
}

// pattern checks the pattern of a role. End is the last line that its built-in template asks for, empty with another
// template: a pattern that does not match it would never find a value.
func (v *validator) pattern(role, pattern, verdicts, end string) {
	if pattern == "" {
		return
	}
	key := role + ".pattern"
	re, err := answers.CompilePattern(pattern)
	if err == nil && end != "" {
		v.check(re.MatchString(end), key, pattern, fmt.Sprintf("a pattern for %q, with which the built-in template makes texts end: set %s.template to the template whose texts the pattern fits", end, role))
	}
	v.check(err == nil, key, pattern, fmt.Sprintf("a regular expression with one group around the value (%v)", err))
	v.check(verdicts != EnforcedVerdicts, key, pattern, "empty while verdicts is enforced: servers are made to end with the built-in line")
}

// rubric checks that the judge and the built-in prompt of the meta-judge have one rubric. A judge's
// template that does not show .Rubric contains its own, and the meta-judge would never see it.
func (v *validator) rubric(c *Config, r *Resolved) {
	if !c.Wants(schemas.RoleJudge) || !isBuiltIn(r.Meta.Template) || c.Judge.Rubric != "" {
		return
	}
	shows, err := judge.ShowsRubric(r.Judge)
	v.check(err != nil || shows, "judge.template", c.Judge.Template,
		"a template that shows {{.Rubric}}, as the meta-judge's built-in template does: put this template's rubric into a file and name it in judge.rubric, or set meta_judge.template")
}

func (v *validator) method(m *Method) {
	v.check(m.Rho >= 0 && m.Rho < 0.5 && schemas.HasDecimals(m.Rho, 6), "method.rho", m.Rho, "0 to below 0.5, where the tiers would overlap, with at most 6 decimals")
	v.check(m.MaxChosenChars >= 0, "method.max_chosen_chars", m.MaxChosenChars, "at least 0")
	v.check(m.MaxJudgmentChars >= 0, "method.max_judgment_chars", m.MaxJudgmentChars, "at least 0")
	v.check(within(m.JudgeClassCap, 0, 1), "method.judge_class_cap", m.JudgeClassCap, "0 (off) to 1, for example 0.4")
	v.check(within(m.BalanceDirections, 0, 1) && m.BalanceDirections < 1, "method.balance_directions", m.BalanceDirections, "0 (off) to below 1, for example 0.1")
	if err := stage.ValidateReasoningTags(m.ReasoningTags); err != nil {
		v.check(false, "method.reasoning_tags", m.ReasoningTags, err.Error())
	}
	v.check(within(m.MinJudgments, 1, maxCount), "method.min_judgments", m.MinJudgments, fmt.Sprintf("1 to %d", maxCount))
	v.check(within(m.MinMetaJudgments, 2, maxCount), "method.min_meta_judgments", m.MinMetaJudgments, fmt.Sprintf("2 to %d", maxCount))
	modes := []pairs.WeightsMode{pairs.RunWeights, pairs.ResponseWeights, pairs.FixedWeights}
	v.check(slices.Contains(modes, m.PositionWeights), "method.position_weights", string(m.PositionWeights), "run, response, fixed")
	w := m.FixedPositionWeights
	ok := within(w[0], 0, 1) && within(w[1], 0, 1) && math.Abs(w[0]+w[1]-1) <= 1e-9
	v.check(ok, "method.fixed_position_weights", w, "two numbers from 0 to 1 that sum to 1")
	v.check(slices.Contains([]string{AutoRating, string(pairs.EloRating), string(pairs.ScoresRating)}, m.Rating), "method.rating", m.Rating, "auto, elo, scores")
	v.check(within(m.EloLambda, 1e-6, 1e3), "method.elo_lambda", m.EloLambda, "1e-06 to 1000")
}

// reads checks the settings of reads.
func (v *validator) reads(c *Config) {
	isVerdict := func(s string) bool { return s == ReasonedVerdict || s == ReadVerdict }
	v.check(isVerdict(c.Judge.Verdict), "judge.verdict", c.Judge.Verdict, "reasoned, read")
	v.check(isVerdict(c.MetaJudge.Verdict), "meta_judge.verdict", c.MetaJudge.Verdict, "reasoned, read")
	v.check(within(c.Judge.Reads, 1, maxCount), "judge.reads", c.Judge.Reads, fmt.Sprintf("1 to %d", maxCount))
	v.check(c.Method.ReadMinMass > 0 && c.Method.ReadMinMass <= 1, "method.read_min_mass", c.Method.ReadMinMass, "above 0 to 1, for example 0.5")
	if c.ReadsScores() {
		sc := c.Judge.scale()
		labels, _ := sc.Labels()
		v.check(len(labels) >= 2, "judge.scale", c.Judge.Scale, "a scale with at least two whole points under judge.verdict: read")
		v.readFields("judge", &c.Judge.Role)
	}
	if c.MetaJudge.Verdict == ReadVerdict {
		v.readFields("meta_judge", &c.MetaJudge.Role)
	}
}

// readFields refuses fields that would constrain or replace the probabilities of a read.
func (v *validator) readFields(key string, r *Role) {
	for _, field := range slices.Concat(openai.ConstraintFields(), logprobs.FieldNames(), []string{"logit_bias", "guided_choice", "guided_json"}) {
		_, set := r.ExtraBody[field]
		v.check(!set, key+".extra_body."+field, "set", "nothing while "+key+".verdict is read")
	}
}

func (v *validator) budget(b *Budget) {
	v.check(b.Comparisons == AllComparisons || b.Comparisons == SettledComparisons, "budget.comparisons", b.Comparisons, "all, settled")
	v.check(b.Regret > 0 && b.Regret < 1, "budget.regret", b.Regret, "a share above 0 to below 1, for example 0.16; a smaller one requests more comparisons")
	v.check(within(b.MaxComparisons, 2, maxCount*(maxCount-1)), "budget.max_comparisons", b.MaxComparisons, fmt.Sprintf("2 to %d; both orders of a pair count", maxCount*(maxCount-1)))
}

// rounds checks the settings of judgments in rounds.
func (v *validator) rounds(c *Config) {
	b := &c.Budget
	v.check(slices.Contains([]string{AutoJudgments, AllJudgments, RoundJudgments}, b.Judgments), "budget.judgments", b.Judgments, "auto, all, rounds")
	v.check(b.Judgments != RoundJudgments || c.ReadsScores() && c.Wants(schemas.RoleJudge), "budget.judgments", b.Judgments,
		"auto or all without judge.verdict: read and judge pairs: only the contested response of reads is judged in rounds")
	v.check(b.Distance > 0 && b.Distance <= 10 && schemas.HasDecimals(b.Distance, 3), "budget.distance", b.Distance, "above 0 to 10 standard deviations, with at most 3 decimals, for example 1.8")
	v.check(within(b.MaxJudgments, 1, maxCount), "budget.max_judgments", b.MaxJudgments, fmt.Sprintf("1 to %d", maxCount))
	v.check(c.Rounds() == nil || b.MaxJudgments >= c.Judge.N || !within(c.Judge.N, 1, maxCount) || !within(b.MaxJudgments, 1, maxCount), "budget.max_judgments", b.MaxJudgments,
		fmt.Sprintf("%d to %d: the first round requests judge.n, %d, judgments; budget.judgments: all requests no more", c.Judge.N, maxCount, c.Judge.N))
}

// margin checks the least margin against the judge's scale: a larger one would drop every pair.
func (v *validator) margin(c *Config) {
	m, width := c.Method.MinMargin, c.Judge.Scale[1]-c.Judge.Scale[0]
	v.check(within(m, 0, max(width, 0)) && schemas.HasDecimals(m, 3), "method.min_margin", m, fmt.Sprintf("0 to %v points, the width of judge.scale, with at most 3 decimals", width))
}

func (v *validator) client(c *Client) {
	v.check(within(c.MaxInFlight, 0, 1<<20), "client.max_in_flight", c.MaxInFlight, "0 to 1048576")
	v.check(within(c.Window, 0, 1<<20), "client.window", c.Window, "0 to 1048576")
	v.check(within(c.RequestsPerMinute, 0, 1<<30), "client.requests_per_minute", c.RequestsPerMinute, "0 to 1073741824")
	v.check(within(c.TokensPerMinute, 0, 1<<30), "client.tokens_per_minute", c.TokensPerMinute, "0 to 1073741824")
	v.check(c.RequestTimeout >= 0, "client.request_timeout", c.RequestTimeout, "0, or a time such as 10m")
	v.check(within(c.Tries, 1, 100), "client.tries", c.Tries, "1 to 100")
	v.check(c.Patience > 0, "client.patience", c.Patience, "a duration above 0, for example 10m")
}

func (v *validator) simulate(c *Config) {
	s := &c.Simulate
	served := slices.Concat(c.Worker.URLs, c.Actor.URLs, c.Past.URLs, c.Future.URLs, c.Judge.URLs, c.MetaJudge.URLs)
	v.check(!s.Enabled || len(served) == 0, "simulate.enabled", s.Enabled,
		"false while URLs of servers are given: remove --simulate to use them, or the URLs to simulate (--set 'worker.urls=[]')")
	v.check(within(s.Slots, 1, 1<<20), "simulate.slots", s.Slots, "1 to 1048576")
	v.check(s.Latency >= 0, "simulate.latency", s.Latency, "a duration, for example 20ms")
	v.check(within(s.MaxN, 0, 1024), "simulate.max_n", s.MaxN, "0 to 1024")
	v.check(slices.Contains(world.Names, s.World), "simulate.world", s.World, strings.Join(world.Names, ", "))
	v.check(within(s.ReadDiscrimination, 0, 1), "simulate.read_discrimination", s.ReadDiscrimination, "0 to 1")
	v.check(within(s.ReadNoise, 0, 100), "simulate.read_noise", s.ReadNoise, "0 to 100")
	v.check(within(s.ReadMass, 0, 1), "simulate.read_mass", s.ReadMass, "0 to 1")
	_, err := simulator.ParseFaults(s.Faults)
	v.check(err == nil, "simulate.faults", s.Faults, fmt.Sprintf("a list as 429=0.1,reset=0.02 (%v)", err))
}
