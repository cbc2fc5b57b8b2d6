// Package bucket is the contract between package store and the clients of object stores. It contains the
// code that all clients share: time limits, repeated reads, and error messages.
package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"

	"golang.org/x/sync/errgroup"
)

// A Version identifies one content of an object.
type Version string

// An Object is a name in a bucket. An empty key is the bucket itself.
type Object struct{ Bucket, Key string }

// Attributes are the facts about an object in a listing or an answer.
type Attributes struct {
	Key     string
	Size    int64
	Version Version
	// Digest is a checksum of the content. Objects of equal size and digest are equal.
	Digest string
}

// A Client has the operations of an object store. It repeats safe ones after a fault.
type Client interface {
	Head(ctx context.Context, o Object) (Attributes, error)
	// Get returns length bytes from offset, or all bytes if length is negative. A version that is
	// not empty must be the object's.
	Get(ctx context.Context, o Object, v Version, offset, length int64) (io.ReadCloser, Attributes, error)
	Upload(ctx context.Context, o Object) Upload
	// Put writes the object if it has the version, or does not exist if the version is empty.
	Put(ctx context.Context, o Object, v Version, data []byte) (Version, error)
	// List calls each for every object whose key begins with prefix, page by page. With flat, it
	// calls folder once for all objects below the next slash.
	List(ctx context.Context, o Object, flat bool, each func(Attributes), folder func(string)) error
	// Copy copies this version of an object within a store. It replaces the target.
	Copy(ctx context.Context, from, to Object, v Attributes) error
	Remove(ctx context.Context, o Object) error
	// RemoveMany removes objects of one bucket. Some may be missing.
	RemoveMany(ctx context.Context, bucket string, keys []string) error
	// Sentence explains an error; "" if the error's own text is best.
	Sentence(err error, o Object) string
	// WhereFrom names the source of the store's host name.
	WhereFrom() string
}

// An Upload is an object before it is published.
type Upload interface {
	io.Writer
	Publish() error
	Discard() error
}

// ErrNoObject is the error of a missing object. ErrChanged reports that an object no longer has the
// expected version. Clients translate the errors of their libraries into these.
var (
	ErrNoObject = fmt.Errorf("there is no such file: %w", fs.ErrNotExist)
	ErrChanged  = errors.New("another writer has changed it")
)

// Explain turns an error into one sentence.
func Explain(c Client, err error, name string, o Object) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrChanged), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: %s: %w", name, err)
	case errors.Is(err, ErrSilent):
		return fmt.Errorf("store: %s: %w", name, ErrSilent)
	}
	if host := (*net.DNSError)(nil); errors.As(err, &host) {
		return fmt.Errorf("store: %s: there is no host %q to be found; %s", name, host.Name, c.WhereFrom())
	}
	if s := c.Sentence(err, o); s != "" {
		return fmt.Errorf("store: %s: %s", name, s)
	}
	return fmt.Errorf("store: %s: %w", name, err)
}

// removers is the number of files that are removed in parallel when each takes a request.
const removers = 16

// RemoveEach removes objects in parallel.
func RemoveEach(ctx context.Context, c Client, bucket string, keys []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removers)
	for _, key := range keys {
		group.Go(func() error { return c.Remove(ctx, Object{Bucket: bucket, Key: key}) })
	}
	return group.Wait()
}

// NoBucket explains a missing bucket.
func NoBucket(o Object) string { return fmt.Sprintf("there is no bucket %q", o.Bucket) }

// NoPermission names the right that a request lacked and the object, or the beginning of the names in a
// listing.
func NoPermission(o Object, right string) string {
	at := ""
	if o.Key != "" {
		at = fmt.Sprintf(" on %q", o.Key)
	}
	return fmt.Sprintf("no permission in the bucket %q (403): grant %s%s", o.Bucket, cmp.Or(right, "the permissions in docs/storage.md"), at)
}

// Quoted returns the first line of a store's message, in brackets.
func Quoted(message string) string {
	message, _, _ = strings.Cut(strings.TrimSpace(message), "\n")
	if message == "" {
		return ""
	}
	const maxLength = 300
	return fmt.Sprintf(" (%.*s)", maxLength, message)
}
