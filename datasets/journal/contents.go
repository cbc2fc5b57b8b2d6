package journal

import (
	"context"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
)

// A Record is one line of a segment.
type Record = segment.Record

// Records are the records of one prompt in a bucket.
type Records map[segment.ID]*Record

// Get returns the record of a generation, or of the prompt itself.
func (r Records) Get(key string, replicate int) (*Record, bool) {
	rec, ok := r[segment.ID{Key: key, Replicate: replicate}]
	return rec, ok
}

// Contents are the records of a bucket by prompt.
type Contents map[string]Records

func (c Contents) add(r *Record) {
	records := c[r.PromptID]
	if records == nil {
		records = Records{}
		c[r.PromptID] = records
	}
	at := r.ID()
	if old := records[at]; old == nil || r.Better(old) {
		records[at] = r
	}
}

// Read returns the current records of a bucket for the prompts for which keep returns true; nil keeps
// all. The bits are the journal's prefix lengths. Read fixes no view and writes nothing.
func Read(ctx context.Context, dir string, bits PrefixBits, bucket string, keep func(promptID string) bool) (Contents, error) {
	contents, _, err := read(ctx, dir, bucket, bits, keep)
	return contents, err
}

// read returns the records of a bucket, and the listing behind them with the lengths of the segments'
// whole frames.
func read(ctx context.Context, dir, bucket string, bits PrefixBits, keep func(string) bool) (Contents, *buckets.Listing, error) {
	l, err := buckets.List(ctx, dir, bucket, bits)
	if err != nil {
		return nil, nil, err
	}
	contents := Contents{}
	err = buckets.Read(ctx, dir, l.Segments, func(i int, b []byte) error {
		l.Segments[i].Length, err = segment.Decode(b, keep, contents.add)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = l.CheckLoss(ctx, dir)
	return contents, l, err
}
