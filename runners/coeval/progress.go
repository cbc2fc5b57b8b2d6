package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"coeval/runners/engine"
	"coeval/runners/summary"
	"coeval/transforms/infer"
)

const (
	// settleTime is how long calls in flight may take to come after Ctrl-C.
	settleTime = 20 * time.Second
	// barInterval and lineInterval are between two looks on a terminal and elsewhere.
	barInterval  = 250 * time.Millisecond
	lineInterval = 10 * time.Second
	// pointInterval is between two points of the series; every time that there are mostPoints,
	// each other is dropped and it doubles. A first run of some seconds has a curve.
	pointInterval = 250 * time.Millisecond
	mostPoints    = 1000
	// firstKeep is when what is known of the attempt is first written. From then on it is again when
	// the attempt is twice as old, and every keepInterval: so much of it a kill can take.
	firstKeep    = 100 * time.Millisecond
	keepInterval = 30 * time.Second
)

// onInterrupt cancels the run at Ctrl-C, after what is in flight has come. The second Ctrl-C
// ends the program. The function says whether there was one.
func (r *run) onInterrupt(ctx context.Context, cancel context.CancelFunc) func() bool {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var stopped atomic.Bool
	go func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		stopped.Store(true)
		fmt.Fprintf(r.command.ErrOrStderr(), "\nstopping: nothing more is asked, what is in flight may come for %s (Ctrl-C again stops at once)\n", settleTime)
		go func() {
			<-signals
			os.Exit(exitFailed)
		}()
		settling, done := context.WithTimeout(ctx, settleTime)
		defer done()
		infer.Settle(settling, r.attempt)
		cancel()
	}()
	return stopped.Load
}

// silentAfter is for how long no answer comes before people are told.
const silentAfter = 5 * time.Second

// progress looks at the run from time to time.
type progress struct {
	run      *run
	bar      *progressbar.ProgressBar
	began    time.Time
	last     infer.Snapshot
	lastTime time.Time
	// answered is when the last generation came, or some server did not fail.
	answered time.Time

	stop  context.CancelFunc
	done  sync.WaitGroup
	every time.Duration
	// series is of the looking goroutine alone until done.
	series []summary.Point
	// unkept says that people were told that it can't be written.
	unkept bool
}

// startProgress shows a bar on a terminal, and a line now and then elsewhere. What the workers of a
// cluster do can't be seen from here.
func (r *run) startProgress(ctx context.Context) *progress {
	ctx, stop := context.WithCancel(ctx)
	p := &progress{run: r, began: time.Now(), lastTime: time.Now(), answered: time.Now(), stop: stop, every: pointInterval}
	if engine.OnCluster() {
		fmt.Fprintf(r.command.ErrOrStderr(), "%s runs the job: its own pages tell how far it is\n", engine.Runner())
		return p
	}
	interval := lineInterval
	if stderr, ok := r.command.ErrOrStderr().(*os.File); ok && term.IsTerminal(int(stderr.Fd())) {
		interval = barInterval
		p.bar = progressbar.NewOptions64(r.scan.Prompts,
			progressbar.OptionSetWriter(stderr), progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionShowCount(),
		)
	}
	p.done.Go(func() { p.look(ctx, interval) })
	return p
}

func (p *progress) look(ctx context.Context, interval time.Duration) {
	show, point := time.NewTicker(interval), time.NewTicker(pointInterval)
	defer show.Stop()
	defer point.Stop()
	keep := time.NewTimer(firstKeep)
	defer keep.Stop()
	for {
		select {
		case <-show.C:
			p.show(infer.Watch(p.run.attempt))
		case <-point.C:
			p.add(infer.Watch(p.run.attempt))
		case <-keep.C:
			p.keep(ctx)
			keep.Reset(min(time.Since(p.began), keepInterval))
		case <-ctx.Done():
			return
		}
	}
}

// keep has what is known so far written. A failure is told once, and is none of the run.
func (p *progress) keep(ctx context.Context) {
	err := p.run.keep(ctx, infer.Watch(p.run.attempt), p.series)
	if err != nil && ctx.Err() == nil && !p.unkept {
		p.unkept = true
		fmt.Fprintf(p.run.command.ErrOrStderr(), "what is known of the attempt can't be written, and is missing if it is killed: %v\n", err)
	}
}

