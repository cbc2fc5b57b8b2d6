package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/datasets/answers"
	"coeval/datasets/journal"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/arena"
	"coeval/runners/arena/winrate"
	"coeval/runners/attempt"
	"coeval/runners/estimate"
	"coeval/runners/pages"
	"coeval/schemas"
	"coeval/schemas/sanitize"
	"coeval/transforms/infer"
	"coeval/transforms/pairwise"
	"coeval/transforms/stage"
)

// arenaFlags are the flags of arena. They override the file.
type arenaFlags struct {
	runFlags

	a, aURLs, aAnswers []string
	b                  string
	bURLs              []string
	bAnswers           string
	judge              string
	judgeURLs          []string
	verdict            string
	replicates         int
	outcome            string
	categoryField      string
	known              []string
	chain              bool
	answersOnly        bool
	plan               bool
	cost               costFlags
}

func newArenaCommand() *cobra.Command {
	var flags arenaFlags
	c := &cobra.Command{
		Use:   "arena [ARENA.yaml] --a MODEL --b MODEL --judge MODEL --url URL --prompts FILE --out OUT",
		Short: "Compare models: win rates with intervals, by a pairwise judge in both orders",
		Long: `Compare models by a pairwise judge. Each model answers each prompt once. The judge sees both answers in both
orders. OUT/arena.html and OUT/arena.json show the win rate, the same at equal length and at equal style, each with an
interval over prompts. Calls go through the journal of OUT: a second time sends no request, and another model costs
its own calls only. Repeat --a for a table of several models. --plan shows the missing calls.`,
		Example: `  coeval arena --a my-model@it-2 --b my-model --judge big-model --url http://localhost:8000/v1 \
    --prompts eval.jsonl --out arena
  coeval arena --simulate --a 'sim:quality=+0.5,length=+0,noise=+0' --b base --judge judge \
    --prompts datasets/arena-hard/arena-hard-v0.1.jsonl --limit 100 --out arena`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := flags.prepare(c, args)
			if err != nil {
				return err
			}
			if flags.plan {
				return failed(k.printPlan(c.Context()))
			}
			return failed(k.do(c.Context()))
		},
	}
	f := c.Flags()
	f.StringArrayVar(&flags.a, "a", nil, "model to measure, as MODEL or MODEL@REVISION (repeatable)")
	f.StringArrayVar(&flags.aURLs, "a-url", nil, "base URL of a server of these models (repeatable; default --url)")
	f.Var(pathsFlag{&flags.aAnswers}, "a-answers", "file of given answers, one for each --a: the model gets no requests")
	f.StringVar(&flags.b, "b", "", "the baseline, as MODEL or MODEL@REVISION")
	f.StringArrayVar(&flags.bURLs, "b-url", nil, "base URL of a server of the baseline (repeatable; default --url)")
	f.Var(pathFlag{to: &flags.bAnswers}, "b-answers", "file of the baseline's given answers")
	f.StringVar(&flags.judge, "judge", "", "model of the judge")
	f.StringArrayVar(&flags.judgeURLs, "judge-url", nil, "base URL of a server of the judge (repeatable; default --url)")
	f.StringArrayVar(&flags.urls, "url", nil, "base URL of a server of all models without their own (repeatable)")
	f.StringArrayVar(&flags.prompts, "prompts", nil, "file, glob or folder of prompts (repeatable)")
	f.StringVar(&flags.out, "out", "", "folder of the arena and of its journal")
	f.Int64Var(&flags.limit, "limit", 0, "number of prompts to read, from the first; 0 reads all")
	f.Int64Var(&flags.sample, "sample", 0, "number of prompts to draw; 0 takes all")
	f.StringVar(&flags.verdict, "verdict", "five", "verdicts of the judge: five (A>>B to B>>A) or two (A, B)")
	f.IntVar(&flags.replicates, "replicates", 1, "how often each order is requested")
	f.StringVar(&flags.outcome, "outcome", "hard", "hard counts wins, soft also how clear they are")
	f.StringVar(&flags.categoryField, "category-field", "category", "field of the prompts with their category")
	f.Var(pathsFlag{&flags.known}, "known", "folder of another arena whose games measure the difficulty of the prompts (repeatable)")
	f.BoolVar(&flags.chain, "chain", false, "compare each --a with the one before it, too")
	f.BoolVar(&flags.answersOnly, "answers-only", false, "request the answers and play no game")
	f.BoolVar(&flags.plan, "plan", false, "show calls, cost and the smallest detectable difference, and send no request")
	flags.cost.register(f)
	f.BoolVar(&flags.simulate, "simulate", false, "use the simulated worker, in this process; no GPU")
	f.IntVar(&flags.maxInFlight, "max-in-flight", 0, "most generations in flight at each server; 0 lets the run find the number")
	f.BoolVar(&flags.takeover, "takeover", false, "seize --out from another run, on gs:// or s3://; that run stops")
	flags.registerRun(c)
	return c
}

