// Package upkeep maintains a journal. It finds damage at any time. While no run uses the journal, it merges
// small segments, and makes a damaged journal usable again.
package upkeep

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// Health is the result of [Check] or of [Salvage].
type Health struct {
	Buckets  int `json:"buckets"`
	Segments int `json:"segments"`
	Views    int `json:"views"`
	// Generations, Failures and Prompts count the readable records, including copies.
	Generations int64 `json:"generations"`
	Failures    int64 `json:"failures"`
	Prompts     int64 `json:"prompts"`
	// IncompleteBytes counts the bytes of incomplete last frames. A crash leaves these; they are not damage.
	IncompleteBytes int64 `json:"torn_bytes,omitempty"`
	// Damages are sorted by file.
	Damages []Damage `json:"damages,omitempty"`
}

// A Damage is one file that differs from its original.
type Damage struct {
	// File is the path of the file.
	File string `json:"file"`
	// Problem describes the damage.
	Problem string `json:"problem"`
	// Lost are the unreadable ranges of bytes.
	Lost []segment.ByteRange `json:"lost,omitempty"`
	// Kept is the number of readable records in the file.
	Kept int64 `json:"kept"`
	// Bucket is the bucket of the file. Prompts are the IDs of the prompts in the bucket's undamaged
	// files. The next run requests again some calls of these prompts, or of prompts that are not among
	// them.
	Bucket  string   `json:"bucket"`
	Prompts []string `json:"prompts,omitempty"`

	kind damageKind
	name string // below the journal
}

type damageKind int

const (
	damagedSegment damageKind = iota
	lostSegment               // a view lists more of it than is there
	damagedView
)

// Check reads all files of a journal and returns every damage. It changes nothing and needs no lock:
// beside a run that appends, it sees one of the journal's states. It returns an error only when it
// cannot read a file at all.
func Check(ctx context.Context, dir string) (*Health, error) {
	h := &Health{}
	all, err := buckets.ListAll(ctx, dir)
	if err != nil {
		return nil, err
	}
	files := buckets.NewWholeLengths(dir, all)
	for _, b := range all {
		if err := h.addBucket(ctx, dir, files, b); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(h.Damages, func(a, b Damage) int { return cmp.Compare(a.File, b.File) })
	return h, nil
}

// addBucket checks the files of one bucket. Shorter prefixes come before it.
func (h *Health) addBucket(ctx context.Context, dir string, files *buckets.WholeLengths, b *buckets.Files) error {
	h.Buckets++
	first := len(h.Damages)
	prompts := map[string]bool{}
	for _, s := range slices.Concat(b.Pins, b.Segments) {
		if err := h.addSegment(ctx, dir, s, prompts); err != nil {
			return err
		}
	}
	for _, view := range b.Views {
		h.Views++
		listed, err := buckets.ReadView(ctx, dir, view)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			h.add(dir, view, damagedView, "damaged: it does not have the digest in its name")
			continue
		}
		lost, err := files.Losses(ctx, view, listed)
		if err != nil {
			return err
		}
		for i := range lost {
			if l := &lost[i]; !h.isDamaged(l.Name) {
				h.add(dir, l.Name, lostSegment, l.Problem(view)).Lost = []segment.ByteRange{{From: max(l.Left, 0), To: l.Length}}
			}
		}
	}
	for i := first; i < len(h.Damages); i++ {
		h.Damages[i].Prompts = slices.Sorted(maps.Keys(prompts))
	}
	return nil
}

func (h *Health) isDamaged(name string) bool {
	return slices.ContainsFunc(h.Damages, func(d Damage) bool { return d.name == name })
}

func (h *Health) add(dir, name string, kind damageKind, problem string) *Damage {
	h.Damages = append(h.Damages, Damage{
		File: store.Join(dir, name), Problem: problem, Bucket: path.Dir(name), kind: kind, name: name,
	})
	return &h.Damages[len(h.Damages)-1]
}

// addSegment checks one file and adds the IDs of its prompts.
func (h *Health) addSegment(ctx context.Context, dir string, s buckets.Segment, prompts map[string]bool) error {
	h.Segments++
	b, err := store.ReadFile(ctx, store.Join(dir, s.Name))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	var kept int64
	lost := segment.Readable(b, func(r *segment.Record) {
		kept++
		prompts[r.PromptID] = true
		switch {
		case r.Prompt != nil:
			h.Prompts++
		case r.Code != "":
			h.Failures++
		default:
			h.Generations++
		}
	})
	incomplete := len(lost) == 1 && lost[0].To == int64(len(b)) && segment.IsAppendable(path.Base(s.Name))
	wrong := segment.CheckWhole(path.Base(s.Name), b)
	switch {
	case incomplete && wrong == nil && lost[0].Incomplete:
		h.IncompleteBytes += lost[0].To - lost[0].From
	case wrong != nil:
		h.addDamaged(dir, s.Name, wrong.Error(), lost, kept)
	case len(lost) > 0:
		h.addDamaged(dir, s.Name, fmt.Sprintf("offset %d: damaged: %v", lost[0].From, lost[0].Err), lost, kept)
	}
	return nil
}

func (h *Health) addDamaged(dir, name, problem string, lost []segment.LostRange, kept int64) {
	d := h.add(dir, name, damagedSegment, problem)
	d.Kept = kept
	for _, r := range lost {
		d.Lost = append(d.Lost, r.ByteRange)
	}
}
