package journal

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
	"coeval/schemas"
)

// A Replay reads a bucket exactly as a bundle attempt saw and left it: the bundle attempt's segment first,
// then the segments of its view. Use it from one goroutine.
type Replay struct {
	dir, bucket string
	bits        PrefixBits
	records     map[segment.ID]*replayed
	twice       bool // a key has more than one record
}

// A replayed record is the record that the bundle attempt used, together with the record that the next
// load would use.
type replayed struct {
	used, next *Record
	got        bool
}

// NewReplay loads the records of the prompts for which keep returns true, as the bundle attempt of this
// origin saw them. The bits are the journal's prefix lengths.
func NewReplay(ctx context.Context, dir string, bits PrefixBits, o schemas.Origin, keep func(promptID string) bool) (*Replay, error) {
	var order []buckets.Segment
	if o.View != "" {
		var err error
		if order, err = buckets.ReadView(ctx, dir, path.Join(o.Bucket, o.View+buckets.ViewSuffix)); err != nil {
			return nil, err
		}
	}
	l, err := buckets.List(ctx, dir, o.Bucket, bits)
	if err != nil {
		return nil, err
	}
	now := l.Segments
	var own []buckets.Segment
	if o.Segment != "" {
		own = ownSegments(now, o.Segment)
		if len(own) == 0 {
			return nil, fmt.Errorf("journal: %s: lost: the file is missing, and a finding depends on it; restore the file, or run `coeval journal salvage`", store.Join(dir, o.Segment))
		}
		order = append(own, order...)
	}
	r := &Replay{dir: dir, bucket: o.Bucket, bits: bits, records: map[segment.ID]*replayed{}}
	err = buckets.Read(ctx, dir, order, func(i int, b []byte) error {
		length, err := segment.Decode(b, keep, r.use)
		if err == nil && i >= len(own) && length < int64(len(b)) {
			return fmt.Errorf("offset %d: %w: the frame there was whole when the view was fixed", length, segment.ErrDamaged)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !r.twice && sameSegments(order, now) {
		return r, nil // each record is the only one of its key
	}
	if err := r.rank(ctx, now, keep); err != nil {
		return nil, err
	}
	return r, nil
}

// ownSegments returns a bundle attempt's segment, or its parts.
func ownSegments(all []buckets.Segment, name string) []buckets.Segment {
	var own []buckets.Segment
	for _, s := range all {
		if s.Name == name || strings.HasPrefix(s.Name, name+".") {
			own = append(own, s)
		}
	}
	return own
}

func (r *Replay) use(rec *Record) {
	at := rec.ID()
	old := r.records[at]
	if old == nil {
		r.records[at] = &replayed{used: rec}
		return
	}
	r.twice = true
	if rec.Better(old.used) {
		old.used = rec
	}
}

// sameSegments reports whether the bundle attempt read all current segments.
func sameSegments(order, now []buckets.Segment) bool {
	if len(order) != len(now) {
		return false
	}
	lengths := make(map[string]int64, len(now))
	for _, s := range now {
		lengths[s.Name] = s.Length
	}
	return !slices.ContainsFunc(order, func(s buckets.Segment) bool { return lengths[s.Name] != s.Length })
}

// rank finds the records that the next load of the bucket would use.
func (r *Replay) rank(ctx context.Context, now []buckets.Segment, keep func(string) bool) error {
	return buckets.Read(ctx, r.dir, now, func(_ int, b []byte) error {
		_, err := segment.Decode(b, keep, func(rec *Record) {
			at := r.records[rec.ID()]
			if at != nil && (at.next == nil || rec.Better(at.next)) {
				at.next = rec
			}
		})
		return err
	})
}

// Get returns the record of a generation or a prompt as the bundle attempt used it.
func (r *Replay) Get(key string, replicate int) (*Record, bool) {
	at, ok := r.records[segment.ID{Key: key, Replicate: replicate}]
	if !ok {
		return nil, false
	}
	at.got = true
	return at.used, true
}

// Pin makes the next run use the same records. A key passed to Get may have several records, of which
// the next load would use another. Pin writes the used record into a segment that sorts before all
// others. Usually Pin writes nothing.
func (r *Replay) Pin(ctx context.Context) error {
	var pins []Record
	for _, at := range r.records {
		if at.got && at.next != nil && at.used.Prompt == nil && !reflect.DeepEqual(at.next, at.used) {
			pins = append(pins, *at.used)
		}
	}
	if len(pins) == 0 {
		return r.saveNext(ctx)
	}
	slices.SortFunc(pins, func(a, b Record) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return a.Replicate - b.Replicate
	})
	if _, err := buckets.Write(ctx, r.dir, path.Join(r.bucket, segment.NewPin()), pins); err != nil {
		return err
	}
	return r.saveNext(ctx)
}

// saveNext writes the view of the next run, so that a run which appends nothing leaves the journal
// unchanged.
func (r *Replay) saveNext(ctx context.Context) error {
	l, err := buckets.List(ctx, r.dir, r.bucket, r.bits)
	if err != nil {
		return err
	}
	if store.HasLocks(r.dir) { // on an object store every file is whole
		err := buckets.Read(ctx, r.dir, l.Segments, func(i int, b []byte) error {
			l.Segments[i].Length = int64(segment.WholeLength(b))
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err = buckets.SaveView(ctx, r.dir, l)
	return err
}
