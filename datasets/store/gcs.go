package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	htransport "google.golang.org/api/transport/http"
)

// gcs is Google Cloud Storage, or the emulator that STORAGE_EMULATOR_HOST names.
var gcs = &once{create: newGCS}

// gcsChunk is the size of an upload's buffer. A larger file goes in chunks of this size, and a failed
// chunk is sent again.
const gcsChunk = 2 << 20

type gcsClient struct{ client *storage.Client }

func newGCS(ctx context.Context) (bucketClient, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64
	transport := http.RoundTripper(boundedTransport{base})
	var err error
	if os.Getenv("STORAGE_EMULATOR_HOST") == "" { //nolint:forbidigo // as the library does
		transport, err = htransport.NewTransport(ctx, transport, option.WithUserAgent("coeval"),
			option.WithScopes(storage.ScopeFullControl, "https://www.googleapis.com/auth/cloud-platform"))
	}
	var c *storage.Client
	if err == nil {
		c, err = storage.NewClient(ctx, storage.WithJSONReads(), option.WithHTTPClient(&http.Client{Transport: transport}))
	}
	if err != nil {
		return nil, fmt.Errorf("no credentials for Google Cloud: set GOOGLE_APPLICATION_CREDENTIALS to a key file, "+
			"run `gcloud auth application-default login`, or give the machine a service account (%w)", err)
	}
	// Requests that are not idempotent have a precondition, or write a whole file, which may be
	// repeated.
	c.SetRetry(
		storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(transient), storage.WithMaxAttempts(tries),
		storage.WithBackoff(gax.Backoff{Initial: firstPause, Max: longestPause, Multiplier: 2}),
	)
	return &gcsClient{client: c}, nil
}

// transient reports whether a repetition of a request may succeed. The library's own list lacks a
// connection that is closed before the answer begins.
func transient(err error) bool {
	return storage.ShouldRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, errSilent)
}

func (c *gcsClient) handle(o object) *storage.ObjectHandle {
	return c.client.Bucket(o.bucket).Object(o.key)
}

func (c *gcsClient) head(ctx context.Context, o object) (attributes, error) {
	if o.key == "" {
		return attributes{}, errNoObject
	}
	var a *storage.ObjectAttrs
	err := patiently(ctx, func(ctx context.Context) (err error) {
		a, err = c.handle(o).Attrs(ctx)
		return err
	})
	if err != nil {
		return attributes{}, gcsError(err)
	}
	if a.ContentEncoding == "gzip" { // then its size differs from that of the content
		return attributes{}, errors.New("is stored with Content-Encoding gzip; upload it without, and with a name that ends in .gz")
	}
	return gcsAttributes(a), nil
}

func gcsAttributes(a *storage.ObjectAttrs) attributes {
	return attributes{key: a.Name, size: a.Size, version: gcsVersion(a.Generation), digest: fmt.Sprint(a.CRC32C)}
}

func gcsVersion(generation int64) Version { return Version(fmt.Sprint(generation)) }

func generationOf(v Version) (g int64, err error) {
	if _, err = fmt.Sscan(string(v), &g); err != nil {
		return 0, fmt.Errorf("%q is no generation: %w", v, err)
	}
	return g, nil
}

func (c *gcsClient) get(ctx context.Context, o object, v Version, offset, length int64) (io.ReadCloser, attributes, error) {
	h := c.handle(o)
	if v != "" {
		g, err := generationOf(v)
		if err != nil {
			return nil, attributes{}, err
		}
		h = h.Generation(g)
	}
	r, err := h.NewRangeReader(ctx, offset, length)
	if err != nil {
		if errors.Is(err, storage.ErrObjectNotExist) && v != "" {
			return nil, attributes{}, errChanged
		}
		return nil, attributes{}, gcsError(err)
	}
	return r, attributes{key: o.key, size: r.Attrs.Size, version: gcsVersion(r.Attrs.Generation)}, nil
}

// gcsUpload is an upload in progress. The end of its context ends it without publishing the file.
type gcsUpload struct {
	*storage.Writer

	ctx    context.Context // the caller's; the writer's own ends with cancel
	cancel context.CancelFunc
	watch  *time.Timer
}

func (c *gcsClient) upload(ctx context.Context, o object) target {
	own, cancel := context.WithCancel(ctx)
	u := &gcsUpload{Writer: newWriter(own, c.handle(o)), ctx: ctx, cancel: cancel, watch: time.AfterFunc(answered, cancel)}
	u.watch.Stop()
	return u
}

// newWriter bounds the repetitions of a part of an upload, which the library does not bound.
func newWriter(ctx context.Context, h *storage.ObjectHandle) *storage.Writer {
	var failed atomic.Int64
	w := h.Retryer(storage.WithErrorFunc(func(err error) bool {
		return transient(err) && failed.Add(1) < int64(tries)
	})).NewWriter(ctx)
	w.ChunkSize = gcsChunk
	w.ProgressFunc = func(int64) { failed.Store(0) }
	return w
}

// Write adds to the object.
func (u *gcsUpload) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		k := 0
		err = u.watched(func() error {
			k, err = u.Writer.Write(p[n:min(len(p), n+gcsChunk)])
			return err
		})
		n += k
	}
	return n, err
}

// watched runs one step of the upload, and ends the upload when the store is silent.
func (u *gcsUpload) watched(step func() error) error {
	u.watch.Reset(answered)
	err := step()
	if inTime := u.watch.Stop(); !inTime && err != nil && u.ctx.Err() == nil {
		return errSilent
	}
	return gcsError(err)
}

