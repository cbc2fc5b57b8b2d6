package bucket

import (
	"context"
	"sync"

	"golang.org/x/sync/singleflight"
)

// A Once is a client that is created at the first request, and again after a failure.
type Once struct {
	// Create makes the client.
	Create func(context.Context) (Client, error)
	making singleflight.Group

	mu   sync.Mutex
	made Client
}

// Client returns the client. Concurrent callers share one creation, and each may stop waiting for it.
func (o *Once) Client(ctx context.Context) (Client, error) {
	if c := o.get(); c != nil {
		return c, nil
	}
	done := o.making.DoChan("", func() (any, error) {
		if c := o.get(); c != nil {
			return c, nil
		}
		// The client outlives the context of the first request.
		c, err := o.Create(context.WithoutCancel(ctx))
		if err == nil {
			o.Set(c)
		}
		return c, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(Client), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *Once) get() Client {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.made
}

// Set replaces the client. Nil makes the next call of Client create one.
func (o *Once) Set(c Client) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made = c
}
