package sink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"coeval/datasets/journal"
	"coeval/datasets/rundir"
	"coeval/datasets/shards"
	"coeval/datasets/store"
	"coeval/schemas"
	"coeval/transforms/infer"
	"coeval/transforms/judge"
	"coeval/transforms/stage"
)

// table is one file of a shard while it is written.
type table[T shards.Row] struct {
	path string
	out  *store.Writer
	rows *shards.Writer[T]
}

func openTable[T shards.Row](ctx context.Context, o *Options, name shards.Table, shard int) (*table[T], error) {
	path := shards.Path(name, shard, o.Shards)
	out, err := store.Create(ctx, store.Join(o.Out, rundir.StagingFolder, o.Attempt, path))
	if err != nil {
		return nil, err
	}
	rows, err := shards.NewWriter[T](out, name)
	if err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	return &table[T]{path: path, out: out, rows: rows}, nil
}

// write adds rows in the table's order.
func (t *table[T]) write(rows []T) error {
	slices.SortFunc(rows, func(a, b T) int { return shards.Compare(&a, &b) })
	for i := range rows {
		if err := t.rows.Write(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *table[T]) close(m *schemas.Manifest) error {
	if t == nil {
		return nil
	}
	info, err := t.rows.Close()
	if err != nil {
		return err
	}
	if err := t.out.Close(); err != nil {
		return err
	}
	m.Files = append(m.Files, schemas.File{Path: t.path, Rows: info.Rows, Bytes: info.Bytes, SHA256: info.SHA256})
	return nil
}

func (t *table[T]) abort() error {
	if t == nil {
		return nil
	}
	return t.out.Abort()
}

// tables are the files of a shard. A table of a role that was not requested is nil.
type tables struct {
	actor, judge *table[schemas.Pair]
	prompts      *table[schemas.PromptRow]
	responses    *table[schemas.ResponseRow]
	judgments    *table[schemas.JudgmentRow]
	comparisons  *table[schemas.ComparisonRow]
	failures     *table[schemas.FailureRow]
	// reads is nil in a run without.
	reads *table[schemas.ReadRow]
}

func openTables(ctx context.Context, o *Options, shard int) (t *tables, err error) {
	t = &tables{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.abort())
		}
	}()
	if o.wants(schemas.RoleActor) {
		if t.actor, err = openTable[schemas.Pair](ctx, o, shards.Actor, shard); err != nil {
			return t, err
		}
	}
	if o.wants(schemas.RoleJudge) {
		if t.judge, err = openTable[schemas.Pair](ctx, o, shards.Judge, shard); err != nil {
			return t, err
		}
	}
	if t.prompts, err = openTable[schemas.PromptRow](ctx, o, shards.Prompts, shard); err != nil {
		return t, err
	}
	if t.responses, err = openTable[schemas.ResponseRow](ctx, o, shards.Responses, shard); err != nil {
		return t, err
	}
	if t.judgments, err = openTable[schemas.JudgmentRow](ctx, o, shards.Judgments, shard); err != nil {
		return t, err
	}
	if t.comparisons, err = openTable[schemas.ComparisonRow](ctx, o, shards.Comparisons, shard); err != nil {
		return t, err
	}
	if o.reads() {
		if t.reads, err = openTable[schemas.ReadRow](ctx, o, shards.Reads, shard); err != nil {
			return t, err
		}
	}
	t.failures, err = openTable[schemas.FailureRow](ctx, o, shards.Failures, shard)
	return t, err
}

func (t *tables) close(m *schemas.Manifest) error {
	return cmp.Or(
		t.actor.close(m), t.judge.close(m), t.prompts.close(m), t.responses.close(m),
		t.judgments.close(m), t.comparisons.close(m), t.failures.close(m), t.reads.close(m),
	)
}

func (t *tables) abort() error {
	return errors.Join(
		t.actor.abort(), t.judge.abort(), t.prompts.abort(), t.responses.abort(),
		t.judgments.abort(), t.comparisons.abort(), t.failures.abort(), t.reads.abort(),
	)
}

