package journal

import (
	"context"
	"path"
	"sync"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/schemas"
)

// A View is a fixed set of a bucket's records, and the segment to which its bundle attempt appends. A
// bundle attempt is one execution of a Beam bundle: a runner may start a bundle again within one run of the
// program. A View may be used from many goroutines.
type View struct {
	bucket string
	digest string
	own    *appender

	mu       sync.Mutex
	contents Contents
}

// Load fixes a bundle attempt's view of a bucket. It reads the view's records of the prompts for which keep
// returns true; nil keeps all.
func (j *Journal) Load(ctx context.Context, bucket string, keep func(promptID string) bool) (*View, error) {
	contents, l, err := read(ctx, j.dir, bucket, j.bits, keep)
	if err != nil {
		return nil, err
	}
	digest, err := buckets.SaveView(ctx, j.dir, l)
	if err != nil {
		return nil, err
	}
	name, err := segment.NewName()
	if err != nil {
		return nil, err
	}
	if !j.parts {
		name += segment.Suffix
	}
	own := &appender{journal: j, name: path.Join(bucket, name)}
	return &View{bucket: bucket, digest: digest, own: own, contents: contents}, nil
}

// Take returns the records of a prompt and drops them, so that their memory is freed with the prompt's.
func (v *View) Take(promptID string) Records {
	v.mu.Lock()
	defer v.mu.Unlock()
	records := v.contents[promptID]
	delete(v.contents, promptID)
	return records
}

// Origin names the files from which the view's records can be read again.
func (v *View) Origin(promptKey string) schemas.Origin {
	o := schemas.Origin{Bucket: v.bucket, View: v.digest, Prompt: promptKey}
	if v.own.started.Load() {
		o.Segment = v.own.name
	}
	return o
}

// Append adds records to the bundle attempt's segment without waiting; see Ready and Sync.
func (v *View) Append(records ...Record) error { return v.own.append(records) }

// Ready returns when the appended records may be used. On a local disk it waits for the fsync, so that a
// crash loses little more than the requests in flight. On an object store it waits only under
// back-pressure. The end of ctx ends the wait and nothing else.
func (v *View) Ready(ctx context.Context) error { return v.own.ready(ctx) }

// Sync returns when all records of the view are durable. The caller must not pass on results of these
// records before.
func (v *View) Sync(ctx context.Context) error { return v.own.sync(ctx) }
