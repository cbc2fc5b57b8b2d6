package bucket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Patience has the time limits and pauses of an object store's clients. All requests can be repeated.
type Patience struct {
	// Tried is the limit for the start of an answer after the request's body was sent. A body has at
	// most 8 MiB, which takes a line of 1.1 Mbit/s.
	Tried time.Duration
	// Stalled is the longest pause within an answer.
	Stalled time.Duration
	// Answered is the limit for a request with its repetitions, or for a part of an upload.
	Answered time.Duration
	// FirstPause is the pause before the first repetition. Pauses double up to LongestPause, less some
	// jitter.
	FirstPause, LongestPause time.Duration
	// Tries is the number of attempts. When a store refuses at once, ten take 16 to 33 seconds.
	Tries int
}

// ErrSilent is the error of a request that a store accepted and did not answer.
var ErrSilent error = silence{}

type silence struct{}

func (silence) Error() string { return "the store took a request and does not answer" }

// Timeout reports that a repetition may succeed.
func (silence) Timeout() bool { return true }

// Limit limits a request, its repetitions included.
func (p *Patience) Limit(ctx context.Context, request func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, p.Answered)
	defer cancel()
	err := request(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return ErrSilent
	}
	return err
}

// Attempt makes one attempt at a request. It ends when the store is silent for too long, before
// or within the answer.
func (p *Patience) Attempt(r *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	watch := time.AfterFunc(p.Tried, cancel)
	answer, err := send(r.WithContext(ctx))
	inTime := watch.Stop()
	if err != nil {
		cancel()
		if !inTime && r.Context().Err() == nil {
			err = ErrSilent
		}
		return answer, err
	}
	watch = time.AfterFunc(p.Stalled, cancel)
	watch.Stop()
	answer.Body = &boundedBody{ReadCloser: answer.Body, stalled: p.Stalled, watch: watch, cancel: cancel, of: r.Context()}
	return answer, nil
}

// boundedBody is the body of an answer. Reading fails after a pause that is too long.
type boundedBody struct {
	io.ReadCloser

	stalled time.Duration
	watch   *time.Timer
	cancel  context.CancelFunc
	of      context.Context
}

// Read reads more of the body.
func (b *boundedBody) Read(p []byte) (int, error) {
	b.watch.Reset(b.stalled)
	n, err := b.ReadCloser.Read(p)
	if inTime := b.watch.Stop(); !inTime && err != nil && !errors.Is(err, io.EOF) && b.of.Err() == nil {
		err = ErrSilent
	}
	return n, err
}

// Close ends the request.
func (b *boundedBody) Close() error {
	b.watch.Stop()
	defer b.cancel()
	return b.ReadCloser.Close()
}