// end stops looking and returns the series.
func (p *progress) end() []summary.Point {
	p.stop()
	p.done.Wait()
	p.add(infer.Watch(p.run.attempt))
	if p.bar != nil {
		if err := p.bar.Finish(); err != nil {
			fmt.Fprintln(p.run.command.ErrOrStderr())
		}
	}
	return p.series
}

func (p *progress) add(s infer.Snapshot) {
	at := time.Since(p.began)
	if n := len(p.series); n > 0 && at.Seconds() < p.series[n-1].Seconds+p.every.Seconds()/2 {
		return
	}
	p.series = append(p.series, summary.Point{
		Seconds: at.Seconds(), Prompts: s.Prompts, Requests: s.Requests, Generations: s.Generations, InFlight: s.InFlight, Permits: s.Permits, InFlightByStage: s.InFlightByStage,
	})
	if len(p.series) < mostPoints {
		return
	}
	kept := p.series[:0]
	for i := 0; i < len(p.series); i += 2 {
		kept = append(kept, p.series[i])
	}
	p.series = kept
	p.every *= 2
}

func (p *progress) show(s infer.Snapshot) {
	now := time.Now()
	seconds := now.Sub(p.lastTime).Seconds()
	rate := func(now, before int64) float64 { return float64(now-before) / seconds }
	busy := 0.0
	if s.Permits > 0 {
		busy = 100 * s.Held / float64(s.Permits)
	}
	text := fmt.Sprintf("%.0f calls/s · %.0f generations/s · %d in flight, %.0f %% of the limit · %d failed",
		rate(s.Requests, p.last.Requests), rate(s.Generations, p.last.Generations), s.InFlight, busy, s.Failed)
	if s.Replayed > 0 {
		text += fmt.Sprintf(" · %d replayed", s.Replayed)
	}
	states := infer.States(p.run.attempt)
	text += servers(states)
	total := p.run.scan.Prompts
	if s.Prompts == total {
		text = "writing files"
	}
	if s.Generations > p.last.Generations || slices.ContainsFunc(states, func(s infer.State) bool { return !s.Quarantined }) {
		p.answered = now
	}
	p.last, p.lastTime = s, now
	if silent := now.Sub(p.answered); silent > silentAfter && s.LastFault != "" {
		text = fmt.Sprintf("no server answers for %s, the run waits up to %s: %s", silent.Round(time.Second), p.run.config.Client.Patience, s.LastFault)
	}
	if p.bar != nil {
		p.bar.Describe(text)
		if err := p.bar.Set64(s.Prompts); err == nil {
			return
		}
	}
	line := fmt.Sprintf("%s: %d of %d prompts · %s%s", now.Sub(p.began).Round(time.Second), s.Prompts, total, text, eta(s.Prompts, total, now.Sub(p.began)))
	if s.LastFault != "" && s.Retries > 0 {
		line += fmt.Sprintf(" · %d retries, the last: %s", s.Retries, s.LastFault)
	}
	fmt.Fprintln(p.run.command.ErrOrStderr(), line)
}

// servers tells how each of several endpoints fares.
func servers(states []infer.State) string {
	if len(states) < 2 {
		return ""
	}
	var b strings.Builder
	for i, s := range states {
		b.WriteString([]string{" · ", ", "}[min(i, 1)])
		name := s.Name
		if u, err := url.Parse(s.Name); err == nil {
			name = u.Host
		}
		if s.Quarantined {
			fmt.Fprintf(&b, "%s fails", name)
			continue
		}
		fmt.Fprintf(&b, "%s %.0f/%.0f", name, s.InFlight, s.Permits)
	}
	return b.String()
}

func eta(done, total int64, took time.Duration) string {
	if done == 0 || done >= total {
		return ""
	}
	return fmt.Sprintf(" · %s to go", (took * time.Duration(total-done) / time.Duration(done)).Round(time.Second))
}
