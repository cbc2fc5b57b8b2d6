package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// schemes are the object stores, each with the constructor of its client.
var schemes = map[string]func(context.Context) (bucketClient, error){
	"gs://": gcs.client,
	"s3://": s3Clients.client,
}

// once is a client that is created at the first request, and again after a failure.
type once struct {
	create func(context.Context) (bucketClient, error)
	making singleflight.Group

	mu   sync.Mutex
	made bucketClient
}

// client returns the client. Concurrent callers share one creation, and each may stop waiting for it.
func (o *once) client(ctx context.Context) (bucketClient, error) {
	if c := o.get(); c != nil {
		return c, nil
	}
	done := o.making.DoChan("", func() (any, error) {
		if c := o.get(); c != nil {
			return c, nil
		}
		// The client outlives the context of the first request.
		c, err := o.create(context.WithoutCancel(ctx))
		if err == nil {
			o.set(c)
		}
		return c, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(bucketClient), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *once) get() bucketClient {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made
}

func (o *once) set(c bucketClient) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made = c
}

// object is a name in a bucket. An empty key is the bucket itself.
type object struct{ bucket, key string }

// attributes are the facts about an object in a listing or an answer.
type attributes struct {
	key     string
	size    int64
	version Version
	// digest is a checksum of the content. Objects of equal size and digest are equal.
	digest string
}

// bucketClient has the operations of an object store. Safe ones are repeated after a fault.
type bucketClient interface {
	head(ctx context.Context, o object) (attributes, error)
	// get returns length bytes from offset, or all bytes if length is negative. A version that is
	// not empty must be the object's.
	get(ctx context.Context, o object, v Version, offset, length int64) (io.ReadCloser, attributes, error)
	upload(ctx context.Context, o object) target
	// put writes the object if it has the version, or does not exist if the version is empty.
	put(ctx context.Context, o object, v Version, data []byte) (Version, error)
	// list calls each for every object whose key begins with prefix, page by page. With flat, it
	// calls folder once for all objects below the next slash.
	list(ctx context.Context, o object, flat bool, each func(attributes), folder func(string)) error
	// copy copies this version of an object within a store. It replaces the target.
	copy(ctx context.Context, from, to object, v attributes) error
	remove(ctx context.Context, o object) error
	// removeMany removes objects of one bucket. Some may be missing.
	removeMany(ctx context.Context, bucket string, keys []string) error
	// sentence explains an error; "" if the error's own text is best.
	sentence(err error, o object) string
	// whereFrom names the source of the store's host name.
	whereFrom() string
}

// The errors into which clients translate those of their libraries.
var (
	errNoObject = fmt.Errorf("there is no such file: %w", fs.ErrNotExist)
	errChanged  = ErrChanged
)

// objects is the driver of the object stores.
type objects struct {
	scheme  string
	connect func(context.Context) (bucketClient, error)
}

// at returns the client and the object of a path.
func (d *objects) at(ctx context.Context, name string) (bucketClient, object, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(name, d.scheme), "/")
	o := object{bucket: bucket, key: key}
	if bucket == "" {
		return nil, o, fmt.Errorf("store: %w", noBucketIn(name, d.scheme))
	}
	c, err := d.connect(ctx)
	if err != nil {
		return nil, o, fmt.Errorf("store: %s: %w", name, err)
	}
	return c, o, nil
}

// explain turns an error into one sentence.
func explain(c bucketClient, err error, name string, o object) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrChanged), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: %s: %w", name, err)
	case errors.Is(err, errSilent):
		return fmt.Errorf("store: %s: %w", name, errSilent)
	}
	if host := (*net.DNSError)(nil); errors.As(err, &host) {
		return fmt.Errorf("store: %s: there is no host %q to be found; %s", name, host.Name, c.whereFrom())
	}
	if s := c.sentence(err, o); s != "" {
		return fmt.Errorf("store: %s: %s", name, s)
	}
	return fmt.Errorf("store: %s: %w", name, err)
}

func (d *objects) open(ctx context.Context, name string) (source, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, err
	}
	a, err := c.head(ctx, o)
	if err != nil {
		return nil, explain(c, err, name, o)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &objectSource{ctx: ctx, cancel: cancel, client: c, object: o, name: name, attributes: a, blocks: map[int64]*block{}}, nil
}

