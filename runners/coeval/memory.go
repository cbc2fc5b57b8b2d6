package main

import (
	"cmp"
	"os"
	"runtime"
	"runtime/debug"

	"coeval/pipelines/metareward"
)

// windowOfServer is about how many dossiers a large server keeps under way.
const windowOfServer = 256

// underWay is about how many dossiers a run has under way: see infer.Options.
func underWay(c *metareward.Config) int {
	urls := map[string]bool{}
	for _, of := range [][]string{c.Worker.URLs, c.Actor.URLs, c.Judge.URLs, c.MetaJudge.URLs} {
		for _, u := range of {
			urls[u] = true
		}
	}
	return cmp.Or(c.Client.Window, max(len(urls), 1)*cmp.Or(c.Client.MaxInFlight/4, windowOfServer))
}

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
