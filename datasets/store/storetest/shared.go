package storetest

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// The tests of a package share one server of gs://, because a process has one client of a store. One
// test at a time may put a fault before the server.
var (
	intercepted atomic.Pointer[Fault]
	sharedOnce  sync.Once
	sharedEnv   Environment
	folders     atomic.Int64
)

// process keeps a server until the end of the test binary instead of the end of a test.
type process struct{ testing.TB }

// Cleanup ignores f: the server ends with the process.
func (process) Cleanup(func()) {}

// Folder returns an empty folder of gs:// on the server that all tests of the package share.
func Folder(t *testing.T) string {
	t.Helper()
	sharedOnce.Do(func() {
		sharedEnv = GCS(process{t}, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
			if f := intercepted.Load(); f != nil {
				(*f)(w, r, server)
				return
			}
			server.ServeHTTP(w, r)
		})
	})
	sharedEnv.Set(t)
	return fmt.Sprintf("gs://bucket/%d", folders.Add(1))
}

// Intercept puts a fault before the shared server until the test ends or calls the returned function.
func Intercept(t *testing.T, f Fault) (end func()) {
	t.Helper()
	intercepted.Store(&f)
	end = func() { intercepted.Store(nil) }
	t.Cleanup(end)
	return end
}
