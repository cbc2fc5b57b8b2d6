package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/pairs"
	"coeval/transforms/stage"
)

// CallsFile returns the path, below a run's folder, of an attempt's tally of calls.
func CallsFile(attempt string) string { return rundir.OperationsFolder + "/" + attempt + ".calls.json" }

// commit makes the staged files the run's. Each step can be repeated after a kill: run.json exists only
// when all other files are in place.
func commit(ctx context.Context, o *Options, tallies []schemas.Tally, manifests []schemas.Manifest) error {
	var sum schemas.Tally
	for i := range tallies {
		sum.Add(tallies[i])
	}
	slices.SortFunc(manifests, func(a, b schemas.Manifest) int { return a.Shard - b.Shard })
	run, err := newRun(o, &sum, manifests)
	if err != nil {
		return err
	}
	if run.Simulated, err = simulated(ctx, o); err != nil {
		return err
	}
	if err := o.fenced(ctx); err != nil {
		return err
	}
	paths := make([]string, len(run.Files))
	for i, f := range run.Files {
		paths[i] = f.Path
	}
	obsolete, err := rundir.BeginCommit(ctx, o.Out, paths)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := store.Remove(ctx, store.Join(o.Out, rundir.RunFile)); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := publish(ctx, o, run.Files); err != nil {
		return err
	}
	if err := removeObsolete(ctx, o, obsolete); err != nil {
		return err
	}
	if err := o.fenced(ctx); err != nil {
		return err
	}
	encoded, err := encodeJSON(rundir.RunFile, run)
	if err != nil {
		return err
	}
	if err := writeDigests(ctx, o, cardOf(o, run), encoded); err != nil {
		return err
	}
	if err := writeBuckets(ctx, o, manifests); err != nil {
		return err
	}
	if err := writeJSON(ctx, store.Join(o.Out, CallsFile(o.Attempt)), &sum); err != nil {
		return err
	}
	if err := o.fenced(ctx); err != nil {
		return err
	}
	if err := writeRun(ctx, store.Join(o.Out, rundir.RunFile), encoded); err != nil {
		return err
	}
	if err := rundir.EndCommit(ctx, o.Out); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// newRun adds the shards up and checks that no prompt was lost between two counts.
func newRun(o *Options, sum *schemas.Tally, manifests []schemas.Manifest) (*schemas.Run, error) {
	run := &schemas.Run{Format: schemas.RunFormat, Config: o.Config}
	var findings, badLines int64
	for i := range manifests {
		m := &manifests[i]
		findings += m.Findings
		badLines += m.BadLines
		run.Stats.Add(&m.Stats)
		run.Files = append(run.Files, m.Files...)
	}
	slices.SortFunc(run.Files, func(a, b schemas.File) int { return strings.Compare(a.Path, b.Path) })
	run.Ledger = schemas.Ledger{
		Lines: sum.Lines, Bad: sum.Bad, NotDrawn: sum.NotDrawn, Merged: sum.Merged, Findings: sum.Findings, Roles: map[string]schemas.Outcomes{},
	}
	for _, role := range o.Roles {
		run.Ledger.Roles[role] = run.Stats.Outcomes[role]
	}
	if o.wants(schemas.RoleJudge) {
		run.PositionWeights = positionWeights(o, run.Stats.PositionSums())
	}
	return run, checkLedger(o, sum, run, manifests, findings, badLines)
}

// positionWeights returns the weights of the whole run, nil if every response had its own.
func positionWeights(o *Options, c schemas.PositionCounts) *schemas.PositionWeights {
	w := o.Pairing.Fixed
	switch o.Pairing.PositionWeights {
	case pairs.ResponseWeights:
		return nil
	case pairs.FixedWeights:
	default:
		w = pairs.Weights(c)
	}
	return &w
}

// simulated reports whether the simulated worker played a role, according to the journal.
func simulated(ctx context.Context, o *Options) (bool, error) {
	for _, r := range []*stage.Role{&o.Actor, &o.Judging.Role, &o.MetaJudge} {
		if r.Simulated != "" {
			return true, nil
		}
		i, err := infer.KnownIdentity(ctx, o.Journal, r)
		if err != nil {
			return false, fmt.Errorf("sink: %w", err)
		}
		if i != nil && i.Simulated() {
			return true, nil
		}
	}
	return false, nil
}

func checkLedger(o *Options, sum *schemas.Tally, run *schemas.Run, manifests []schemas.Manifest, findings, badLines int64) error {
	var wrong []string
	equal := func(what string, got, want int64) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s: %d against %d", what, got, want))
		}
	}
	equal("lines when scanned against lines read", o.Lines, sum.Lines)
	equal("lines read against bad + not drawn + merged + findings", sum.Lines, sum.Bad+sum.NotDrawn+sum.Merged+sum.Findings)
	equal("bad lines read against bad lines sent to the files", sum.Bad, sum.BadLines)
	equal("bad lines sent to the files against bad lines written", sum.BadLines, badLines)
	equal("findings made against findings written", sum.Findings, findings)
	for _, role := range o.Roles {
		equal("findings against selections of the "+role+" sent to the files", sum.Findings, sum.Selections[role])
		equal("findings against selections of the "+role+" written", sum.Findings, run.Ledger.Roles[role].Total())
	}
	equal("shards against manifests", int64(o.Shards), int64(len(manifests)))
	for i := range manifests {
		equal("shard against its manifest", int64(i), int64(manifests[i].Shard))
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("sink: the ledger does not add up, and nothing was committed: %s", strings.Join(wrong, "; "))
}

