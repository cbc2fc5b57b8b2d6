package journal

import "context"

// An id identifies a record within a bucket.
type id struct {
	key       string
	replicate int
}

// better reports whether r replaces the earlier record old.
func (r *Record) better(old *Record) bool { return old.Code != "" && r.Code == "" }

// Records are the records of one prompt in a bucket.
type Records map[id]*Record

// Get returns the record of a generation, or of the prompt itself.
func (r Records) Get(key string, replicate int) (*Record, bool) {
	rec, ok := r[id{key, replicate}]
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
	at := id{r.Key, r.Replicate}
	if old := records[at]; old == nil || r.better(old) {
		records[at] = r
	}
}

// Read returns the current records of a bucket for the prompts for which keep returns true; nil keeps
// all. The bits are those of the journal. Read fixes no view and writes nothing.
func Read(ctx context.Context, dir string, bits PrefixBits, bucket string, keep func(promptID string) bool) (Contents, error) {
	contents, _, err := read(ctx, dir, bucket, bits, keep)
	return contents, err
}

// read returns the records of a bucket, and the listing behind them with the lengths of the segments'
// whole frames.
func read(ctx context.Context, dir, bucket string, bits PrefixBits, keep func(string) bool) (Contents, *listing, error) {
	l, err := list(ctx, dir, bucket, bits)
	if err != nil {
		return nil, nil, err
	}
	contents := Contents{}
	err = readSegments(ctx, dir, l.segments, func(i int, b []byte) error {
		l.segments[i].Length, err = decodeSegment(b, keep, contents.add)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = l.checkLoss(ctx, dir)
	return contents, l, err
}
