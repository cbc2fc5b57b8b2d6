// Package trainset makes the training set of an iteration from the pairs of its run. It samples actor and
// judge pairs and mixes them. It splits them by prompt into a training and a held-out part, and writes the
// files in a trainer's format.
//
// The result depends on the pairs and the options alone. Pairs are drawn and shuffled by a hash of
// their IDs with the seed, so that the order of the input's shards does not matter.
package trainset

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
)

// Layout is the form of the files.
type Layout string

// The layouts.
const (
	// Pairs is Parquet with prompt, chosen and rejected as lists of messages: TRL, OpenRLHF, axolotl.
	Pairs Layout = "pairs"
	// LLaMAFactory is JSONL with conversations, and chosen and rejected as one message each.
	LLaMAFactory Layout = "llama-factory"
	// NeMoRL is JSONL with context and ranked completions.
	NeMoRL Layout = "nemo-rl"
)

// Layouts are all of them.
var Layouts = []Layout{Pairs, LLaMAFactory, NeMoRL}

// Options describe a set.
type Options struct {
	// Roles whose pairs are used; both are the usual.
	Roles []string `yaml:"roles" json:"roles"`
	// MaxActorPairs and MaxJudgePairs bound the pairs of each role. Zero takes all.
	MaxActorPairs int `yaml:"max_actor_pairs" json:"max_actor_pairs"`
	MaxJudgePairs int `yaml:"max_judge_pairs" json:"max_judge_pairs"`
	// HeldOut is the share of the prompts whose pairs are kept out of training, 0 to 0.5.
	HeldOut float64 `yaml:"held_out" json:"held_out"`
	// Layout is the form of the files. Empty means pairs.
	Layout Layout `yaml:"layout" json:"layout"`
	// Seed decides which pairs are drawn, and their order.
	Seed int64 `yaml:"seed" json:"seed"`
}

// Validate returns all problems joined.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("set.%s is %v; allowed is %s", key, value, allowed))
		}
	}
	for _, role := range o.Roles {
		check(role == schemas.RoleActor || role == schemas.RoleJudge, "roles", role, "actor and judge")
	}
	check(len(o.Roles) > 0, "roles", "empty", "a list of actor and judge")
	check(o.MaxActorPairs >= 0, "max_actor_pairs", o.MaxActorPairs, "0 (all) or more")
	check(o.MaxJudgePairs >= 0, "max_judge_pairs", o.MaxJudgePairs, "0 (all) or more")
	check(o.HeldOut >= 0 && o.HeldOut <= 0.5, "held_out", o.HeldOut, "0 to 0.5")
	check(o.Layout == "" || slices.Contains(Layouts, o.Layout), "layout", o.Layout, fmt.Sprint(Layouts))
	return errors.Join(errs...)
}

// The folders of a set, below its own.
const (
	// ActorFolder and JudgeFolder contain the training pairs of one role each, MixedFolder those of
	// both, shuffled, and HeldOutFolder the held-out pairs.
	ActorFolder   = "actor"
	JudgeFolder   = "judge"
	MixedFolder   = "train"
	HeldOutFolder = "held-out"
	// File describes the set.
	File = "set.json"
)

// A Set describes the files of a training set.
type Set struct {
	Options Options `json:"options"`
	// Actor, Judge and HeldOut count the pairs.
	Actor   int            `json:"actor"`
	Judge   int            `json:"judge"`
	HeldOut int            `json:"held_out"`
	Files   []schemas.File `json:"files"`
}

