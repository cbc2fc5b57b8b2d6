// Package serving keeps the servers running that a loop starts by a command of its config (swap.kind: command).
//
// If a server already answers at the URL, and no command of the loop has started it, it belongs to the user:
// Ensure and Keep start nothing there.
package serving

import (
	"context"
	"fmt"
	"sync"
	"time"

	"coeval/runners/loop/process"
	"coeval/runners/loop/swap"
)

// restartPause is the least time between two starts of a server that ends by itself.
const restartPause = 2 * time.Second

// A Server is a server that the loop starts.
type Server struct {
	// Command starts it.
	Command *process.Command
	// HTTP sends requests to it.
	HTTP *swap.Server
	// Model is the name under which it serves its model.
	Model string
	// Check returns an error if the model's files have changed. It is called before each start, and its error is
	// a warning.
	Check func() error
	// Ready bounds the wait for a server that starts.
	Ready time.Duration
	// Grace bounds the wait for a server that ends.
	Grace time.Duration
	// Say reports progress to the user.
	Say func(format string, args ...any)
}

// Ensure starts a server that neither runs nor answers, and waits until it serves its model.
func (s *Server) Ensure(ctx context.Context) error {
	if _, err := s.HTTP.Models(ctx); err == nil && !s.Command.Runs() {
		return nil // the user's
	}
	return s.start(ctx)
}

// start starts the server unless its command runs, and waits until it serves its model.
func (s *Server) start(ctx context.Context) error {
	if err := s.Check(); err != nil {
		s.Say("  warning: %v", err)
	}
	if err := s.Command.Start(); err != nil {
		return err
	}
	s.Say("  waiting up to %s until %s serves %s; its output is in %s", s.Ready, s.HTTP.URL, s.Model, s.Command.Log())
	ctx, cancel := context.WithTimeout(ctx, s.Ready)
	defer cancel()
	if err := s.HTTP.WaitReady(ctx, s.Model, time.Second); err != nil {
		return fmt.Errorf("%w; its output is in %s", err, s.Command.Log())
	}
	return nil
}

// Replace ends the server of another model, and starts this one.
func (s *Server) Replace(ctx context.Context) error {
	if !s.Command.Runs() {
		if err := s.Command.Stop(s.Grace); err != nil {
			return err
		}
	}
	return s.start(ctx)
}

// Keep calls do while the servers run. It starts a server again that ends before do has returned.
func Keep(ctx context.Context, servers []*Server, do func() error) error {
	for _, s := range servers {
		if err := s.Ensure(ctx); err != nil {
			return err
		}
	}
	watched, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	for _, s := range servers {
		wait.Go(func() { s.watch(watched) }) // it ends with do
	}
	err := do()
	stop()
	wait.Wait()
	return err
}

// watch starts the server again when it ends, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	if !s.Command.Runs() {
		return // the user's
	}
	ticker := time.NewTicker(restartPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.Command.Runs() {
			continue
		}
		s.Say("  the server %s ended; starting it again; its output is in %s", s.HTTP.URL, s.Command.Log())
		if err := s.Command.Start(); err != nil {
			s.Say("  the server %s did not start: %v", s.HTTP.URL, err)
		}
	}
}
