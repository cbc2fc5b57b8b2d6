package metareward

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"coeval/datasets/journal"
	"coeval/datasets/journal/upkeep"
	"coeval/datasets/rundir"
	"coeval/datasets/store"
	"coeval/transforms/sink"
)

// CheckKept returns an error if out has the run.json of a run with answers, and its journal contains none, or
// lacks a bucket: a run would request and pay for them again. A salvaged journal passes, since its loss is
// known.
func CheckKept(ctx context.Context, out string) error {
	run, err := rundir.ReadRun(ctx, out)
	if err != nil || run == nil || run.Stats.Responses.Replicates == 0 {
		return err
	}
	dir := JournalDir(out)
	kept, err := journal.Exists(ctx, dir)
	if err != nil {
		return err
	}
	lost := ""
	if kept {
		if lost, err = lostBucket(ctx, dir, run.Ledger.Findings); err != nil || lost == "" {
			return err
		}
	}
	salvaged, err := store.List(ctx, store.Join(dir, upkeep.DamagedFolder)+"/")
	if err != nil {
		return fmt.Errorf("metareward: %w", err)
	}
	if len(salvaged) > 0 {
		return nil
	}
	manifest := store.Join(out, rundir.RunFile)
	if kept {
		return fmt.Errorf("%s: lost: there is no such folder with answers, and %s counts %d prompts: restore it, or choose another --out to request and pay for all answers again",
			store.Join(dir, lost), manifest, run.Ledger.Findings)
	}
	return fmt.Errorf("%s has no answers any more, and %s counts %d responses: restore the folder, or choose another --out to request and pay for all answers again",
		dir, manifest, run.Stats.Responses.Replicates)
}

// lostBucket returns the name of a bucket that the journal lacks, "" for none. Sink lists the buckets of a run. In runs
// of earlier versions the number of prompts shows which buckets there must be.
func lostBucket(ctx context.Context, dir string, prompts int64) (string, error) {
	names, err := store.Folders(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("metareward: %w", err)
	}
	list, err := store.ReadFile(ctx, store.Join(dir, sink.BucketsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return lostByNumber(ctx, dir, names, prompts)
	}
	if err != nil {
		return "", fmt.Errorf("metareward: %w", err)
	}
	for bucket := range strings.FieldsSeq(string(list)) {
		// The answers of a bucket may be in the folders of a shorter or a longer prefix.
		at := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(bucket, name) || strings.HasPrefix(name, bucket) })
		if at < 0 {
			return bucket, nil
		}
		if !store.HasLocks(dir) {
			continue // a view of the bucket finds lost objects
		}
		files, err := store.List(ctx, store.Join(dir, names[at])+"/")
		if err != nil {
			return "", fmt.Errorf("metareward: %w", err)
		}
		if len(files) == 0 {
			return names[at], nil
		}
	}
	return "", nil
}

// surePrompts is a number of prompts of a bucket, in the mean, with which no bucket is empty by chance: IDs are
// hashes, so that a bucket has no prompt with a probability of exp(-40) = 4e-18.
const surePrompts = 40

// lostByNumber returns the name of a bucket of which a journal of this many prompts lacks the folder, "" for
// none. A bucket may be in the folder of a shorter prefix.
func lostByNumber(ctx context.Context, dir string, names []string, prompts int64) (string, error) {
	lengths, err := journal.FindPrefixBits(ctx, dir)
	bits := lengths.Longest()
	if err != nil || bits == 0 || prompts>>bits < surePrompts {
		return "", err
	}
	for i := range 1 << bits {
		bucket := fmt.Sprintf("b%0*b", bits, i)
		if !slices.ContainsFunc(lengths, func(n int) bool { return slices.Contains(names, bucket[:1+n]) }) {
			return bucket, nil
		}
	}
	return "", nil
}