// Digest identifies the files.
func (s *Set) Digest() string {
	h := sha256.New()
	for _, f := range s.Files {
		fmt.Fprintf(h, "%s %s\n", f.Path, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Check returns an error if a file of the set in a folder is missing or was changed.
func (s *Set) Check(dir string) error {
	for _, f := range s.Files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("a file of the training set can't be read: %w. Restore it, or remove the lines of this set and all below from the loop's state", err)
		}
		h := sha256.New()
		_, err = io.Copy(h, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if sum := hex.EncodeToString(h.Sum(nil)); sum != f.SHA256 {
			return fmt.Errorf("%s changed after the set was made: its SHA-256 is %s, and was %s. Restore it, or remove the lines of this set and all below from the loop's state", name, sum, f.SHA256)
		}
	}
	return nil
}

// Make reads the pairs of a run and writes their set into a folder, the description last.
func Make(ctx context.Context, run, dir string, o Options) (*Set, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Layout = cmp.Or(o.Layout, Pairs)
	s := &Set{Options: o}
	parts := map[string][]schemas.Pair{}
	for _, role := range []string{schemas.RoleActor, schemas.RoleJudge} {
		if !slices.Contains(o.Roles, role) {
			continue
		}
		pairs, err := read(ctx, store.Join(run, role))
		if err != nil {
			return nil, err
		}
		train, heldOut := o.draw(role, pairs)
		parts[role], parts[MixedFolder] = train, append(parts[MixedFolder], train...)
		parts[HeldOutFolder] = append(parts[HeldOutFolder], heldOut...)
	}
	s.Actor, s.Judge, s.HeldOut = len(parts[schemas.RoleActor]), len(parts[schemas.RoleJudge]), len(parts[HeldOutFolder])
	if s.Actor+s.Judge == 0 {
		return nil, fmt.Errorf("the run %s has no pairs of %s to train on; coeval report %s shows why", run, strings.Join(o.Roles, " and "), run)
	}
	for _, folder := range []string{ActorFolder, JudgeFolder, MixedFolder, HeldOutFolder} {
		if len(parts[folder]) == 0 {
			continue
		}
		o.shuffle(parts[folder])
		f, err := o.write(ctx, dir, folder, parts[folder])
		if err != nil {
			return nil, err
		}
		s.Files = append(s.Files, f)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("trainset: %w", err)
	}
	return s, store.WriteFile(ctx, store.Join(dir, File), append(b, '\n'))
}

// read returns the pairs of all shards of a folder. A folder that isn't there has none.
func read(ctx context.Context, folder string) ([]schemas.Pair, error) {
	files, err := store.List(ctx, folder+"/")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var pairs []schemas.Pair
	for _, f := range files {
		if !strings.HasSuffix(f.Path, ".parquet") {
			continue
		}
		err := shards.ReadTable(ctx, f.Path, func(p *schemas.Pair) error {
			pairs = append(pairs, *p)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pairs, nil
}

// rank orders pairs at random, by hash.
func (o *Options) rank(purpose, id string) string {
	return schemas.Digest(purpose, fmt.Sprint(o.Seed), id)
}

// draw splits pairs by prompt and takes the first of the training part by rank.
func (o *Options) draw(role string, pairs []schemas.Pair) (train, heldOut []schemas.Pair) {
	for i := range pairs {
		if o.isHeldOut(pairs[i].PromptID) {
			heldOut = append(heldOut, pairs[i])
		} else {
			train = append(train, pairs[i])
		}
	}
	limit := o.MaxActorPairs
	if role == schemas.RoleJudge {
		limit = o.MaxJudgePairs
	}
	if limit > 0 && len(train) > limit {
		slices.SortFunc(train, func(a, b schemas.Pair) int { return cmp.Compare(o.rank("draw", a.ID), o.rank("draw", b.ID)) })
		train = train[:limit]
	}
	return train, heldOut
}

// isHeldOut reports whether all pairs of a prompt are kept out: both roles, in every iteration.
func (o *Options) isHeldOut(promptID string) bool {
	const bits = 32
	b, err := hex.DecodeString(o.rank("held out", promptID)[:bits/4])
	if err != nil {
		return false // a digest is hex
	}
	x := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	return float64(x) < o.HeldOut*(1<<bits)
}

func (o *Options) shuffle(pairs []schemas.Pair) {
	slices.SortFunc(pairs, func(a, b schemas.Pair) int { return cmp.Compare(o.rank("shuffle", a.ID), o.rank("shuffle", b.ID)) })
}

func (o *Options) write(ctx context.Context, dir, folder string, pairs []schemas.Pair) (schemas.File, error) {
	var b bytes.Buffer
	name := folder + "/train.parquet"
	if o.Layout == Pairs {
		if _, err := shards.WriteRows(&b, pairs); err != nil {
			return schemas.File{}, err
		}
	} else {
		name = folder + "/train.jsonl"
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		for i := range pairs {
			row, err := o.row(&pairs[i])
			if err != nil {
				return schemas.File{}, err
			}
			if err := encoder.Encode(row); err != nil {
				return schemas.File{}, fmt.Errorf("trainset: pair %s: %w", pairs[i].ID, err)
			}
		}
	}
	sum := sha256.Sum256(b.Bytes())
	f := schemas.File{Path: name, Rows: int64(len(pairs)), Bytes: int64(b.Len()), SHA256: hex.EncodeToString(sum[:])}
	return f, store.WriteFile(ctx, store.Join(dir, name), b.Bytes())
}

// row returns a pair in a JSON layout.
func (o *Options) row(p *schemas.Pair) (map[string]any, error) {
	if len(p.Chosen) != 1 || len(p.Rejected) != 1 {
		return nil, fmt.Errorf("trainset: pair %s has %d chosen and %d rejected messages; the layout %s takes one each", p.ID, len(p.Chosen), len(p.Rejected), o.Layout)
	}
	if o.Layout == NeMoRL {
		return map[string]any{
			"context": p.Prompt,
			"completions": []map[string]any{
				{"rank": 0, "completion": p.Chosen}, {"rank": 1, "completion": p.Rejected},
			},
		}, nil
	}
	return map[string]any{"conversations": p.Prompt, "chosen": p.Chosen[0], "rejected": p.Rejected[0]}, nil
}
