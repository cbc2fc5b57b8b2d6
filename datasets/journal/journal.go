// Package journal is the durable log of calls: no generation that it holds is paid for twice.
//
// A journal is a folder of buckets. A bucket is the folder of all prompts whose IDs hash to
// one binary prefix, "b0110" for the prefix 0110, and may lie beside the shorter prefixes of
// an earlier and smaller run: loading a bucket reads those too. A bucket holds segments, JSON
// lines in zstd frames (zstdcat and jq read them). A segment has one writer, is appended and
// never rewritten. One record is one generation, the final failure of one, or a prompt.
//
// It promises that all that was appended to a view is durable when its Sync returns, and never a
// record without those that were appended before it; that loading returns every record that is
// there; and that one view of a bucket, once fixed, reads the same records for ever, whatever is
// appended beside it. A torn last frame, which a crash leaves in a segment that is appended to, is
// dropped; damage anywhere else is an error with file and offset. Parts, pins and compacted
// segments are put whole and bear the digest of their bytes in their names: there anything but
// what was put is damage.
//
// A write that fails, because the disk is full or a store was gone for longer than it is asked
// again, ends its segment and nothing else: nothing follows it there, who waits for what was
// appended is told, and so is who appends more. Views that are loaded later have segments of
// their own, so that work which is begun anew in the same process goes on as soon as there is
// room; what was not durable is asked for again.
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
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coeval/datasets/store"
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

// PrefixBits are those of the prefixes that a journal's buckets have, ascending. Nil stands for all
// that there may be.
type PrefixBits []int

// Longest returns the longest prefix, 0 when there is none: a run may have more buckets than the
// one before, never fewer.
func (l PrefixBits) Longest() int {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1]
}

// FindPrefixBits looks which prefixes the journal's buckets have, with one listing of its folders. It
// is not nil. A run has one length of its own, and no other run is at work: what it is told when
// it begins holds to its end.
func FindPrefixBits(ctx context.Context, dir string) (PrefixBits, error) {
	names, err := store.Folders(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	found := PrefixBits{}
	for _, name := range names {
		if isBucket(name) {
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
		if !isBucket(name) {
			continue
		}
		files, err := store.Names(ctx, store.Join(dir, name))
		if err != nil {
			return false, fmt.Errorf("journal: %w", err)
		}
		if slices.ContainsFunc(files, func(f string) bool { return isSegment(f) || isView(f) }) {
			return true, nil
		}
	}
	return false, nil
}

// segmentName matches the names of segments: an appended one, a part, a compacted one or a pin.
// Nothing else in a journal's folders is read or removed, but for views.
var segmentName = regexp.MustCompile(`^[sp]-[0-9a-f][0-9a-f.-]*\.jsonl\.zst$`)

func isSegment(base string) bool { return segmentName.MatchString(base) }

var viewName = regexp.MustCompile(`^[0-9a-f]{32}\.view\.json$`)

func isView(base string) bool { return viewName.MatchString(base) }

func isBucket(name string) bool {
	return strings.HasPrefix(name, "b") && strings.Trim(name[1:], "01") == ""
}

// folders returns the bucket's own folder and those of its shorter prefixes of these bits.
func folders(bucket string, bits PrefixBits) []string {
	var out []string
	for n := range len(bucket) - 1 {
		if bits == nil || slices.Contains(bits, n) {
			out = append(out, bucket[:n+1])
		}
	}
	return append(out, bucket)
}

// The kinds of segments. Pins sort before all others.
const (
	pinPrefix     = "p-"
	segmentPrefix = "s-"
	segmentSuffix = ".jsonl.zst"
)

// digestLength is that of the digests in names, in hexadecimal digits.
const digestLength = 32

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:digestLength/2])
}

// digestIn returns the digest that the name of a segment ends in.
func digestIn(base string) (string, bool) {
	stem := strings.TrimSuffix(base, segmentSuffix)
	digest := stem[strings.LastIndexByte(stem, '-')+1:]
	_, err := hex.DecodeString(digest)
	return digest, err == nil && len(digest) == digestLength
}

// appended says whether a segment is of the kind that is made frame by frame: only there a
// crash may leave a part of a frame.
func appended(base string) bool {
	name, ok := strings.CutPrefix(strings.TrimSuffix(base, segmentSuffix), segmentPrefix)
	return ok && len(name) == len(uuid.Nil.String())
}

