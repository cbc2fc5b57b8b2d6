package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/schemas"
	"coeval/transforms/simulator"
	"coeval/transforms/simulator/world"
)

// newSimulateTrainCommand returns the trainer of simulated loops. It reads nothing but Parquet.
func newSimulateTrainCommand() *cobra.Command {
	var actor, judge, model, out, worldName string
	var seed uint64
	var shuffle bool
	c := &cobra.Command{
		Use:   "train --actor DIR --judge DIR --model PATH --out DIR",
		Short: "Train a simulated model on a set of pairs, under our rule of learning",
		Long: `Train a simulated model: read the pairs of a training set, look up the hidden qualities of their texts, and
write an adapter that the simulated worker loads (coeval simulate --adapters). How much a set teaches follows our rule,
which is chosen and not measured; see docs/iterations.md.`,
		Example: "  coeval simulate train --actor it-1/set/actor --judge it-1/set/judge --model base --out it-1/model",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := world.Named(worldName)
			if err != nil {
				return usage(err)
			}
			if out == "" {
				return usage(fmt.Errorf("--out is missing; it names the folder of the adapter"))
			}
			if err := rundir.CheckOwn(c.Context(), filepath.Join(out, simulator.AdapterFile), simulator.IsAdapter); err != nil {
				return failed(err)
			}
			w.Seed = seed
			s, err := skillAt(model)
			if err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			var pairs [2][]schemas.Pair
			for i, dir := range []string{actor, judge} {
				if pairs[i], err = readPairs(c, dir); err != nil {
					return &exitError{code: exitFailed, err: err}
				}
			}
			if shuffle {
				shuffleSides(pairs[1], seed)
			}
			lesson := w.Lesson(pairs[0], pairs[1])
			next := w.Learn(s, lesson)
			fmt.Fprintf(c.OutOrStdout(), "%d actor pairs: quality gap %+.3f points, length gap %+.3f sd\n%d judge pairs: error gap %+.3f points\n%s\n",
				lesson.ActorPairs, lesson.QualityGap, lesson.LengthGap, lesson.JudgePairs, lesson.ErrorGap, next.Model())
			if err := simulator.WriteAdapter(out, next); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&actor, "actor", "", "folder of actor pairs; it may be missing")
	f.StringVar(&judge, "judge", "", "folder of judge pairs; it may be missing")
	f.StringVar(&model, "model", "", "absolute path of the adapter to train on, or the name of the first model")
	f.StringVar(&out, "out", "", "folder of the trained adapter")
	f.StringVar(&worldName, "world", "moderate", "quality of its judges: mild, moderate, noisy, bad")
	f.Uint64Var(&seed, "seed", 0, "of the hidden truth")
	f.BoolVar(&shuffle, "shuffle-judge", false, "swap chosen and rejected of half the judge pairs, at random: a control whose judge pairs teach nothing")
	return c
}

// skillAt returns the skill of the adapter at an absolute path. A name, as the first model has, is the
// zero skill.
func skillAt(path string) (world.Skill, error) {
	if !filepath.IsAbs(path) {
		return world.Skill{}, nil
	}
	return simulator.ReadAdapter(path)
}

// shuffleSides swaps chosen and rejected of each pair with probability ½, by the hash of its ID.
func shuffleSides(pairs []schemas.Pair, seed uint64) {
	for i := range pairs {
		p := &pairs[i]
		if schemas.Digest(p.ID, fmt.Sprint(seed))[0]%2 == 0 {
			p.Chosen, p.Rejected = p.Rejected, p.Chosen
		}
	}
}

// readPairs returns the pairs of all Parquet files of a folder.
func readPairs(c *cobra.Command, dir string) ([]schemas.Pair, error) {
	if dir == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		return nil, err
	}
	var pairs []schemas.Pair
	for _, name := range files {
		err := shards.ReadRows(c.Context(), name, func(p *schemas.Pair) error {
			pairs = append(pairs, *p)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pairs, nil
}
