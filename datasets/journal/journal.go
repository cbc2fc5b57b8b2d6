// Package journal is the durable log of calls: no generation that it holds is paid for twice.
//
// A journal is a folder of buckets. A bucket is the folder of all prompts whose IDs hash to
// one binary prefix, "b0110" for the prefix 0110, and may lie beside the shorter prefixes of
// an earlier and smaller run: loading a bucket reads those too. A bucket holds segments, JSON
// lines in zstd frames (zstdcat and jq read them). A segment has one writer, is appended and
// never rewritten. One record is one generation, the final failure of one, or a prompt.
//
// It promises that a record is on the disk when Append returns, that loading returns every
// record of which that was said, and that one view of a bucket, once fixed, reads the same
// records for ever, whatever is appended beside it. A torn last frame, which a crash leaves,
// is dropped; damage anywhere else is an error with file and offset.
//
// It does not promise that a key has one record only: a run that was started again while its
// predecessor still wrote leaves two. A text stands before a failure, then the order of the
// names decides: pins first, the newest of them before the others, then segments in the order
// of their making. See [Replay.Pin].
package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"coeval/schemas"
)

// MaxBits is the longest prefix of a bucket.
const MaxBits = 24

// A Record is one line of a segment.
type Record struct {
	// Key is the call's; with Replicate it identifies a generation. A prompt's key is [PromptKey].
	Key       string `json:"key"`
	Replicate int    `json:"replicate"`
	PromptID  string `json:"prompt_id"`
	Role      string `json:"role,omitempty"`

	Text             string `json:"text,omitempty"`
	Reasoning        string `json:"reasoning,omitempty"`
	FinishReason     string `json:"finish_reason,omitempty"`
	PromptTokens     int    `json:"prompt_tokens,omitempty"`
	CompletionTokens int    `json:"completion_tokens,omitempty"`
	// Code is set for a call that failed for good; Message says how.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Prompt is set for a prompt's record, and then nothing of the above but Key and PromptID is.
	Prompt *schemas.Prompt `json:"prompt,omitempty"`
}

// PromptKey returns the key of a prompt's record. It covers all of it, so that a prompt
// which moved to another line has a new record.
func PromptKey(p *schemas.Prompt) string {
	b, err := json.Marshal(p)
	if err != nil { // strings and integers only: cannot happen
		panic(err)
	}
	return schemas.Digest("prompt", string(b))
}

// Bucket returns the name of the bucket with this many bits that a prompt belongs to.
func Bucket(promptID string, bits int) string {
	spread := schemas.Spread(promptID)
	name := make([]byte, 1, bits+1)
	name[0] = 'b'
	for i := range bits {
		name = append(name, '0'+byte(spread>>(63-i)&1))
	}
	return string(name)
}

// Bits returns the longest prefix among the journal's buckets, 0 when there is none: a run
// may have more buckets than the one before, never fewer.
func Bits(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	longest := 0
	for _, e := range entries {
		if e.IsDir() && isBucket(e.Name()) {
			longest = max(longest, len(e.Name())-1)
		}
	}
	return longest, nil
}

func isBucket(name string) bool {
	return strings.HasPrefix(name, "b") && strings.Trim(name[1:], "01") == ""
}

// folders returns the bucket's own folder and those of its shorter prefixes.
func folders(bucket string) []string {
	var out []string
	for n := 1; n <= len(bucket); n++ {
		out = append(out, bucket[:n])
	}
	return out
}

// The kinds of segments. Pins sort before all others.
const (
	pinPrefix     = "p-"
	segmentPrefix = "s-"
	segmentSuffix = ".jsonl.zst"
)

// newSegment names a segment so that names sort in the order of their making.
func newSegment() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("journal: name a segment: %w", err)
	}
	return segmentPrefix + id.String() + segmentSuffix, nil
}

// newPin names a pin so that the newest sorts first.
func newPin() string {
	return fmt.Sprintf("%s%016x-%s%s", pinPrefix, ^uint64(time.Now().UnixNano()), uuid.NewString(), segmentSuffix)
}

// segment is a file of which the first Length bytes count.
type segment struct {
	// Name is the path below the journal, with slashes.
	Name   string `json:"name"`
	Length int64  `json:"length"`
}

