package journal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"coeval/datasets/store"
	"coeval/schemas"
)

// A Replay reads a bucket exactly as an attempt saw and left it: the attempt's own segment
// first, then those of its view. It is for one goroutine.
type Replay struct {
	dir, bucket string
	bits        PrefixBits
	records     map[id]*replayed
	twice       bool // some key has more than one record
}

// replayed is a record with two ranks: the one that the attempt used, and the one that the
// next load would.
type replayed struct {
	used, next *Record
	got        bool
}

// NewReplay loads the records of the prompts that keep wants, as the attempt of this origin
// saw them. The bits are those of its journal.
func NewReplay(ctx context.Context, dir string, bits PrefixBits, o schemas.Origin, keep func(promptID string) bool) (*Replay, error) {
	order, err := readView(ctx, dir, o.Bucket, o.View)
	if err != nil {
		return nil, err
	}
	l, err := list(ctx, dir, o.Bucket, bits)
	if err != nil {
		return nil, err
	}
	now := l.segments
	var own []segment
	if o.Segment != "" {
		own = ownSegments(now, o.Segment)
		if len(own) == 0 {
			return nil, fmt.Errorf("journal: %s: gone, and a finding was made from it", store.Join(dir, o.Segment))
		}
		order = append(own, order...)
	}
	r := &Replay{dir: dir, bucket: o.Bucket, bits: bits, records: map[id]*replayed{}}
	err = readSegments(ctx, dir, order, func(i int, b []byte) error {
		length, err := decodeSegment(b, keep, r.use)
		if err == nil && i >= len(own) && length < int64(len(b)) {
			return fmt.Errorf("offset %d: damaged: the frame there was whole when the view was fixed", length)
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

// ownSegments returns an attempt's own segment, or its parts.
func ownSegments(all []segment, name string) []segment {
	var own []segment
	for _, s := range all {
		if s.Name == name || strings.HasPrefix(s.Name, name+".") {
			own = append(own, s)
		}
	}
	return own
}

func (r *Replay) use(rec *Record) {
	at := id{rec.Key, rec.Replicate}
	old := r.records[at]
	if old == nil {
		r.records[at] = &replayed{used: rec}
		return
	}
	r.twice = true
	if rec.better(old.used) {
		old.used = rec
	}
}

// sameSegments says whether the attempt read all that is there now.
func sameSegments(order, now []segment) bool {
	if len(order) != len(now) {
		return false
	}
	lengths := make(map[string]int64, len(now))
	for _, s := range now {
		lengths[s.Name] = s.Length
	}
	return !slices.ContainsFunc(order, func(s segment) bool { return lengths[s.Name] != s.Length })
}

// rank finds what the next load of the bucket would use.
func (r *Replay) rank(ctx context.Context, now []segment, keep func(string) bool) error {
	return readSegments(ctx, r.dir, now, func(_ int, b []byte) error {
		_, err := decodeSegment(b, keep, func(rec *Record) {
			at := r.records[id{rec.Key, rec.Replicate}]
			if at != nil && (at.next == nil || rec.better(at.next)) {
				at.next = rec
			}
		})
		return err
	})
}

// Get returns the record of a generation or a prompt as the attempt used it.
func (r *Replay) Get(key string, replicate int) (*Record, bool) {
	at, ok := r.records[id{key, replicate}]
	if !ok {
		return nil, false
	}
	at.got = true
	return at.used, true
}

// Pin makes the next run decide as this one did: where a key that was asked of Get has more
// than one record, and another would be met first, what was used is written to a segment that
// sorts before all others. Mostly there is nothing to write.
func (r *Replay) Pin(ctx context.Context) error {
	var pins []Record
	for _, at := range r.records {
		if at.got && at.next != nil && at.used.Prompt == nil && *at.next != *at.used {
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
	if _, err := writeRecords(ctx, r.dir, path.Join(r.bucket, newPin()), pins); err != nil {
		return err
	}
	return r.saveNext(ctx)
}

// saveNext puts down the view that the next run will have, so that one which appends nothing
// leaves the journal as it is.
func (r *Replay) saveNext(ctx context.Context) error {
	l, err := list(ctx, r.dir, r.bucket, r.bits)
	if err != nil {
		return err
	}
	if store.HasLocks(r.dir) { // elsewhere all is whole
		err := readSegments(ctx, r.dir, l.segments, func(i int, b []byte) error {
			l.segments[i].Length = int64(wholeFrames(b))
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err = saveView(ctx, r.dir, r.bucket, l)
	return err
}

// recordsPerFrame bounds what is unpacked at a time of a file that is written at once.
const recordsPerFrame = 2000

// writeRecords makes a segment of records at once. Its name begins with stem and ends in its
// digest.
func writeRecords(ctx context.Context, dir, stem string, records []Record) (name string, err error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, encoder.Close()) }()
	var frames []byte
	for some := range slices.Chunk(records, recordsPerFrame) {
		lines, err := encodeLines(nil, some)
		if err != nil {
			return "", err
		}
		frames = encoder.EncodeAll(lines, frames)
	}
	name = stem + "-" + digestOf(frames) + segmentSuffix
	if err := store.WriteFile(ctx, store.Join(dir, name), frames); err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	return name, nil
}