// writeShard writes the files of one shard, prompt by prompt in the order of their IDs.
// Buckets are ranges of IDs, so that one is in memory at a time.
func writeShard(ctx context.Context, o *Options, stage stage.Stage, shard int, records []schemas.Record) (m schemas.Manifest, err error) {
	m = schemas.Manifest{Shard: shard}
	if err := o.fenced(ctx); err != nil {
		return m, err
	}
	t, err := openTables(ctx, o, shard)
	if err != nil {
		return m, fmt.Errorf("sink: shard %d: %w", shard, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("sink: shard %d: %w", shard, err), t.abort())
		}
	}()
	var bad []schemas.FailureRow
	var findings []*schemas.Record
	for i := range records {
		if r := &records[i]; r.BadLine != nil {
			bad = append(bad, failureRow(r.BadLine))
		} else {
			findings = append(findings, r)
		}
	}
	m.BadLines, m.Findings = int64(len(bad)), int64(len(findings))
	if err := t.failures.write(bad); err != nil {
		return m, err
	}
	slices.SortFunc(findings, func(a, b *schemas.Record) int { return cmp.Compare(a.Finding.PromptID, b.Finding.PromptID) })
	asked, err := judge.ParseTemplate(o.Judging)
	if err != nil {
		return m, err
	}
	w := &dossierWriter{options: o, asked: asked, stage: stage, tables: t, stats: &m.Stats}
	for bucket := range slices.Values(byBucket(findings)) {
		if err := w.writeBucket(ctx, bucket); err != nil {
			return m, err
		}
		m.Buckets = append(m.Buckets, bucket[0].Finding.Origin.Bucket)
	}
	err = t.close(&m)
	return m, err
}

// byBucket cuts the findings where the journal's bucket changes.
func byBucket(findings []*schemas.Record) [][]*schemas.Record {
	var out [][]*schemas.Record
	for _, r := range findings {
		if k := len(out) - 1; k >= 0 && out[k][0].Finding.Origin.Bucket == r.Finding.Origin.Bucket {
			out[k] = append(out[k], r)
			continue
		}
		out = append(out, []*schemas.Record{r})
	}
	return out
}

// dossierWriter rebuilds dossiers and writes their rows.
type dossierWriter struct {
	options *Options
	asked   judge.Template
	stage   stage.Stage
	tables  *tables
	stats   *schemas.Stats
}

// writeBucket writes the dossiers of one bucket, whose findings must come from one bundle attempt.
func (w *dossierWriter) writeBucket(ctx context.Context, records []*schemas.Record) error {
	origin := records[0].Finding.Origin
	wanted := make(map[string]bool, len(records))
	for _, r := range records {
		wanted[r.Finding.PromptID] = true
		// The first findings of a bundle attempt may come before anything was appended.
		origin.Segment = cmp.Or(origin.Segment, r.Finding.Origin.Segment)
		if o := r.Finding.Origin; o.View != origin.View || o.Segment != "" && o.Segment != origin.Segment {
			return fmt.Errorf("the findings of bucket %s come from two bundle attempts, %+v and %+v", origin.Bucket, origin, o)
		}
	}
	replay, err := journal.NewReplay(ctx, w.options.Journal, w.options.PrefixBits, origin, func(id string) bool { return wanted[id] })
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.write(ctx, replay, r); err != nil {
			return fmt.Errorf("prompt %s: %w", r.Finding.PromptID, err)
		}
	}
	if err := w.options.fenced(ctx); err != nil {
		return err
	}
	return replay.Pin(ctx)
}

func (w *dossierWriter) write(ctx context.Context, replay *journal.Replay, r *schemas.Record) error {
	d, err := rebuild(ctx, w.stage, replay, r.Finding)
	if err != nil {
		return err
	}
	countDossier(w.stats, d, r)
	return w.writeRows(d, r)
}

// rebuild runs the stages against the journal and returns the dossier that the finding came from.
func rebuild(ctx context.Context, stage stage.Stage, replay *journal.Replay, f *schemas.Finding) (*schemas.Dossier, error) {
	rec, ok := replay.Get(f.Origin.Prompt, 0)
	if !ok || rec.Prompt == nil {
		return nil, fmt.Errorf("the journal lacks its record %s", f.Origin.Prompt)
	}
	d := &schemas.Dossier{Prompt: *rec.Prompt}
	if f.OverBudget {
		d.OverBudget = true
	} else if err := stage(ctx, infer.Replayer{Get: replay.Get}, d); err != nil {
		return nil, err
	}
	again := schemas.NewFinding(d)
	again.Origin = f.Origin
	was, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	is, err := json.Marshal(&again)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(was, is) {
		return nil, fmt.Errorf("the journal gives another finding now: it was %s, it is %s", was, is)
	}
	return d, nil
}