// listSegments returns the segments of a bucket and its prefixes with their whole lengths,
// ordered by file name.
func listSegments(dir, bucket string) ([]segment, error) {
	var out []segment
	for _, folder := range folders(bucket) {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), segmentSuffix) {
				continue
			}
			info, err := e.Info()
			if err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
			out = append(out, segment{Name: path.Join(folder, e.Name()), Length: info.Size()})
		}
	}
	slices.SortFunc(out, func(a, b segment) int {
		return strings.Compare(path.Base(a.Name), path.Base(b.Name))
	})
	return out, nil
}

// id is what identifies a record within a bucket.
type id struct {
	key       string
	replicate int
}

// better says whether r replaces old, which was met before it.
func (r *Record) better(old *Record) bool { return old.Code != "" && r.Code == "" }

// Records are what a bucket holds of one prompt.
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

// Read returns what a bucket holds now of the prompts that keep wants; nil wants all. It
// fixes no view and writes nothing.
func Read(ctx context.Context, dir, bucket string, keep func(promptID string) bool) (Contents, error) {
	contents, _, err := read(ctx, dir, bucket, keep)
	return contents, err
}

func read(ctx context.Context, dir, bucket string, keep func(string) bool) (Contents, []segment, error) {
	segments, err := listSegments(dir, bucket)
	if err != nil {
		return nil, nil, err
	}
	contents := Contents{}
	for i := range segments {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		segments[i].Length, err = readSegment(dir, segments[i], keep, contents.add)
		if err != nil {
			return nil, nil, err
		}
	}
	return contents, segments, nil
}

// A View is what one attempt sees of a bucket, and where it adds to it. It may be used from
// many goroutines.
type View struct {
	bucket string
	digest string
	own    *appender

	mu       sync.Mutex
	contents Contents
}

// Load fixes the attempt's view of a bucket and reads in it the records of the prompts that
// keep wants; nil wants all.
func (j *Journal) Load(ctx context.Context, bucket string, keep func(promptID string) bool) (*View, error) {
	contents, segments, err := read(ctx, j.dir, bucket, keep)
	if err != nil {
		return nil, err
	}
	digest, err := saveView(j.dir, bucket, segments)
	if err != nil {
		return nil, err
	}
	name, err := newSegment()
	if err != nil {
		return nil, err
	}
	own := &appender{journal: j, name: path.Join(bucket, name)}
	return &View{bucket: bucket, digest: digest, own: own, contents: contents}, nil
}

// Take returns the records of a prompt and forgets them, so that they are freed with it.
func (v *View) Take(promptID string) Records {
	v.mu.Lock()
	defer v.mu.Unlock()
	records := v.contents[promptID]
	delete(v.contents, promptID)
	return records
}

// Origin says where the view's records can be read again.
func (v *View) Origin(promptKey string) schemas.Origin {
	o := schemas.Origin{Bucket: v.bucket, View: v.digest, Prompt: promptKey}
	if v.own.started.Load() {
		o.Segment = v.own.name
	}
	return o
}

// Append adds records to the attempt's own segment and returns when they are on the disk.
func (v *View) Append(ctx context.Context, records ...Record) error {
	return v.own.append(ctx, records)
}

const viewSuffix = ".view.json"

// saveView puts the list of segments in the bucket's folder under its digest. An empty list
// needs no file.
func saveView(dir, bucket string, segments []segment) (string, error) {
	if len(segments) == 0 {
		return "", nil
	}
	b, err := json.Marshal(segments)
	if err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:16])
	name := filepath.Join(dir, bucket, digest+viewSuffix)
	if _, err := os.Stat(name); err == nil {
		return digest, nil
	}
	return digest, writeWhole(name, b)
}

func readView(dir, bucket, digest string) ([]segment, error) {
	if digest == "" {
		return nil, nil
	}
	name := filepath.Join(dir, bucket, digest+viewSuffix)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("journal: the view that a finding names: %w", err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:16]) != digest {
		return nil, fmt.Errorf("journal: %s: the content does not have the digest in its name", name)
	}
	var segments []segment
	if err := json.Unmarshal(b, &segments); err != nil {
		return nil, fmt.Errorf("journal: %s: %w", name, err)
	}
	return segments, nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(name string, b []byte) error {
	if err := makeDir(filepath.Dir(name)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	if _, err := f.Write(b); err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("journal: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return syncDir(filepath.Dir(name))
}

// makeDir makes a folder and those above it that are missing, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("journal: %w", err)
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("journal: %s: %w", dir, err)
	}
	return nil
}
