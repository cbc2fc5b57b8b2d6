// Package journal is the durable log of calls. A run never pays twice for a generation in it.
//
// A journal is a folder of buckets. A bucket is a folder. It contains the prompts whose ID hashes begin
// with the bits in its name, such as "b0110". Folders with shorter prefixes, from an earlier and smaller
// run, may exist too; loading a bucket also reads those. A bucket contains segments: JSON lines in zstd
// frames, which zstdcat and jq read. Each segment has one writer. It appends to the file on a disk, and
// adds numbered parts on an object store. Each record contains one generation, one final failure, or one
// prompt.
//
//	bundle                        Journal                          bucket folder
//	Load ───────────────────────► list, read ◄──────────────────── segments, views
//	                              save the view ─────────────────► DIGEST.view.json
//	View.Append(prompt) ────────► pending batch
//	Journal.Healthy waits if the oldest batch is older than 5 s, until it is saved
//	   send a request
//	View.Append(answer) ────────► pending batch
//	View.Ready ── local: waits    one frame each 40 ms, fsync ───► s-UUID.jsonl.zst
//	              store: no wait* one part each 2 s, put whole ──► s-UUID.000001-DIGEST.jsonl.zst
//	View.Sync ─── waits until durable
//	emit the finding with View.Origin
//
//	sink.Write: NewReplay(Origin) ◄─────────────────────────────── the view's segments, the own segment
//	            Replay.Get, Pin ─────────────────────────────────► p-TIME-DIGEST.jsonl.zst
//
//	* It waits while more than maxPending bytes are not durable.
//
// The package promises:
//
//   - Records that were appended to a view are durable when its Sync returns. If a record is durable, so
//     are all records that were appended before it.
//   - Load returns one record for each stored generation and prompt that the caller requests. It misses none.
//   - A view is the list of the segments, with their lengths, that a bundle attempt read. Once saved, it
//     always gives the same records. Later records do not change it.
//   - A loss is a listed segment that is missing or shorter than listed, or damaged data. It causes an error
//     that names the file. An incomplete last frame of a local segment is no damage: a crash leaves one. Parts,
//     pins and compacted segments are published whole, and their names contain the digest of their bytes.
//     Package upkeep lists all damage of a journal, and keeps the undamaged records.
//
// A failed write ends its segment; nothing is appended after it. Callers that wait for the write get the
// error. If none waits, the next caller of Append gets it. Causes are a full disk, or an object store that is
// unavailable for longer than the retries last. Each view has its own segment. So the next bundle attempt,
// even in the same process, continues once there is space. It requests again the answers that were not
// durable.
//
// The package does not promise that a generation has only one record. For example, two processes may both save
// a record of one generation if a run restarts before the old process ends. A pin is a segment with copies of
// the records that a run used; see [Replay.Pin]. If a generation has several records, a text takes precedence
// over a failure. Among equals, the record in the newest pin takes precedence, then the one in the oldest
// segment.
package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"coeval/datasets/journal/buckets"
	"coeval/datasets/journal/segment"
	"coeval/datasets/store"
	"coeval/schemas"
)

// MaxBits is the longest prefix of a bucket's name.
const MaxBits = 24

// PromptKey returns the key of a prompt's record. It covers every field, so that a prompt that moved
// to another line has a new record.
func PromptKey(p *schemas.Prompt) string {
	b, err := json.Marshal(p)
	if err != nil { // a prompt has strings and integers only
		panic(err)
	}
	return schemas.Digest("prompt", string(b))
}

// Bucket returns the name of a prompt's bucket among those with this many bits.
func Bucket(promptID string, bits int) string {
	spread := schemas.Spread(promptID)
	name := make([]byte, 1, bits+1)
	name[0] = 'b'
	for i := range bits {
		name = append(name, '0'+byte(spread>>(63-i)&1))
	}
	return string(name)
}

// PrefixBits are the lengths of the prefixes of a journal's buckets, ascending. Nil stands for all
// possible lengths.
type PrefixBits []int

// Longest returns the length of the longest prefix, 0 without any. A run may have more buckets than
// the run before it, never fewer.
func (l PrefixBits) Longest() int {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1]
}

// FindPrefixBits returns the lengths of the prefixes of the journal's buckets, never nil. It lists the
// folders once. A run uses one length and owns the lock, so that the result stays valid to its end.
func FindPrefixBits(ctx context.Context, dir string) (PrefixBits, error) {
	names, err := store.Folders(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	found := PrefixBits{}
	for _, name := range names {
		if buckets.IsName(name) {
			found = append(found, len(name)-1)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// Exists reports whether there is a journal in dir: a bucket with a segment or a view in it.
func Exists(ctx context.Context, dir string) (bool, error) {
	names, err := store.Folders(ctx, dir)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	for _, name := range names {
		if !buckets.IsName(name) {
			continue
		}
		files, err := store.Names(ctx, store.Join(dir, name))
		if err != nil {
			return false, fmt.Errorf("journal: %w", err)
		}
		if slices.ContainsFunc(files, func(f string) bool { return segment.IsName(f) || buckets.IsView(f) }) {
			return true, nil
		}
	}
	return false, nil
}