func (d *objects) readFile(ctx context.Context, name string) ([]byte, error) {
	data, _, err := d.readVersion(ctx, name)
	return data, err
}

func (d *objects) readVersion(ctx context.Context, name string) ([]byte, Version, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, "", err
	}
	r := &resuming{ctx: ctx, client: c, object: o, end: -1}
	data, err := io.ReadAll(r)
	err = errors.Join(err, r.Close())
	return data, r.version, explain(c, err, name, o)
}

func (d *objects) swap(ctx context.Context, name string, old Version, data []byte) (Version, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return "", err
	}
	v, err := c.put(ctx, o, old, data)
	if errors.Is(err, ErrChanged) {
		// A request whose answer was lost was repeated: then the change is our own.
		if now, v, err := d.readVersion(ctx, name); err == nil && bytes.Equal(now, data) {
			return v, nil
		}
	}
	return v, explain(c, err, name, o)
}

func (d *objects) stat(ctx context.Context, name string) (File, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return File{}, err
	}
	a, err := c.head(ctx, o)
	return File{Path: name, Size: a.size}, explain(c, err, name, o)
}

func (d *objects) create(ctx context.Context, name string) (target, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, err
	}
	if o.key == "" || strings.HasSuffix(o.key, "/") {
		return nil, fmt.Errorf("store: %s: is the name of a folder, not of a file", name)
	}
	return &objectTarget{target: c.upload(ctx, o), client: c, object: o, name: name}, nil
}

// objectTarget explains the errors of an upload.
type objectTarget struct {
	target

	client bucketClient
	object object
	name   string
}

// Write adds to the object.
func (t *objectTarget) Write(p []byte) (int, error) {
	n, err := t.target.Write(p)
	return n, explain(t.client, err, t.name, t.object)
}

func (t *objectTarget) publish() error {
	return explain(t.client, t.target.publish(), t.name, t.object)
}

func (t *objectTarget) discard() error {
	return explain(t.client, t.target.discard(), t.name, t.object)
}

func (d *objects) list(ctx context.Context, prefix string) ([]File, error) {
	files, _, err := d.walk(ctx, prefix, false)
	return files, err
}

// walk lists all names that begin with prefix, flat or recursively.
func (d *objects) walk(ctx context.Context, prefix string, flat bool) (files []File, folders []string, err error) {
	c, o, err := d.at(ctx, prefix)
	if err != nil {
		return nil, nil, err
	}
	err = c.list(ctx, o, flat, func(a attributes) {
		// Some consoles represent an empty folder by a key that ends in a slash.
		if base := path.Base(a.key); !strings.HasSuffix(a.key, "/") && !isPartial(base) {
			files = append(files, File{Path: d.scheme + o.bucket + "/" + a.key, Size: a.size})
		}
	}, func(key string) { folders = append(folders, path.Base(key)) })
	return files, folders, explain(c, err, prefix, o)
}

func (d *objects) folders(ctx context.Context, folder string) ([]string, error) {
	_, folders, err := d.walk(ctx, folder, true)
	return folders, err
}

func (d *objects) find(ctx context.Context, pattern string) ([]File, error) {
	c, o, err := d.at(ctx, pattern)
	if err != nil {
		return nil, err
	}
	if o.key != "" && !strings.HasSuffix(o.key, "/") {
		a, err := c.head(ctx, o)
		if err == nil {
			return []File{{Path: pattern, Size: a.size}}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, explain(c, err, pattern, o)
		}
	}
	files, folders, err := d.walk(ctx, strings.TrimSuffix(pattern, "/")+"/", true)
	if err != nil {
		return nil, err
	}
	if len(files)+len(folders) > 0 {
		return visible(files), nil
	}
	return d.match(ctx, pattern, o)
}

// visible omits the files whose names begin with a dot.
func visible(files []File) []File {
	var out []File
	for _, f := range files {
		if !strings.HasPrefix(path.Base(f.Path), ".") {
			out = append(out, f)
		}
	}
	return out
}