// contestRun is one attempt.
type contestRun struct {
	*run

	flags   *arenaFlags
	arena   arena.Config
	prompts []schemas.Prompt
}

// prepare reads config and prompts. Its errors are of usage.
func (f *arenaFlags) prepare(c *cobra.Command, args []string) (*contestRun, error) {
	config := arena.DefaultConfig()
	if len(args) > 0 {
		b, err := store.ReadSetting(c.Context(), args[0])
		if err != nil {
			return nil, usage(configError(args[0], err))
		}
		if config, err = arena.ParseConfig(args[0], b); err != nil {
			return nil, usage(err)
		}
	}
	if err := f.apply(c, &config); err != nil {
		return nil, usage(err)
	}
	if err := errors.Join(f.validate(&config), f.check(c), f.cost.check()); err != nil {
		return nil, usage(err)
	}
	k := &contestRun{flags: f, arena: config}
	base := config.Base()
	var err error
	if k.prompts, err = readPrompts(c.Context(), &base); err != nil {
		return nil, err
	}
	k.run = &run{Attempt: f.newAttempt(c, base), flags: &f.runFlags, command: c}
	k.Scan = &prompts.Scan{Prompts: int64(len(k.prompts))}
	return k, nil
}

// validate returns all problems of the config. With answers alone no model has to be measured.
func (f *arenaFlags) validate(contest *arena.Config) error {
	err := contest.Validate()
	for _, e := range problems(err) {
		flag := map[string]string{"b.model": " (--b)", "judge.model": " (--judge)"}
		if p := (*config.Problem)(nil); errors.As(e, &p) && p.Value == "" {
			p.Allowed += flag[p.Key]
		}
	}
	if !f.answersOnly {
		return err
	}
	return errors.Join(slices.DeleteFunc(problems(err), func(err error) bool {
		p := (*config.Problem)(nil)
		return err == nil || errors.As(err, &p) && (p.Key == "a" || strings.HasPrefix(p.Key, "judge."))
	})...)
}

// apply puts the flags that were given over the config.
func (f *arenaFlags) apply(c *cobra.Command, config *arena.Config) error {
	if len(f.a) > 0 {
		config.A = nil
		for _, name := range f.a {
			config.A = append(config.A, arena.NewSide(name))
		}
	}
	if len(f.aAnswers) > 0 && len(f.aAnswers) != len(config.A) {
		return fmt.Errorf("--a-answers names %d files for %d models; give one for each --a", len(f.aAnswers), len(config.A))
	}
	for i := range config.A {
		if len(f.aURLs) > 0 {
			config.A[i].URLs = f.aURLs
		}
		if len(f.aAnswers) > 0 {
			config.A[i].Answers = f.aAnswers[i]
		}
	}
	set := func(flag string, apply func()) {
		if c.Flags().Changed(flag) {
			apply()
		}
	}
	set("b", func() { config.B = arena.NewSide(f.b) })
	set("b-url", func() { config.B.URLs = f.bURLs })
	set("b-answers", func() { config.B.Answers = f.bAnswers })
	set("judge", func() { config.Judge.Model = f.judge })
	set("judge-url", func() { config.Judge.URLs = f.judgeURLs })
	set("url", func() { config.Worker.URLs = f.urls })
	set("prompts", func() { config.Prompts.Paths = f.prompts })
	set("limit", func() { config.Prompts.Limit = f.limit })
	set("sample", func() { config.Prompts.Sample = f.sample })
	set("out", func() { config.Output.Dir = f.out })
	set("verdict", func() { config.Judge.Verdict = pairwise.Scale(f.verdict) })
	set("replicates", func() { config.Judge.Replicates = f.replicates })
	set("outcome", func() { config.Outcome = winrate.Outcome(f.outcome) })
	set("category-field", func() { config.CategoryField = f.categoryField })
	set("known", func() { config.Known = f.known })
	set("chain", func() { config.Chain = f.chain })
	set("simulate", func() { config.Simulate.Enabled = f.simulate })
	set("max-in-flight", func() { config.Client.MaxInFlight = f.maxInFlight })
	return nil
}

