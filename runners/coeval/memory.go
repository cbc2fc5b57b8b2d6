package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// windowOfServer is about how many dossiers a large server keeps under way.
const windowOfServer = 256

// tuneCollector lets garbage grow to three times what is in use before it is collected, since
// a run has little in use and makes much garbage: that takes a tenth off its CPU time. What the
// run may well need is the limit from which on it is collected sooner: dossiers in flight, and a
// shard for each core while files are written. GOGC and GOMEMLIMIT decide when they are set.
func tuneCollector(window int) {
	const (
		rate  = 300
		base  = 128 << 20
		shard = 128 << 20
		inUse = 512 << 10 // of one dossier
	)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(rate)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(base + int64(runtime.GOMAXPROCS(0))*shard + int64(window)*inUse)
	}
}
