package attempt

import (
	"cmp"
	"os"
	"runtime"
	"runtime/debug"

	"coeval/pipelines/config"
)

// windowOfServer is the number of dossiers in progress for a large server.
const windowOfServer = 256

// underWay estimates the number of dossiers that a run has in progress; see infer.Options.Window.
func underWay(c *config.Config) int {
	urls := map[string]bool{}
	for _, of := range [][]string{c.Worker.URLs, c.Actor.URLs, c.Judge.URLs, c.MetaJudge.URLs} {
		for _, u := range of {
			urls[u] = true
		}
	}
	return cmp.Or(c.Client.Window, max(len(urls), 1)*cmp.Or(c.Client.MaxInFlight/4, windowOfServer))
}

// TuneCollector lets the heap grow to four times the memory in use before garbage is collected. A run has
// little memory in use and makes much garbage, so that this saves a tenth of its CPU time. The memory limit,
// above which Go collects garbage sooner, is the need of a run: the dossiers in progress, and a shard for each
// core while files are written. GOGC and GOMEMLIMIT take precedence.
func TuneCollector(c *config.Config) {
	const (
		rate  = 300
		base  = 128 << 20
		shard = 128 << 20
		inUse = 512 << 10 // by one dossier
	)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(rate)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(base + int64(runtime.GOMAXPROCS(0))*shard + int64(underWay(c))*inUse)
	}
}
