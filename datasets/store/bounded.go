package store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// How long stores may take. All of it can be had again: a request that is given up is made anew.
var (
	// tried is how long a request may take until its answer begins, its body sent: of at most
	// 8 MiB, which want a line of 1.1 Mbit/s.
	tried = time.Minute
	// stalled is how long an answer that has begun may give nothing.
	stalled = 30 * time.Second
	// answered is how long a request may take with its repetitions, or a part of an upload.
	answered = 3 * time.Minute
)

// errSilent is the end of a request that a store took and never answered.
var errSilent error = silence{}

type silence struct{}

func (silence) Error() string { return "the store took a request and does not answer" }

// Timeout says that it may be tried again.
func (silence) Timeout() bool { return true }

// patiently runs a request that must be answered within some time, its repetitions included.
func patiently(ctx context.Context, request func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, answered)
	defer cancel()
	err := request(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return errSilent
	}
	return err
}

// bounded makes one try of a request, which ends when the store is silent for too long: before the
// answer, or within it.
func bounded(r *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	watch := time.AfterFunc(tried, cancel)
	answer, err := send(r.WithContext(ctx))
	inTime := watch.Stop()
	if err != nil {
		cancel()
		if !inTime && r.Context().Err() == nil {
			err = errSilent
		}
		return answer, err
	}
	watch = time.AfterFunc(stalled, cancel)
	watch.Stop()
	answer.Body = &boundedBody{ReadCloser: answer.Body, watch: watch, cancel: cancel, of: r.Context()}
	return answer, nil
}

// boundedBody is an answer that ends when nothing comes.
type boundedBody struct {
	io.ReadCloser

	watch  *time.Timer
	cancel context.CancelFunc
	of     context.Context
}

// Read reads on.
func (b *boundedBody) Read(p []byte) (int, error) {
	b.watch.Reset(stalled)
	n, err := b.ReadCloser.Read(p)
	if inTime := b.watch.Stop(); !inTime && err != nil && !errors.Is(err, io.EOF) && b.of.Err() == nil {
		err = errSilent
	}
	return n, err
}

// Close ends the request.
func (b *boundedBody) Close() error {
	b.watch.Stop()
	defer b.cancel()
	return b.ReadCloser.Close()
}

// boundedTransport bounds the tries of Google's client.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip makes one try.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return bounded(r, t.RoundTripper.RoundTrip)
}
