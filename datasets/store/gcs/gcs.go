// Package gcs is the client of Google Cloud Storage, or of the emulator that STORAGE_EMULATOR_HOST names.
package gcs

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

	"coeval/datasets/store/bucket"
)

// chunkSize is the size of an upload's buffer. A larger file goes in chunks of this size, and a failed
// chunk is sent again.
const chunkSize = 2 << 20

type client struct {
	sdk      *storage.Client
	patience *bucket.Patience
}

// New creates the client.
func New(ctx context.Context, p *bucket.Patience) (bucket.Client, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64
	transport := http.RoundTripper(boundedTransport{base, p})
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
		storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(transient), storage.WithMaxAttempts(p.Tries),
		storage.WithBackoff(gax.Backoff{Initial: p.FirstPause, Max: p.LongestPause, Multiplier: 2}),
	)
	return &client{sdk: c, patience: p}, nil
}

// transient reports whether a repetition of a request may succeed. The library's own list lacks a
// connection that is closed before the answer begins.
func transient(err error) bool {
	return storage.ShouldRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, bucket.ErrSilent)
}

func (c *client) handle(o bucket.Object) *storage.ObjectHandle {
	return c.sdk.Bucket(o.Bucket).Object(o.Key)
}

func (c *client) Head(ctx context.Context, o bucket.Object) (bucket.Attributes, error) {
	if o.Key == "" {
		return bucket.Attributes{}, bucket.ErrNoObject
	}
	var a *storage.ObjectAttrs
	err := c.patience.Limit(ctx, func(ctx context.Context) (err error) {
		a, err = c.handle(o).Attrs(ctx)
		return err
	})
	if err != nil {
		return bucket.Attributes{}, translated(rightGet, err)
	}
	if a.ContentEncoding == "gzip" { // then its size differs from that of the content
		return bucket.Attributes{}, errors.New("is stored with Content-Encoding gzip; upload it without, and with a name that ends in .gz")
	}
	return attributesOf(a), nil
}

func attributesOf(a *storage.ObjectAttrs) bucket.Attributes {
	return bucket.Attributes{Key: a.Name, Size: a.Size, Version: versionOf(a.Generation), Digest: fmt.Sprint(a.CRC32C)}
}

func versionOf(generation int64) bucket.Version { return bucket.Version(fmt.Sprint(generation)) }

func generationOf(v bucket.Version) (g int64, err error) {
	if _, err = fmt.Sscan(string(v), &g); err != nil {
		return 0, fmt.Errorf("%q is no generation: %w", v, err)
	}
	return g, nil
}

func (c *client) Get(ctx context.Context, o bucket.Object, v bucket.Version, offset, length int64) (io.ReadCloser, bucket.Attributes, error) {
	h := c.handle(o)
	if v != "" {
		g, err := generationOf(v)
		if err != nil {
			return nil, bucket.Attributes{}, err
		}
		h = h.Generation(g)
	}
	r, err := h.NewRangeReader(ctx, offset, length)
	if err != nil {
		if errors.Is(err, storage.ErrObjectNotExist) && v != "" {
			return nil, bucket.Attributes{}, bucket.ErrChanged
		}
		return nil, bucket.Attributes{}, translated(rightGet, err)
	}
	return r, bucket.Attributes{Key: o.Key, Size: r.Attrs.Size, Version: versionOf(r.Attrs.Generation)}, nil
}

// upload is an upload in progress. The end of its context ends it without publishing the file.
type upload struct {
	*storage.Writer

	patience *bucket.Patience
	ctx      context.Context // the caller's; the writer's own ends with cancel
	cancel   context.CancelFunc
	watch    *time.Timer
}

func (c *client) Upload(ctx context.Context, o bucket.Object) bucket.Upload {
	own, cancel := context.WithCancel(ctx)
	u := &upload{patience: c.patience, Writer: c.newWriter(own, c.handle(o)), ctx: ctx, cancel: cancel, watch: time.AfterFunc(c.patience.Answered, cancel)}
	u.watch.Stop()
	return u
}

// newWriter bounds the repetitions of a part of an upload, which the library does not bound.
func (c *client) newWriter(ctx context.Context, h *storage.ObjectHandle) *storage.Writer {
	var failed atomic.Int64
	w := h.Retryer(storage.WithErrorFunc(func(err error) bool {
		return transient(err) && failed.Add(1) < int64(c.patience.Tries)
	})).NewWriter(ctx)
	w.ChunkSize = chunkSize
	w.ProgressFunc = func(int64) { failed.Store(0) }
	return w
}

// Write adds to the object.
func (u *upload) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		k := 0
		err = u.watched(func() error {
			k, err = u.Writer.Write(p[n:min(len(p), n+chunkSize)])
			return err
		})
		n += k
	}
	return n, err
}

// watched runs one step of the upload, and ends the upload when the store is silent.
func (u *upload) watched(step func() error) error {
	u.watch.Reset(u.patience.Answered)
	err := step()
	if inTime := u.watch.Stop(); !inTime && err != nil && u.ctx.Err() == nil {
		return bucket.ErrSilent
	}
	return translated(rightWrite, err)
}

func (u *upload) Publish() error {
	defer u.cancel()
	return u.watched(u.Close)
}

func (u *upload) Discard() error {
	u.cancel()
	_ = u.Close() // its error only reports the end of the context
	return nil
}

