package engine

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// IsWorker says whether the program was started by a cluster, as a worker of a run.
func IsWorker(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == "--worker" || a == "-worker" || a == "--worker=true" })
}

// Worker is the whole life of a worker. It does not return.
func Worker() {
	removeCopy()
	go endWithParent(bootOr(os.Getppid()))
	flag.Parse()
	beam.Init()
}

// bootOr returns the process ID of the boot that started this process, where worker.sh told it, or
// else that of the parent, which may be another already.
func bootOr(parent int) int {
	if boot, err := strconv.Atoi(os.Getenv("COEVAL_BOOT")); err == nil {
		return boot
	}
	return parent
}

// parentCheck is how long a worker outlives the process that started it.
const parentCheck = 100 * time.Millisecond

// endWithParent ends this process when the one that started it is gone. That is Beam's boot, which
// a runner ends when a stage is over or is begun again, and which leaves its child behind: it would
// go on asking for what its successor asks for, too. A boot that is a container's first process takes
// its child along.
func endWithParent(parent int) {
	for tick := time.Tick(parentCheck); os.Getppid() == parent; {
		<-tick
	}
	os.Exit(1)
}

// removeCopy removes the file of this program, when it is the copy that Beam's boot makes for each
// worker that it starts and never removes: a job has several, of more than 50 MB each. What runs
// doesn't need its name.
func removeCopy() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	dir := filepath.Dir(self)
	if made, err := filepath.Match("/tmp/bin*", dir); err != nil || !made || filepath.Base(self) != "worker" {
		return
	}
	_ = os.RemoveAll(dir) // as good as before
}
