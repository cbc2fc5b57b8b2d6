package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"coeval/datasets/store/bucket"
)

// patience has the limits of all object stores.
var patience = &bucket.Patience{
	Tried: time.Minute, Stalled: 30 * time.Second, Answered: 3 * time.Minute,
	FirstPause: 200 * time.Millisecond, LongestPause: 10 * time.Second, Tries: 10,
}

// schemes are the object stores, each with its client.
var schemes = map[string]*bucket.Once{"gs://": unregistered("gs://"), "s3://": unregistered("s3://")}

// unregistered returns the client of a program that imports none for the scheme.
func unregistered(scheme string) *bucket.Once {
	return &bucket.Once{Create: func(context.Context) (bucket.Client, error) {
		return nil, fmt.Errorf("this program has no client for %s: import coeval/datasets/store/clouds", scheme)
	}}
}

// Register sets the client of gs:// or s3://. Package clouds calls it for both, before any path is used. It
// panics for any other scheme.
func Register(scheme string, connect func(context.Context, *bucket.Patience) (bucket.Client, error)) {
	if schemes[scheme] == nil {
		panic(fmt.Sprintf("store: no path has the scheme %q", scheme))
	}
	schemes[scheme].Create = func(ctx context.Context) (bucket.Client, error) { return connect(ctx, patience) }
}

// objects is the driver of the object stores.
type objects struct {
	scheme string
	client *bucket.Once
}

// at returns the client and the object of a path.
func (d *objects) at(ctx context.Context, name string) (bucket.Client, bucket.Object, error) {
	var o bucket.Object
	o.Bucket, o.Key, _ = strings.Cut(strings.TrimPrefix(name, d.scheme), "/")
	if o.Bucket == "" {
		return nil, o, fmt.Errorf("store: %w", noBucketIn(name, d.scheme))
	}
	c, err := d.client.Client(ctx)
	if err != nil {
		return nil, o, fmt.Errorf("store: %s: %w", name, err)
	}
	return c, o, nil
}

func (d *objects) open(ctx context.Context, name string) (source, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, err
	}
	a, err := c.Head(ctx, o)
	if err != nil {
		return nil, bucket.Explain(c, err, name, o)
	}
	return objectSource{bucket.Open(ctx, c, patience, o, name, a)}, nil
}

// objectSource is an open object.
type objectSource struct{ *bucket.Reader }

func (s objectSource) size() int64 { return s.Size() }

func (s objectSource) stream(_ *Reader, offset int64) io.Reader { return s.Stream(offset) }

func (d *objects) readFile(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	data, _, err := d.readUpTo(ctx, name, maxBytes)
	return data, err
}

func (d *objects) readVersion(ctx context.Context, name string) ([]byte, Version, error) {
	return d.readUpTo(ctx, name, maxSmall)
}

// readUpTo returns an object of up to maxBytes bytes.
func (d *objects) readUpTo(ctx context.Context, name string, maxBytes int64) ([]byte, Version, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, "", err
	}
	data, v, err := bucket.ReadAll(ctx, c, patience, o, maxBytes)
	if err == nil && int64(len(data)) > maxBytes {
		return nil, "", tooLarge(name, maxBytes)
	}
	return data, v, bucket.Explain(c, err, name, o)
}

func (d *objects) swap(ctx context.Context, name string, old bucket.Version, data []byte) (bucket.Version, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return "", err
	}
	v, err := c.Put(ctx, o, old, data)
	if errors.Is(err, bucket.ErrChanged) {
		// A request whose answer was lost was repeated: then the change is our own.
		if now, v, err := d.readVersion(ctx, name); err == nil && bytes.Equal(now, data) {
			return v, nil
		}
	}
	return v, bucket.Explain(c, err, name, o)
}

func (d *objects) stat(ctx context.Context, name string) (File, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return File{}, err
	}
	a, err := c.Head(ctx, o)
	return File{Path: name, Size: a.Size}, bucket.Explain(c, err, name, o)
}

func (d *objects) create(ctx context.Context, name string) (target, error) {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return nil, err
	}
	if o.Key == "" || strings.HasSuffix(o.Key, "/") {
		return nil, fmt.Errorf("store: %s: is the name of a folder, not of a file", name)
	}
	return &objectTarget{upload: c.Upload(ctx, o), client: c, object: o, name: name}, nil
}

// objectTarget explains the errors of an upload.
type objectTarget struct {
	upload bucket.Upload
	client bucket.Client
	object bucket.Object
	name   string
}

// Write adds to the object.
func (t *objectTarget) Write(p []byte) (int, error) {
	n, err := t.upload.Write(p)
	return n, bucket.Explain(t.client, err, t.name, t.object)
}

func (t *objectTarget) publish() error {
	return bucket.Explain(t.client, t.upload.Publish(), t.name, t.object)
}

func (t *objectTarget) discard() error {
	return bucket.Explain(t.client, t.upload.Discard(), t.name, t.object)
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
	err = c.List(ctx, o, flat, func(a bucket.Attributes) {
		// Some consoles represent an empty folder by a key that ends in a slash.
		if base := path.Base(a.Key); !strings.HasSuffix(a.Key, "/") && !isPartial(base) {
			files = append(files, File{Path: d.scheme + o.Bucket + "/" + a.Key, Size: a.Size})
		}
	}, func(key string) { folders = append(folders, path.Base(key)) })
	return files, folders, bucket.Explain(c, err, prefix, o)
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
	if o.Key != "" && !strings.HasSuffix(o.Key, "/") {
		a, err := c.Head(ctx, o)
		if err == nil {
			return []File{{Path: pattern, Size: a.Size}}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, bucket.Explain(c, err, pattern, o)
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
func (d *objects) match(ctx context.Context, pattern string, o bucket.Object) ([]File, error) {
	if _, err := path.Match(o.Key, ""); err != nil {
		return nil, fmt.Errorf("store: the pattern %s is not valid: %w", pattern, err)
	}
	at := strings.IndexAny(o.Key, `*?[\`)
	if at < 0 {
		return nil, nil
	}
	root := d.scheme + o.Bucket + "/"
	// Without a special character after a slash, one folder is enough.
	flat := !strings.Contains(o.Key[at:], "/")
	files, _, err := d.walk(ctx, root+o.Key[:at], flat)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, f := range files {
		ok, err := path.Match(o.Key, strings.TrimPrefix(f.Path, root))
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
	a, err := c.Head(ctx, source)
	if err != nil {
		return bucket.Explain(c, err, from, source)
	}
	if err := c.Copy(ctx, source, target, a); err != nil {
		return bucket.Explain(c, err, to, target)
	}
	return bucket.Explain(c, c.Remove(ctx, source), from, source)
}

func (d *objects) remove(ctx context.Context, name string) error {
	c, o, err := d.at(ctx, name)
	if err != nil {
		return err
	}
	err = c.Remove(ctx, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return bucket.Explain(c, err, name, o)
}

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
	var c bucket.Client
	for _, name := range names {
		client, o, err := d.at(ctx, name)
		if err != nil {
			return err
		}
		c = client
		buckets[o.Bucket] = append(buckets[o.Bucket], o.Key)
	}
	for name, keys := range buckets {
		if err := c.RemoveMany(ctx, name, keys); err != nil {
			return bucket.Explain(c, err, d.scheme+name+"/"+keys[0], bucket.Object{Bucket: name})
		}
	}
	return nil
}

// sweep does nothing: an abandoned upload leaves no name. S3 keeps its parts until the bucket's lifecycle
// removes them; see docs/storage.md.
func (*objects) sweep(context.Context, string) error { return nil }
