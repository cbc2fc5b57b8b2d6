package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"coeval/datasets/journal"
	"coeval/datasets/labels"
	"coeval/datasets/prompts"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/pipelines/config"
	"coeval/pipelines/metareward"
	"coeval/runners/attempt"
	"coeval/runners/calibrate"
	"coeval/runners/pages"
	"coeval/schemas"
	"coeval/schemas/sanitize"
	"coeval/transforms/infer"
	"coeval/transforms/score"
)

// calibrateFlags are the flags of calibrate that are not the config's.
type calibrateFlags struct {
	runFlags

	labels    string
	scale     string
	mapTo     string
	resamples int
	verdicts  []string
}

func newCalibrateCommand() *cobra.Command {
	var flags calibrateFlags
	c := &cobra.Command{
		Use:   "calibrate [CONFIG.yaml] --people FILE --out OUT [flags]",
		Short: "Compare the judge with people: agreement, ranks, certainty, and a map to their scale",
		Long: `Compare the judge with people. Labels are pairs of responses with a preference, as
{"prompt": …, "response_1": …, "response_2": …, "label": 1} with 1, 2 or "tie", or LLMBar's form; or scored responses,
as {"prompt": …, "response": …, "score": 3.5}. The command requests judgments from the config's judge as a run does, and takes from the journal of OUT the answers that it already contains. The figures go to OUT/calibration.json and to a page, calibration.html.
With --map a map to people's scale is written, for judge.calibration of a run; it needs scored responses.
With --verdict read,reasoned the command requests both kinds of verdicts, and prints which is worth its price.`,
		Example: `  coeval calibrate config.yaml --people labels.jsonl --out calibration
  coeval calibrate config.yaml --people scores.jsonl --scale 1:10 --out calibration --map map.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := flags.prepare(c, args)
			if err != nil {
				return err
			}
			return failed(k.do(c.Context()))
		},
	}
	flags.registerAsking(c.Flags())
	flags.registerRun(c)
	c.Flags().Var(pathFlag{to: &flags.labels}, "people", "file of people's labels: JSONL or a JSON array (.gz and .zst too)")
	c.Flags().StringVar(&flags.scale, "scale", "0:5", "lowest and highest score that people could give; it is mapped to 0 to 5")
	c.Flags().Var(pathFlag{to: &flags.mapTo}, "map", "write the map to people's scale to this file")
	c.Flags().StringSliceVar(&flags.verdicts, "verdict", nil, "kinds of verdicts to measure: reasoned, read, or both (read,reasoned), which are then compared; none is judge.verdict")
	c.Flags().IntVar(&flags.resamples, "resamples", 1000, "resamples that intervals are made of, 100 to 100000")
	c.Flags().BoolVar(&flags.takeover, "takeover", false, "seize --out from another run, on gs:// or s3://; that run stops")
	return c
}

// calibration is one attempt.
type calibration struct {
	*run

	flags *calibrateFlags
	set   *labels.Set
	scale labels.Scale
}

// prepare reads config and labels. Its errors are of usage.
func (f *calibrateFlags) prepare(c *cobra.Command, args []string) (*calibration, error) {
	loaded, err := f.loadFor(c, args, config.Config.ValidateJudging)
	k := &calibration{flags: f}
	var errs []error
	if c := (*exitError)(nil); errors.As(err, &c) {
		errs = append(errs, c.err)
	}
	if k.scale, err = labels.ParseScale(f.scale); err != nil {
		errs = append(errs, fmt.Errorf("--%w", err))
	}
	if err := f.check(c); err != nil {
		errs = append(errs, err)
	}
	if f.resamples < 100 || f.resamples > 100_000 {
		errs = append(errs, fmt.Errorf("--resamples is %d; allowed is 100 to 100000", f.resamples))
	}
	for i, v := range f.verdicts {
		if v != config.ReadVerdict && v != config.ReasonedVerdict || slices.Contains(f.verdicts[:i], v) {
			errs = append(errs, fmt.Errorf("--verdict has %q; allowed are read and reasoned, each once", v))
		}
	}
	if f.labels == "" {
		errs = append(errs, errors.New("--people is missing; it names the file of labels"))
	}
	if len(errs) > 0 {
		return nil, usage(errors.Join(errs...))
	}
	if k.set, err = labels.Read(c.Context(), f.labels, k.scale); err != nil {
		return nil, usage(err)
	}
	if f.mapTo != "" && k.set.Kind == labels.Pairs {
		return nil, usage(fmt.Errorf("--map is %q, but %s has preferences, which show the better response and not by how much: a map needs labels with scores", f.mapTo, f.labels))
	}
	k.run = &run{Attempt: f.newAttempt(c, loaded), flags: &f.runFlags, command: c}
	k.Scan = &prompts.Scan{Prompts: int64(len(k.set.Prompts))}
	return k, nil
}

// isCalibration recognizes the maps that --map writes.
func isCalibration(start []byte) bool {
	_, err := score.ParseCalibration(start)
	return err == nil
}

// do asks for missing judgments under the lock of OUT and reports the figures.
func (k *calibration) do(ctx context.Context) (err error) {
	if err := checkKeys(&k.Config, schemas.RoleJudge); err != nil {
		return err
	}
	warnOfKeys(k.Stderr, &k.Config)
	if err := k.CheckOut(ctx); err != nil {
		return err
	}
	if err := rundir.CheckOwn(ctx, store.Join(k.Config.Output.Dir, calibrate.File), calibrate.IsFigures); err != nil {
		return err
	}
	if err := rundir.CheckOwn(ctx, store.Join(k.Config.Output.Dir, pages.CalibrationFile), rundir.IsPage); err != nil {
		return err
	}
	if k.flags.mapTo != "" {
		if err := rundir.CheckOwn(ctx, k.flags.mapTo, isCalibration); err != nil {
			return fmt.Errorf("--map: %w", err)
		}
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
	f, calls, err := k.ask(ctx)
	if err != nil {
		return err
	}
	return k.report(ctx, f, calls)
}

// ask has the responses judged and returns the figures.
func (k *calibration) ask(ctx context.Context) (*calibrate.Figures, schemas.CallTally, error) {
	dir := metareward.JournalDir(k.Config.Output.Dir)
	lengths, err := journal.FindPrefixBits(ctx, dir)
	if err != nil {
		return nil, schemas.CallTally{}, err
	}
	j, err := metareward.NewJudging(k.Config, k.ID, k.Scan.Prompts, lengths, k.flags.retryFailed, k.flags.verdicts...)
	if err != nil {
		return nil, schemas.CallTally{}, err
	}
	dossiers := k.set.Dossiers()
	var calls map[string]schemas.CallTally
	err = k.Execute(ctx, func(ctx context.Context) (err error) {
		calls, err = infer.RunInProcess(ctx, dossiers, j.Bits, j.Chain, j.Infer)
		return err
	})
	var sum schemas.CallTally
	for _, c := range calls {
		sum = sum.Plus(c)
	}
	if err != nil {
		return nil, sum, err
	}
	identity, err := infer.KnownIdentity(ctx, dir, &j.Role)
	if err != nil {
		return nil, sum, err
	}
	simulated := j.Role.Simulated != "" || identity != nil && identity.Simulated()
	figures := map[string]*calibrate.Figures{}
	for verdict, by := range j.Judge {
		for i := range dossiers {
			score.Dossier(&dossiers[i], j.Scoring[verdict])
		}
		figures[verdict] = calibrate.Of(k.set, dossiers, calibrate.Asked{
			Judge: calibrate.Judge{
				CalibratedJudge: score.CalibratedJudge{Model: j.Role.Model, Revision: j.Role.Revision, Judgments: by.N, Template: by.Template},
				MinJudgments:    k.Config.Method.MinJudgments, Reads: verdict == config.ReadVerdict,
			},
			Simulated: simulated, Scale: k.scale, Resamples: k.flags.resamples,
		})
	}
	own := figures[k.Config.Judge.Verdict]
	if own == nil {
		own = figures[k.flags.verdicts[0]]
	}
	if read, reasoned := figures[config.ReadVerdict], figures[config.ReasonedVerdict]; read != nil && reasoned != nil {
		own.Verdicts = calibrate.OfBoth(read, reasoned, dossiers)
	}
	return own, sum, nil
}

// report writes the figures, the page and the map, and prints the figures. It returns an error if no response has
// a score because calls failed.
func (k *calibration) report(ctx context.Context, f *calibrate.Figures, calls schemas.CallTally) error {
	if err := k.write(ctx, f, calls); err != nil {
		return err
	}
	k.WarnOfFailures()
	if len(f.FailedCalls) > 0 && f.Labels.Unscored == f.Labels.Responses {
		return fmt.Errorf("no response has a score of the judge %s", attempt.RetryAdvice)
	}
	return nil
}

func (k *calibration) write(ctx context.Context, f *calibrate.Figures, calls schemas.CallTally) error {
	out := k.Config.Output.Dir
	if err := f.Write(ctx, out); err != nil {
		return err
	}
	page, err := pages.WriteCalibration(ctx, out, f)
	if err != nil {
		return err
	}
	if k.flags.json {
		told := struct {
			*calibrate.Figures
			Warnings []string          `json:"warnings"`
			Calls    schemas.CallTally `json:"calls"`
		}{f, append(append([]string{}, f.Warnings()...), k.Seen.Warnings...), calls}
		b, err := json.Marshal(told)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(k.command.OutOrStdout(), "%s\n", sanitize.JSON(b)); err != nil {
			return err
		}
		return k.writeMap(ctx, f)
	}
	w := sanitize.Writer(k.command.OutOrStdout())
	if err := f.Print(w); err != nil {
		return err
	}
	if f.Verdicts != nil {
		if err := f.Verdicts.Print(w); err != nil {
			return err
		}
	}
	for _, warning := range k.Seen.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n", warning)
	}
	if err := k.writeMap(ctx, f); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s generations in %s requests, %s replayed from the journal; %s and %s\n",
		humanize.Comma(calls.Generations), humanize.Comma(calls.Requests), humanize.Comma(calls.Replayed), page, store.Join(out, calibrate.File))
	return err
}

// writeMap writes the map if that is wanted. The date is the only value in it that depends on the
// clock.
func (k *calibration) writeMap(ctx context.Context, f *calibrate.Figures) error {
	if k.flags.mapTo == "" {
		return nil
	}
	c, err := f.Calibration(k.Started.UTC().Format(time.DateOnly))
	if err != nil {
		return fmt.Errorf("--map %s: %w", k.flags.mapTo, err)
	}
	b, err := c.Encode()
	if err != nil {
		return err
	}
	if err := store.WriteFile(ctx, k.flags.mapTo, b); err != nil {
		return err
	}
	if k.flags.json {
		return nil
	}
	_, err = fmt.Fprintf(sanitize.Writer(k.command.OutOrStdout()), "\nthe map is %s: --set judge.calibration=%s\n", k.flags.mapTo, k.flags.mapTo)
	return err
}