// readPrompts returns the distinct prompts that a config selects, in their order.
func readPrompts(ctx context.Context, c *config.Config) ([]schemas.Prompt, error) {
	s, err := scan(ctx, c)
	if err != nil {
		return nil, err
	}
	var all []schemas.Prompt
	seen := map[string]bool{}
	for _, file := range s.Files {
		err := prompts.ReadFile(ctx, file, c.Reading(), func(line prompts.Line) error {
			if line.Bad == nil && !seen[line.Prompt.ID] && s.Sample.Keep(line.Prompt.ID) {
				seen[line.Prompt.ID] = true
				all = append(all, line.Prompt)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// do asks for missing answers and games, under the lock of OUT, and writes the figures.
func (k *contestRun) do(ctx context.Context) (err error) {
	out := k.Config.Output.Dir
	warnOfKeys(k.Stderr, &k.Config)
	if err := errors.Join(arena.CheckOwn(ctx, out), k.CheckOut(ctx)); err != nil {
		return err
	}
	ctx, unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	end, err := k.Prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if k.Config.Simulate.Enabled {
		k.arena.Simulate = k.Config.Simulate
	}
	contest, err := k.arena.Contest(ctx, givenAnswers)
	if err != nil {
		return err
	}
	// A folder that can't be read is found before anything is paid for.
	if _, _, err := arena.ReadKnown(ctx, k.arena.Known, contest.Baseline.Role.Identity()); err != nil {
		return usage(err)
	}
	lengths, err := journal.FindPrefixBits(ctx, metareward.JournalDir(out))
	if err != nil {
		return err
	}
	asking := metareward.NewAsking(k.Config, k.ID, int64(len(k.prompts)), lengths, k.flags.retryFailed)
	var calls schemas.CallTally
	ask := func(ctx context.Context, dossiers []schemas.Dossier, chain []stage.Spec) error {
		tally, err := infer.RunInProcess(ctx, dossiers, asking.Bits, chain, asking.Infer)
		for _, own := range tally {
			calls = calls.Plus(own)
		}
		return err
	}
	var result *arena.Result
	var silent string // a model without any answer
	err = k.Execute(ctx, func(ctx context.Context) (err error) {
		if k.flags.answersOnly {
			silent, err = contest.AnswerAll(ctx, k.prompts, ask)
			return err
		}
		result, err = contest.Play(ctx, k.prompts, ask)
		return err
	})
	if err != nil {
		return err
	}
	k.WarnOfFailures()
	if k.flags.answersOnly {
		if err := k.printCalls(calls); err != nil || silent == "" {
			return err
		}
		return fmt.Errorf("the model %s has no answer %s", silent, attempt.RetryAdvice)
	}
	if err := k.write(ctx, contest, result, calls); err != nil {
		return err
	}
	if p, ok := result.FailedPairing(); ok {
		return fmt.Errorf("%s against %s has no verdict %s", p[0], p[1], attempt.RetryAdvice)
	}
	return nil
}

// printPlan shows the calls that the contest would make.
func (k *contestRun) printPlan(ctx context.Context) error {
	contest, err := k.arena.Contest(ctx, givenAnswers)
	if err != nil {
		return err
	}
	p, err := contest.Plan(ctx, k.prompts, metareward.JournalDir(k.Config.Output.Dir))
	if err != nil {
		return err
	}
	answers, games := k.flags.cost.of(&p.Answers), k.flags.cost.of(&p.Games)
	w := sanitize.Writer(k.command.OutOrStdout())
	if k.flags.json {
		return printJSON(k.command, &struct {
			*arena.Plan
			AnswersCost *estimate.Cost `json:"answers_cost"`
			GamesCost   *estimate.Cost `json:"games_cost"`
		}{p, answers, games})
	}
	n := humanize.Comma
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tgenerations\tin the journal\tmissing\tprompt tokens\tcompletion tokens\ttime\tmoney\t")
	for _, row := range []struct {
		name  string
		calls *arena.Calls
		cost  *estimate.Cost
	}{{"answers", &p.Answers, answers}, {"games", &p.Games, games}} {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", row.name, n(row.calls.Generations), n(row.calls.Held), n(row.calls.Ask),
			n(row.calls.PromptTokens), n(row.calls.CompletionTokens), row.cost.Time(), row.cost.Money())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range contest.Warnings() {
		fmt.Fprintln(w, "WARNING", warning)
	}
	_, err = fmt.Fprintf(w, "\n%s\n", detectableDifference(p.Prompts))
	return err
}

// detectableDifference returns the sentence of a plan about the smallest difference that an arena on these
// prompts can show.
func detectableDifference(prompts int) string {
	least := 100 * winrate.MinDifference(prompts)
	const half = 50
	if least >= half {
		return fmt.Sprintf("an arena on %d prompts is too small to show any win rate; use more prompts", prompts)
	}
	return fmt.Sprintf("an arena on %s prompts shows a win rate that is at least %.1f points from 50 %% (power 80 %%, standard deviation 0.45 assumed)", humanize.Comma(int64(prompts)), least)
}

// givenAnswers returns the answers of a file by prompt ID.
func givenAnswers(ctx context.Context, path string) (map[string]string, error) {
	rows, err := answers.Read(ctx, path)
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(rows))
	for i := range rows {
		texts[rows[i].Prompt.ID] = rows[i].Text
	}
	return texts, nil
}

// write writes the files and the page, and prints the figures.
func (k *contestRun) write(ctx context.Context, contest *arena.Contest, result *arena.Result, calls schemas.CallTally) error {
	out := k.Config.Output.Dir
	config, err := json.Marshal(k.arena)
	if err != nil {
		return err
	}
	baseline := contest.Baseline.Role.Identity()
	known, digests, err := arena.ReadKnown(ctx, k.arena.Known, baseline)
	if err != nil {
		return err
	}
	report := &arena.Report{
		Simulated: k.Config.Simulate.Enabled, Config: config, Judge: contest.Judge.Role.Identity(), Baseline: baseline,
		Pairings: result.Pairings, Outcome: k.arena.Outcome, Resamples: k.arena.Resamples, Known: digests, Prompts: len(k.prompts),
		FailedCalls: result.Failed, Warnings: append(contest.Warnings(), k.Seen.Warnings...),
	}
	report.Simulated = report.Simulated || k.anySimulated(ctx, contest)
	report.Summary = arena.Summarize(baseline, result.Pairings, result.PlainGames(), result.Answers, known,
		winrate.Options{Outcome: k.arena.Outcome, Resamples: k.arena.Resamples})
	if err := result.Write(ctx, out, report); err != nil {
		return err
	}
	page, err := pages.WriteArena(ctx, out, report)
	if err != nil {
		return err
	}
	w := sanitize.Writer(k.command.OutOrStdout())
	if k.flags.json {
		b, err := json.Marshal(report)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", sanitize.JSON(b))
		return err
	}
	if _, err := fmt.Fprint(w, report.Text()); err != nil {
		return err
	}
	if err := k.printCalls(calls); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "the page is %s; check the files with: coeval verify %s\n", page, out)
	return err
}

// anySimulated reports whether a simulated worker is behind any of the models.
func (k *contestRun) anySimulated(ctx context.Context, contest *arena.Contest) bool {
	roles := []*stage.Role{&contest.Judge.Role, &contest.Baseline.Role}
	for i := range contest.Models {
		roles = append(roles, &contest.Models[i].Role)
	}
	return slices.ContainsFunc(roles, func(r *stage.Role) bool {
		identity, err := infer.KnownIdentity(ctx, metareward.JournalDir(k.Config.Output.Dir), r)
		return err == nil && identity != nil && identity.Simulated()
	})
}

func (k *contestRun) printCalls(calls schemas.CallTally) error {
	_, err := fmt.Fprintf(k.command.OutOrStdout(), "%s generations in %s requests, %s replayed from the journal\n",
		humanize.Comma(calls.Generations), humanize.Comma(calls.Requests), humanize.Comma(calls.Replayed))
	return err
}

// isArena reports whether a folder has the report of an arena and none of a run.
func isArena(ctx context.Context, dir string) bool {
	if _, err := store.Stat(ctx, store.Join(dir, rundir.RunFile)); err == nil {
		return false
	}
	_, err := store.Stat(ctx, store.Join(dir, arena.ReportFile))
	return err == nil
}

// verifyArena checks an arena's files and computes its figures again.
func verifyArena(c *cobra.Command, dir string) error {
	found, err := arena.Verify(c.Context(), dir)
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	for _, problem := range found {
		fmt.Fprintln(c.OutOrStdout(), sanitize.Line(problem))
	}
	if len(found) > 0 {
		return &exitError{code: exitProof, err: fmt.Errorf("%s: %d problems", sanitize.Line(dir), len(found))}
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: proved: all figures, computed again from the files, are the same\n", sanitize.Line(dir))
	return err
}