// publish gives every staged file its final name. One that has it already has the manifest's
// digest.
func publish(ctx context.Context, o *Options, files []schemas.File) error {
	for _, f := range files {
		if err := o.fenced(ctx); err != nil {
			return err
		}
		staged := store.Join(o.Out, rundir.StagingFolder, o.Attempt, f.Path)
		final := store.Join(o.Out, f.Path)
		err := store.Move(ctx, staged, final)
		if errors.Is(err, fs.ErrNotExist) {
			err = checkDigest(ctx, final, f.SHA256)
		}
		if err != nil {
			return fmt.Errorf("sink: publish %s: %w", f.Path, err)
		}
	}
	return nil
}

func checkDigest(ctx context.Context, name, want string) (err error) {
	r, err := store.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, r.Stream(0)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the SHA-256 %s, and %s in the manifest", name, got, want)
	}
	return nil
}

// removeObsolete removes the shards of an earlier run that this run does not have.
func removeObsolete(ctx context.Context, o *Options, obsolete []string) error {
	for _, name := range obsolete {
		if err := o.fenced(ctx); err != nil {
			return err
		}
		if err := store.Remove(ctx, store.Join(o.Out, name)); err != nil {
			return fmt.Errorf("sink: remove %s of an earlier run: %w", name, err)
		}
	}
	return nil
}

// writeRun writes run.json if none exists: commit has removed it, so a present one is another run's. On
// a disk no other process is active.
func writeRun(ctx context.Context, name string, encoded []byte) error {
	if store.HasLocks(name) {
		if err := store.WriteFile(ctx, name, encoded); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
		return nil
	}
	_, err := store.Swap(ctx, name, "", encoded)
	if errors.Is(err, store.ErrChanged) {
		// Some stores with versions take a removed object for one that exists. Nobody else writes under the
		// lease, which the caller has checked.
		if _, missing := store.Stat(ctx, name); errors.Is(missing, fs.ErrNotExist) {
			err = store.WriteFile(ctx, name, encoded)
		}
	}
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// DigestFile is the name of the file in the journal that binds run.json to it: a line as sha256sum
// writes it.
const DigestFile = "run.json.sha256"

// RunDigest returns the digest of run.json, and the content of [DigestFile].
func RunDigest(run []byte) (digest string, file []byte) {
	return rundir.SHA256Line(rundir.RunFile, run)
}

// writeDigests writes the digest of run.json into the card and the journal, so that an edit of run.json
// alone is visible.
func writeDigests(ctx context.Context, o *Options, card shards.Card, run []byte) error {
	digest, file := RunDigest(run)
	card.RunSHA256 = digest
	if err := store.WriteFile(ctx, store.Join(o.Out, rundir.CardFile), card.Markdown()); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := store.WriteFile(ctx, store.Join(o.Journal, DigestFile), file); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

func writeJSON[T any](ctx context.Context, name string, v *T) error {
	b, err := encodeJSON(name, v)
	if err != nil {
		return err
	}
	if err := store.WriteFile(ctx, name, b); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

func encodeJSON[T any](name string, v *T) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("sink: %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// BucketsFile is the name of the file in the journal that lists the buckets with the answers of run.json, one a line.
// The next run finds lost ones by it.
const BucketsFile = "run.json.buckets"

// writeBuckets writes the list of the run's buckets.
func writeBuckets(ctx context.Context, o *Options, manifests []schemas.Manifest) error {
	var all []string
	for i := range manifests {
		all = append(all, manifests[i].Buckets...)
	}
	slices.Sort(all)
	list := strings.Join(slices.Compact(all), "\n") + "\n"
	if err := store.WriteFile(ctx, store.Join(o.Journal, BucketsFile), []byte(list)); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// cardOf returns the dataset card of a run.
func cardOf(o *Options, run *schemas.Run) shards.Card {
	c := shards.Card{ActorModel: o.Actor.Identity(), JudgeModel: o.Judging.Role.Identity(), Simulated: run.Simulated}
	if o.wants(schemas.RoleJudge) {
		c.MetaJudgeModel = o.MetaJudge.Identity()
	}
	rows := map[shards.Table]*int64{
		shards.Prompts: &c.Prompts, shards.Responses: &c.Responses, shards.Judgments: &c.Judgments,
		shards.Comparisons: &c.Comparisons, shards.Failures: &c.Failures, shards.Reads: &c.Reads,
	}
	for _, f := range run.Files {
		file := shards.File{Path: f.Path, Info: shards.Info{Rows: f.Rows, Bytes: f.Bytes, SHA256: f.SHA256}}
		switch table := shards.Table(path.Dir(f.Path)); table {
		case shards.Actor:
			c.Actor = append(c.Actor, file)
		case shards.Judge:
			c.Judge = append(c.Judge, file)
		default:
			*rows[table] += f.Rows
		}
	}
	return c
}