func (c *client) Put(ctx context.Context, o bucket.Object, v bucket.Version, data []byte) (bucket.Version, error) {
	when := storage.Conditions{DoesNotExist: true}
	if v != "" {
		g, err := generationOf(v)
		if err != nil {
			return "", err
		}
		when = storage.Conditions{GenerationMatch: g}
	}
	var w *storage.Writer
	err := c.patience.Limit(ctx, func(ctx context.Context) error {
		w = c.newWriter(ctx, c.handle(o).If(when))
		_, err := w.Write(data)
		return errors.Join(err, w.Close())
	})
	if err := translated(rightWrite, err); err != nil {
		return "", err
	}
	return versionOf(w.Attrs().Generation), nil
}

func (c *client) List(ctx context.Context, o bucket.Object, flat bool, each func(bucket.Attributes), folder func(string)) error {
	q := &storage.Query{Prefix: o.Key}
	if flat {
		q.Delimiter = "/"
	}
	if err := q.SetAttrSelection([]string{"Name", "Size"}); err != nil {
		return err
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(c.patience.Answered, cancel) // of each page
	defer watch.Stop()
	for all := c.sdk.Bucket(o.Bucket).Objects(own, q); ; {
		watch.Reset(c.patience.Answered)
		a, err := all.Next()
		switch {
		case err != nil && own.Err() != nil && ctx.Err() == nil:
			return bucket.ErrSilent
		case errors.Is(err, iterator.Done):
			return nil
		case err != nil:
			return translated(rightList, err)
		case a.Prefix != "":
			folder(a.Prefix)
		default:
			each(attributesOf(a))
		}
	}
}

// Copy copies one generation over another, or to a free name, so that a repeated or late copy does
// nothing.
func (c *client) Copy(ctx context.Context, from, to bucket.Object, a bucket.Attributes) error {
	g, err := generationOf(a.Version)
	if err != nil {
		return err
	}
	when := storage.Conditions{DoesNotExist: true}
	switch was, err := c.Head(ctx, to); {
	case err == nil:
		if when.GenerationMatch, err = generationOf(was.Version); err != nil {
			return err
		}
		when.DoesNotExist = false
	case !errors.Is(err, bucket.ErrNoObject):
		return err
	}
	err = translated(rightWrite, c.patience.Limit(ctx, func(ctx context.Context) error {
		_, err := c.handle(to).If(when).CopierFrom(c.handle(from).Generation(g)).Run(ctx)
		return err
	}))
	if errors.Is(err, bucket.ErrChanged) { // a copy whose answer was lost was repeated
		if is, headErr := c.Head(ctx, to); headErr == nil && is.Size == a.Size && is.Digest == a.Digest {
			return nil
		}
	}
	return err
}

func (c *client) RemoveMany(ctx context.Context, name string, keys []string) error {
	return bucket.RemoveEach(ctx, c, name, keys)
}

func (c *client) Remove(ctx context.Context, o bucket.Object) error {
	if err := translated(rightDelete, c.patience.Limit(ctx, c.handle(o).Delete)); !errors.Is(err, bucket.ErrNoObject) {
		return err
	}
	return nil
}

// noBucket is Google's message for a missing bucket. For a missing object the message is "No such
// object: BUCKET/NAME". The library reports both as a missing object.
const noBucket = "The specified bucket does not exist"

// The rights that requests need. To replace an object needs the right to delete it.
const (
	rightGet    = "storage.objects.get"
	rightList   = "storage.objects.list"
	rightWrite  = "storage.objects.create and storage.objects.delete"
	rightDelete = "storage.objects.delete"
)

// A lackingError is an answer 403 and the right that the request needed.
type lackingError struct {
	error

	right string
}

// Unwrap returns the answer.
func (e *lackingError) Unwrap() error { return e.error }

// translated translates the error of a request, which needed the right, into one of this package.
func translated(right string, err error) error {
	if err == nil || errors.Is(err, storage.ErrBucketNotExist) {
		return err
	}
	var api *googleapi.Error
	said := errors.As(err, &api)
	switch {
	// The answer to a read is text, and has no message.
	case said && api.Code == http.StatusNotFound && strings.Contains(api.Message+api.Body, noBucket):
		return fmt.Errorf("%w: %w", storage.ErrBucketNotExist, err)
	case errors.Is(err, storage.ErrObjectNotExist):
		return bucket.ErrNoObject
	case said && api.Code == http.StatusPreconditionFailed:
		return bucket.ErrChanged
	case said && api.Code == http.StatusForbidden:
		return &lackingError{error: err, right: right}
	}
	return err
}

func (c *client) Sentence(err error, o bucket.Object) string {
	if errors.Is(err, storage.ErrBucketNotExist) {
		return bucket.NoBucket(o)
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return ""
	}
	switch api.Code {
	case http.StatusNotFound: // of a write: only the bucket can be missing
		return bucket.NoBucket(o)
	case http.StatusUnauthorized:
		return "the credentials are not accepted (401); see GOOGLE_APPLICATION_CREDENTIALS"
	case http.StatusForbidden:
		right := ""
		if lacking, ok := errors.AsType[*lackingError](err); ok {
			right = lacking.right
		}
		return bucket.NoPermission(o, right) + bucket.Quoted(api.Message)
	}
	return fmt.Sprintf("the store answered %d%s", api.Code, bucket.Quoted(api.Message))
}

func (c *client) WhereFrom() string {
	return "it is Google's, or the one that STORAGE_EMULATOR_HOST names"
}

// boundedTransport bounds the attempts of Google's client.
type boundedTransport struct {
	http.RoundTripper

	patience *bucket.Patience
}

// RoundTrip makes one attempt.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.patience.Attempt(r, t.RoundTripper.RoundTrip)
}
