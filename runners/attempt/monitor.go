package attempt

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"coeval/runners/engine"
	"coeval/runners/progress"
	"coeval/runners/summary"
	"coeval/schemas/sanitize"
	"coeval/transforms/infer"
)

const (
	// statusInterval is the time between two polls of the run on a terminal, logInterval elsewhere.
	statusInterval = 250 * time.Millisecond
	logInterval    = 10 * time.Second
	// pointInterval is the first time between two points of the series, short enough that a run of some
	// seconds has a curve. Each time the series has maxPoints, every other point is dropped and the time
	// between points doubles.
	pointInterval = 250 * time.Millisecond
	maxPoints     = 1000
	// firstSave is when the statistics of the attempt are first saved. The next save follows when the
	// attempt is twice as old, at the latest after saveInterval. A kill loses the statistics since the
	// last save.
	firstSave    = 100 * time.Millisecond
	saveInterval = 30 * time.Second
)

// silentAfter is the time without an answer after which the status line reports silence.
const silentAfter = 5 * time.Second

// monitor polls a run: it shows the status, keeps a series of points, and saves the
// statistics.
type monitor struct {
	of     *Attempt
	screen *progress.Screen
	began  time.Time

	last     infer.Snapshot
	lastTime time.Time
	// answered is when a generation last came, or a server was last not failing.
	answered time.Time

	stop  context.CancelFunc
	done  sync.WaitGroup
	every time.Duration
	// Only the monitoring goroutine uses series, until done.Wait returns.
	series []summary.Point
	// warned and noted count the warnings and notes that were shown.
	warned, noted int
	// unsaved reports that a failure to save was shown.
	unsaved bool
}

// startMonitor polls the run until end. The work of a cluster's workers can't be seen from here.
func (a *Attempt) startMonitor(ctx context.Context, screen *progress.Screen) *monitor {
	ctx, stop := context.WithCancel(ctx)
	m := &monitor{of: a, screen: screen, began: time.Now(), lastTime: time.Now(), answered: time.Now(), stop: stop, every: pointInterval}
	if engine.OnCluster() {
		fmt.Fprintf(screen, "%s runs the job; see its web pages for progress\n", engine.Runner())
		return m
	}
	m.done.Go(func() { m.poll(ctx) })
	return m
}

func (m *monitor) poll(ctx context.Context) {
	interval := logInterval
	if m.screen.Live() {
		interval = statusInterval
	}
	show, point := time.NewTicker(interval), time.NewTicker(pointInterval)
	defer show.Stop()
	defer point.Stop()
	save := time.NewTimer(firstSave)
	defer save.Stop()
	for {
		select {
		case <-show.C:
			m.show(infer.Attach(m.of.ID).Watch())
		case <-point.C:
			m.add(infer.Attach(m.of.ID).Watch())
		case <-save.C:
			m.save(ctx)
			save.Reset(min(time.Since(m.began), saveInterval))
		case <-ctx.Done():
			return
		}
	}
}

// save saves the statistics so far. A failure is shown once, and does not fail the run.
func (m *monitor) save(ctx context.Context) {
	err := m.of.keep(ctx, infer.Attach(m.of.ID).Watch(), m.series)
	if err != nil && ctx.Err() == nil && !m.unsaved {
		m.unsaved = true
		fmt.Fprintf(m.screen, "could not save progress statistics: they will be lost if the run is killed (%v)\n", err)
	}
}

// end stops the polls and returns the series.
func (m *monitor) end() []summary.Point {
	m.stop()
	m.done.Wait()
	m.add(infer.Attach(m.of.ID).Watch())
	m.screen.Clear()
	return m.series
}

// add shows new notes and warnings and adds a point, unless the last one is too close. A warning is shown when it
// comes up: a run may take days, and a server that was quarantined at its beginning costs GPU time.
func (m *monitor) add(s infer.Snapshot) {
	for ; m.noted < len(s.Notes); m.noted++ {
		fmt.Fprintln(m.screen, sanitize.Line(s.Notes[m.noted]))
	}
	for ; m.warned < len(s.Warnings); m.warned++ {
		fmt.Fprintf(m.screen, "warning: %s\n", sanitize.Line(s.Warnings[m.warned]))
	}
	at := time.Since(m.began)
	if n := len(m.series); n > 0 && at.Seconds() < m.series[n-1].Seconds+m.every.Seconds()/2 {
		return
	}
	m.series = append(m.series, summary.Point{
		Seconds: at.Seconds(), Prompts: s.Prompts, Requests: s.Requests, Generations: s.Generations, InFlight: s.InFlight, Permits: s.Permits, InFlightByStage: s.InFlightByStage,
	})
	if len(m.series) < maxPoints {
		return
	}
	kept := m.series[:0]
	for i := 0; i < len(m.series); i += 2 {
		kept = append(kept, m.series[i])
	}
	m.series = kept
	m.every *= 2
}

func (m *monitor) show(s infer.Snapshot) {
	now := time.Now()
	status := progress.Status{
		Total: m.of.Scan.Prompts, Elapsed: now.Sub(m.began), Now: s, Before: m.last, Interval: now.Sub(m.lastTime),
		Patience: cmp.Or(s.Patience, m.of.Config.Client.Patience),
	}
	alive := s.Generations > m.last.Generations
	for _, server := range infer.Attach(m.of.ID).States() {
		alive = alive || !server.Quarantined
		status.Servers = append(status.Servers, progress.Server{URL: server.Name, Failing: server.Quarantined, InUse: server.InFlight, Permits: server.Permits})
	}
	if alive {
		m.answered = now
	}
	if silent := now.Sub(m.answered); silent > silentAfter && s.LastFault != "" {
		status.Silent = silent
	}
	m.last, m.lastTime = s, now
	if m.screen.Live() {
		m.screen.Status(status.Bar)
		return
	}
	m.screen.Status(status.Log)
}
