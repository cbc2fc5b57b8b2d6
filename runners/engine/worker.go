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

// IsWorker reports whether a cluster started the program as a worker.
func IsWorker(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == "--worker" || a == "-worker" || a == "--worker=true" })
}

// Worker runs a worker. It does not return.
func Worker() {
	removeCopy()
	go endWithParent(bootOr(os.Getppid()))
	flag.Parse()
	beam.Init()
}

// bootOr returns the process ID of the Beam boot process that started this one. Without worker.sh, which
// passes it, that is the parent, which may have changed already.
func bootOr(parent int) int {
	if boot, err := strconv.Atoi(os.Getenv("COEVAL_BOOT")); err == nil {
		return boot
	}
	return parent
}

// parentCheck is the longest time that a worker outlives the process that started it.
const parentCheck = 100 * time.Millisecond

// endWithParent exits when the process that started this one is gone: Beam's boot. A runner ends boot when
// a stage is over or starts again, and boot leaves its child running, which would send the same requests
// as its successor. Only as a container's first process boot ends its child.
func endWithParent(parent int) {
	for tick := time.Tick(parentCheck); os.Getppid() == parent; {
		<-tick
	}
	os.Exit(1)
}

// removeCopy removes this program's file if it is a copy by Beam's boot. Boot makes one of more than 50 MB
// for each worker and never removes it. A running program does not need its file.
func removeCopy() {
	self, err := os.Executable()
	if err != nil {
		return
	}
	dir := filepath.Dir(self)
	if made, err := filepath.Match("/tmp/bin*", dir); err != nil || !made || filepath.Base(self) != "worker" {
		return
	}
	_ = os.RemoveAll(dir) // if it fails, the copy stays
}
