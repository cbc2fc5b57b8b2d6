package buckets

import (
	"context"
	"errors"
	"fmt"
	"path"

	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
)

// maxReads is the number of segments that are read in parallel when each read is a network request.
const maxReads = 16

// Read calls each with the bytes of every segment, in order.
func Read(ctx context.Context, dir string, segments []Segment, each func(i int, b []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := 1
	if !store.HasLocks(dir) {
		ahead = maxReads
	}
	type result struct {
		b   []byte
		err error
	}
	results := make([]chan result, len(segments))
	start := func(i int) {
		results[i] = make(chan result, 1)
		go func() {
			b, err := readSegment(ctx, dir, segments[i])
			results[i] <- result{b, err}
		}()
	}
	for i := range segments {
		for next := i; next < min(i+ahead, len(segments)); next++ {
			if results[next] == nil {
				start(next)
			}
		}
		r := <-results[i]
		results[i] = nil
		if r.err != nil {
			return r.err
		}
		if err := each(i, r.b); err != nil {
			return withHint(fmt.Errorf("journal: %s: %w", store.Join(dir, segments[i].Name), err))
		}
	}
	return nil
}

// readSegment returns the bytes of a segment, up to its length.
func readSegment(ctx context.Context, dir string, s Segment) ([]byte, error) {
	name := store.Join(dir, s.Name)
	b, err := store.ReadFile(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if int64(len(b)) < s.Length {
		return nil, fmt.Errorf("journal: %s: %w: the file has %d bytes and had %d%s", name, segment.ErrDamaged, len(b), s.Length, SalvageHint)
	}
	if err := segment.CheckWhole(path.Base(s.Name), b); err != nil {
		return nil, withHint(fmt.Errorf("journal: %s: %w", name, err))
	}
	return b[:s.Length], nil
}

// withHint adds the next step to the error of a damaged segment.
func withHint(err error) error {
	if errors.Is(err, segment.ErrDamaged) {
		return fmt.Errorf("%w%s", err, SalvageHint)
	}
	return err
}

// Write writes a segment of records at once and returns its name, which begins with stem and ends in the
// digest of its bytes.
func Write(ctx context.Context, dir, stem string, records []segment.Record) (name string, err error) {
	frames, err := segment.EncodeFrames(records)
	if err != nil {
		return "", err
	}
	name = stem + "-" + segment.Digest(frames) + segment.Suffix
	if err := store.WriteFile(ctx, store.Join(dir, name), frames); err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	return name, nil
}
