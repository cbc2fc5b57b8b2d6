package attempt

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// SettleTime bounds the wait for calls in flight after an interrupt.
const SettleTime = 20 * time.Second

// EndSignals returns the signals by which a user ends a run. SIGHUP is one of them unless the program was
// started to outlive its terminal, as by nohup.
func EndSignals() []os.Signal {
	if signal.Ignored(syscall.SIGHUP) {
		return []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
}

// OutliveReader catches SIGPIPE until the returned function is called. So a run continues when the reader of
// its messages exits, for example with the terminal. Later messages are lost.
func OutliveReader() (stop func()) {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

// interruptible cancels a run when the user ends it: by Ctrl-C, by SIGTERM, or by closing the terminal, unless
// the program was started to outlive its terminal, as by nohup. Before that, settle waits until the answers in
// flight have come. At a second Ctrl-C or SIGTERM it calls abort, which ends the program. A second SIGHUP does
// not, because a shell that hangs up sends another to its jobs.
//
// The returned function reports whether the user ended the run.
func interruptible(ctx context.Context, cancel context.CancelFunc, stderr io.Writer, settle func(context.Context), abort func()) (stopped func() bool) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, EndSignals()...)
	outlived := OutliveReader()
	var interrupted atomic.Bool
	go func() {
		defer signal.Stop(signals)
		defer outlived()
		var first os.Signal
		select {
		case first = <-signals:
		case <-ctx.Done():
			return
		}
		interrupted.Store(true)
		fmt.Fprintf(stderr, "stopping (%s): sending no new requests, waiting up to %s for answers in flight; press Ctrl-C to stop at once\n", first, SettleTime)
		go func() {
			for s := range signals {
				if s != syscall.SIGHUP {
					abort() // an attempt survives a kill at any moment
				}
			}
		}()
		settling, done := context.WithTimeout(ctx, SettleTime)
		defer done()
		settle(settling)
		cancel()
	}()
	return interrupted.Load
}