// newSegment names a segment, without its ending, so that names sort in the order of their making.
func newSegment() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("journal: name a segment: %w", err)
	}
	return segmentPrefix + id.String(), nil
}

// pinStamp is the length of a pin's time.
const pinStamp = 16

// newPin begins the name of a pin so that the newest sorts first.
func newPin() string {
	return fmt.Sprintf("%s%0*x", pinPrefix, pinStamp, ^uint64(time.Now().UnixNano()))
}

// segment is a file of which the first Length bytes count.
type segment struct {
	// Name is the path below the journal, with slashes.
	Name   string `json:"name"`
	Length int64  `json:"length"`
}

// listing is what lies in a bucket's folder and in those of its shorter prefixes.
type listing struct {
	// segments have their whole lengths and are ordered by file name.
	segments []segment
	// views are the digests of the views in the bucket's own folder.
	views map[string]bool
}

// list lists the folders side by side.
func list(ctx context.Context, dir, bucket string, bits PrefixBits) (*listing, error) {
	all := folders(bucket, bits)
	files := make([][]store.File, len(all))
	group, ctx := errgroup.WithContext(ctx)
	for i, folder := range all {
		group.Go(func() (err error) {
			files[i], err = store.List(ctx, store.Join(dir, folder)+"/")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	out := &listing{views: map[string]bool{}}
	for i, folder := range all {
		for _, f := range files[i] {
			base := path.Base(f.Path)
			if isSegment(base) {
				out.segments = append(out.segments, segment{Name: path.Join(folder, base), Length: f.Size})
			} else if isView(base) && folder == bucket {
				out.views[strings.TrimSuffix(base, viewSuffix)] = true
			}
		}
	}
	sortSegments(out.segments)
	return out, nil
}

func sortSegments(s []segment) {
	slices.SortFunc(s, func(a, b segment) int { return strings.Compare(path.Base(a.Name), path.Base(b.Name)) })
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

// Read returns what a bucket holds now of the prompts that keep wants; nil wants all. The bits are
// those of its journal. It fixes no view and writes nothing.
func Read(ctx context.Context, dir string, bits PrefixBits, bucket string, keep func(promptID string) bool) (Contents, error) {
	contents, _, err := read(ctx, dir, bucket, bits, keep)
	return contents, err
}

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
	return contents, l, err
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
	contents, l, err := read(ctx, j.dir, bucket, j.bits, keep)
	if err != nil {
		return nil, err
	}
	digest, err := saveView(ctx, j.dir, bucket, l)
	if err != nil {
		return nil, err
	}
	name, err := newSegment()
	if err != nil {
		return nil, err
	}
	if !j.parts {
		name += segmentSuffix
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

// Append adds records to the attempt's own segment. It waits for nothing: see Ready and Sync.
func (v *View) Append(records ...Record) error { return v.own.append(records) }

// Ready returns when what was appended may be used, so that not much more than what is in flight
// is lost with the process: on a disk when it is durable, elsewhere at once as long as the store
// keeps up. When the context ends, only the waiting does.
func (v *View) Ready(ctx context.Context) error { return v.own.ready(ctx) }

// Sync returns when all that was appended to the view is durable. Nothing that is made of it
// may leave before that.
func (v *View) Sync(ctx context.Context) error { return v.own.sync(ctx) }

const viewSuffix = ".view.json"

// saveView puts the list of segments in the bucket's folder under its digest. An empty list
// needs no file.
func saveView(ctx context.Context, dir, bucket string, l *listing) (string, error) {
	if len(l.segments) == 0 {
		return "", nil
	}
	b, err := json.Marshal(l.segments)
	if err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	digest := digestOf(b)
	if l.views[digest] {
		return digest, nil
	}
	if err := store.WriteFile(ctx, store.Join(dir, bucket, digest+viewSuffix), b); err != nil {
		return "", fmt.Errorf("journal: %w", err)
	}
	return digest, nil
}

func readView(ctx context.Context, dir, bucket, digest string) ([]segment, error) {
	if digest == "" {
		return nil, nil
	}
	name := store.Join(dir, bucket, digest+viewSuffix)
	b, err := store.ReadFile(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("journal: the view that a finding names: %w", err)
	}
	if digestOf(b) != digest {
		return nil, fmt.Errorf("journal: %s: the content does not have the digest in its name", name)
	}
	var segments []segment
	if err := json.Unmarshal(b, &segments); err != nil {
		return nil, fmt.Errorf("journal: %s: %w", name, err)
	}
	return segments, nil
}
