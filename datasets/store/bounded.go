package store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Time limits for stores. All requests can be repeated.
var (
	// tried is the limit for the start of an answer after the request's body was sent. A body has at
	// most 8 MiB, which takes a line of 1.1 Mbit/s.
	tried = time.Minute
	// stalled is the longest pause within an answer.
	stalled = 30 * time.Second
	// answered is the limit for a request with its repetitions, or for a part of an upload.
	answered = 3 * time.Minute
)

// errSilent is the error of a request that a store accepted and did not answer.
var errSilent error = silence{}

type silence struct{}

func (silence) Error() string { return "the store took a request and does not answer" }

// Timeout reports that a repetition may succeed.
func (silence) Timeout() bool { return true }

// patiently limits a request, its repetitions included.
func patiently(ctx context.Context, request func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, answered)
	defer cancel()
	err := request(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return errSilent
	}
	return err
}

// bounded makes one attempt at a request. The attempt ends when the store is silent for too long, before
// or within the answer.
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

// boundedBody is the body of an answer. Reading fails after a pause that is too long.
type boundedBody struct {
	io.ReadCloser

	watch  *time.Timer
	cancel context.CancelFunc
	of     context.Context
}

// Read reads more of the body.
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

// boundedTransport bounds the attempts of Google's client.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip makes one attempt.
func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return bounded(r, t.RoundTripper.RoundTrip)
}