func (u *gcsUpload) publish() error {
	defer u.cancel()
	return u.watched(u.Close)
}

func (u *gcsUpload) discard() error {
	u.cancel()
	_ = u.Close() // its error only reports the end of the context
	return nil
}

func (c *gcsClient) put(ctx context.Context, o object, v Version, data []byte) (Version, error) {
	when := storage.Conditions{DoesNotExist: true}
	if v != "" {
		g, err := generationOf(v)
		if err != nil {
			return "", err
		}
		when = storage.Conditions{GenerationMatch: g}
	}
	var w *storage.Writer
	err := patiently(ctx, func(ctx context.Context) error {
		w = newWriter(ctx, c.handle(o).If(when))
		_, err := w.Write(data)
		return errors.Join(err, w.Close())
	})
	if err := gcsError(err); err != nil {
		return "", err
	}
	return gcsVersion(w.Attrs().Generation), nil
}

func (c *gcsClient) list(ctx context.Context, o object, flat bool, each func(attributes), folder func(string)) error {
	q := &storage.Query{Prefix: o.key}
	if flat {
		q.Delimiter = "/"
	}
	if err := q.SetAttrSelection([]string{"Name", "Size"}); err != nil {
		return err
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(answered, cancel) // of each page
	defer watch.Stop()
	for all := c.client.Bucket(o.bucket).Objects(own, q); ; {
		watch.Reset(answered)
		a, err := all.Next()
		switch {
		case err != nil && own.Err() != nil && ctx.Err() == nil:
			return errSilent
		case errors.Is(err, iterator.Done):
			return nil
		case err != nil:
			return gcsError(err)
		case a.Prefix != "":
			folder(a.Prefix)
		default:
			each(gcsAttributes(a))
		}
	}
}

// copy copies one generation over another, or to a free name, so that a repeated or late copy does
// nothing.
func (c *gcsClient) copy(ctx context.Context, from, to object, a attributes) error {
	g, err := generationOf(a.version)
	if err != nil {
		return err
	}
	when := storage.Conditions{DoesNotExist: true}
	switch was, err := c.head(ctx, to); {
	case err == nil:
		if when.GenerationMatch, err = generationOf(was.version); err != nil {
			return err
		}
		when.DoesNotExist = false
	case !errors.Is(err, errNoObject):
		return err
	}
	err = gcsError(patiently(ctx, func(ctx context.Context) error {
		_, err := c.handle(to).If(when).CopierFrom(c.handle(from).Generation(g)).Run(ctx)
		return err
	}))
	if errors.Is(err, ErrChanged) { // a copy whose answer was lost was repeated
		if is, headErr := c.head(ctx, to); headErr == nil && is.size == a.size && is.digest == a.digest {
			return nil
		}
	}
	return err
}

func (c *gcsClient) removeMany(ctx context.Context, bucket string, keys []string) error {
	return removeEach(ctx, c, bucket, keys)
}

func (c *gcsClient) remove(ctx context.Context, o object) error {
	if err := gcsError(patiently(ctx, c.handle(o).Delete)); !errors.Is(err, errNoObject) {
		return err
	}
	return nil
}

// gcsNoBucket is Google's message for a missing bucket. For a missing object it is "No such object:
// BUCKET/NAME". The library reports both as a missing object.
const gcsNoBucket = "The specified bucket does not exist"

// gcsError translates errors into those of this package.
func gcsError(err error) error {
	if err == nil || errors.Is(err, storage.ErrBucketNotExist) {
		return err
	}
	var api *googleapi.Error
	said := errors.As(err, &api)
	switch {
	// The answer to a read is text, and has no message.
	case said && api.Code == http.StatusNotFound && strings.Contains(api.Message+api.Body, gcsNoBucket):
		return fmt.Errorf("%w: %w", storage.ErrBucketNotExist, err)
	case errors.Is(err, storage.ErrObjectNotExist):
		return errNoObject
	case said && api.Code == http.StatusPreconditionFailed:
		return errChanged
	}
	return err
}

func (c *gcsClient) sentence(err error, o object) string {
	if errors.Is(err, storage.ErrBucketNotExist) {
		return noBucket(o)
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return ""
	}
	switch api.Code {
	case http.StatusNotFound: // of a write: only the bucket can be missing
		return noBucket(o)
	case http.StatusUnauthorized:
		return "the credentials are not accepted (401); see GOOGLE_APPLICATION_CREDENTIALS"
	case http.StatusForbidden:
		return noPermission(o) + said(api.Message)
	}
	return fmt.Sprintf("the store answered %d%s", api.Code, said(api.Message))
}

func (c *gcsClient) whereFrom() string {
	return "it is Google's, or the one that STORAGE_EMULATOR_HOST names"
}

func noBucket(o object) string { return fmt.Sprintf("there is no bucket %q", o.bucket) }

func noPermission(o object) string {
	return fmt.Sprintf("no permission in the bucket %q (403); runs need to list, read, write and remove", o.bucket)
}

// said returns the first line of a store's message, in brackets.
func said(message string) string {
	message, _, _ = strings.Cut(strings.TrimSpace(message), "\n")
	if message == "" {
		return ""
	}
	const most = 300
	return fmt.Sprintf(" (%.*s)", most, message)
}