// match returns the files of a bucket that match a pattern. It lists the names that begin as the pattern
// does before its first special character.
func (d *objects) match(ctx context.Context, pattern string, o object) ([]File, error) {
	if _, err := path.Match(o.key, ""); err != nil {
		return nil, fmt.Errorf("store: the pattern %s is not valid: %w", pattern, err)
	}
	at := strings.IndexAny(o.key, `*?[\`)
	if at < 0 {
		return nil, nil
	}
	bucket := d.scheme + o.bucket + "/"
	// Without a special character after a slash, one folder is enough.
	flat := !strings.Contains(o.key[at:], "/")
	files, _, err := d.walk(ctx, bucket+o.key[:at], flat)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, f := range files {
		ok, err := path.Match(o.key, strings.TrimPrefix(f.Path, bucket))
		if err != nil {
			return nil, fmt.Errorf("store: the pattern %s is not valid: %w", pattern, err)
		}
		hidden := strings.HasPrefix(path.Base(f.Path), ".") && !strings.HasPrefix(path.Base(pattern), ".")
		if ok && !hidden {
			out = append(out, f)
		}
	}
	return out, nil
}

func (d *objects) move(ctx context.Context, from, to string) error {
	c, source, err := d.at(ctx, from)
	if err != nil {
		return err
	}
	_, target, err := d.at(ctx, to)
	if err != nil {
		return err
	}
	a, err := c.head(ctx, source)
	if err != nil {
		return explain(c, err, from, source)
	}
	if err := c.copy(ctx, source, target, a); err != nil {
		return explain(c, err, to, target)
	}
	return explain(c, c.remove(ctx, source), from, source)
}

func (d *objects) remove(ctx context.Context, name string) error {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return err
	}
	err = c.remove(ctx, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return explain(c, err, name, o)
}

// removers is the number of files that are removed in parallel when each takes a request.
const removers = 16

func (*objects) removeEmpty(context.Context, string) error { return nil }

func (d *objects) names(ctx context.Context, folder string) ([]string, error) {
	files, folders, err := d.walk(ctx, folder, true)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files)+len(folders))
	for _, f := range files {
		names = append(names, path.Base(f.Path))
	}
	for _, name := range folders {
		names = append(names, name+"/")
	}
	return names, nil
}

func (d *objects) removeFiles(ctx context.Context, names []string) error {
	buckets := map[string][]string{}
	var c bucketClient
	for _, name := range names {
		client, o, err := d.at(ctx, name)
		if err != nil {
			return err
		}
		c = client
		buckets[o.bucket] = append(buckets[o.bucket], o.key)
	}
	for bucket, keys := range buckets {
		if err := c.removeMany(ctx, bucket, keys); err != nil {
			return explain(c, err, d.scheme+bucket+"/"+keys[0], object{bucket: bucket})
		}
	}
	return nil
}

// removeEach removes objects in parallel.
func removeEach(ctx context.Context, c bucketClient, bucket string, keys []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removers)
	for _, key := range keys {
		group.Go(func() error { return c.remove(ctx, object{bucket: bucket, key: key}) })
	}
	return group.Wait()
}

// sweep does nothing: an abandoned upload leaves no name. S3 keeps its parts until the bucket's lifecycle
// removes them; see docs/storage.md.
func (*objects) sweep(context.Context, string) error { return nil }

// The blocks in which an open object is read at offsets. A reader of Parquet alternates between several
// positions.
const (
	blockSize = 1 << 20
	maxBlocks = 32
)

// block is a part of an object. Concurrent readers share one request for it.
type block struct {
	get  func() ([]byte, error)
	used int64
}

// objectSource is an open object of one version.
type objectSource struct {
	ctx        context.Context
	cancel     context.CancelFunc
	client     bucketClient
	object     object
	name       string
	attributes attributes

	mu     sync.Mutex
	blocks map[int64]*block
	clock  int64
}

func (s *objectSource) size() int64 { return s.attributes.size }

// Close ends all reads of the object.
func (s *objectSource) Close() error {
	s.cancel()
	return nil
}

func (s *objectSource) resume(ctx context.Context, from, to int64) *resuming {
	return &resuming{ctx: ctx, client: s.client, object: s.object, version: s.attributes.version, at: from, end: to}
}

func (s *objectSource) stream(_ *Reader, offset int64) io.Reader {
	return &explained{resuming: s.resume(s.ctx, min(offset, s.size()), s.size()), name: s.name}
}

// ReadAt reads from the blocks.
func (s *objectSource) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("a negative offset")
	}
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		if at >= s.size() {
			return n, io.EOF
		}
		b, err := s.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%blockSize:])
	}
	return n, nil
}

func (s *objectSource) block(number int64) ([]byte, error) {
	s.mu.Lock()
	s.clock++
	b := s.blocks[number]
	if b == nil {
		s.makeRoom()
		b = &block{get: sync.OnceValues(func() ([]byte, error) { return s.fetch(number) })}
		s.blocks[number] = b
	}
	b.used = s.clock
	s.mu.Unlock()
	data, err := b.get()
	if err != nil {
		s.mu.Lock()
		delete(s.blocks, number)
		s.mu.Unlock()
	}
	return data, err
}

// makeRoom drops the least recently used block.
func (s *objectSource) makeRoom() {
	if len(s.blocks) < maxBlocks {
		return
	}
	oldest := int64(-1)
	for number, b := range s.blocks {
		if oldest < 0 || b.used < s.blocks[oldest].used {
			oldest = number
		}
	}
	delete(s.blocks, oldest)
}

func (s *objectSource) fetch(number int64) ([]byte, error) {
	from := number * blockSize
	data := make([]byte, min(blockSize, s.size()-from))
	r := s.resume(s.ctx, from, from+int64(len(data)))
	_, err := io.ReadFull(r, data)
	return data, explain(s.client, errors.Join(err, r.Close()), s.name, s.object)
}

// explained is a stream with explained errors.
type explained struct {
	*resuming

	name string
}

// Read reads more of the stream.
func (e *explained) Read(p []byte) (int, error) {
	n, err := e.resuming.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain(e.client, err, e.name, e.object)
	}
	return n, err
}

// resumes is the number of restarts in a row without a byte in between.
const resumes = 6

// resuming reads a range of an object, and continues where it stopped when the connection breaks or
// falls silent.
type resuming struct {
	ctx     context.Context
	client  bucketClient
	object  object
	version Version // empty until the first answer
	at      int64
	end     int64 // negative until the first answer

	body   io.ReadCloser
	cancel context.CancelFunc
	watch  *time.Timer
	failed int
}

// Read reads more of the object. It begins no request after the time limit of one.
func (r *resuming) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for began := time.Now(); ; {
		if r.end >= 0 && r.at >= r.end && r.body == nil {
			return 0, io.EOF
		}
		if err := r.begin(); err != nil { // after its own repetitions
			return 0, err
		}
		if left := r.end - r.at; r.end >= 0 && int64(len(p)) > left {
			p = p[:left]
		}
		if len(p) == 0 {
			if err := r.Close(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.watch.Reset(stalled)
		n, err := r.body.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.failed = 0
			return n, nil // the next read meets the error again, or resolves it
		}
		if err == nil {
			continue
		}
		// An early end is a broken body too.
		if closeErr := r.Close(); closeErr != nil && errors.Is(err, io.EOF) {
			err = closeErr
		}
		if err := r.again(err, began); err != nil {
			return 0, err
		}
	}
}

// begin requests the remaining range.
func (r *resuming) begin() error {
	if r.body != nil {
		return nil
	}
	length := int64(-1)
	if r.end >= 0 {
		length = r.end - r.at
	}
	ctx, cancel := context.WithCancel(r.ctx)
	watch := time.AfterFunc(answered, cancel)
	body, a, err := r.client.get(ctx, r.object, r.version, r.at, length)
	if err != nil {
		watch.Stop()
		if ctx.Err() != nil && r.ctx.Err() == nil {
			err = errSilent
		}
		cancel()
		return err
	}
	r.body, r.cancel, r.version, r.watch = body, cancel, a.version, watch
	if r.end < 0 {
		r.end = a.size
	}
	return nil
}

// again pauses, or returns the error if this read has failed too often or for too long.
func (r *resuming) again(err error, began time.Time) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if r.failed++; r.failed > resumes || time.Since(began) > answered {
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading broke off at byte %d, %d times: %w", r.at, r.failed, err)
	}
	select {
	case <-time.After(firstPause << (r.failed - 1)):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// Close ends the request.
func (r *resuming) Close() error {
	if r.body == nil {
		return nil
	}
	r.watch.Stop()
	r.cancel()
	body := r.body
	r.body = nil
	if err := body.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// The repetition of requests: after pauses that double from the first to the longest, less some jitter.
// When a store refuses at once, ten attempts take 16 to 33 seconds.
var (
	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second
	tries        = 10
)
