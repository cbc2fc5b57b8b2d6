package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coeval/datasets/store"
	"coeval/datasets/store/storetest"
)

// quickly makes the beat milliseconds until the test ends. A lease expires as late as ever: a busy
// machine may fail to renew one for half a second.
func quickly(t *testing.T) {
	t.Helper()
	set(t, &leaseBeat, 50*time.Millisecond)
}

// set changes one of the package's times until the test ends.
func set(t *testing.T, which *time.Duration, to time.Duration) {
	t.Helper()
	was := *which
	*which = to
	t.Cleanup(func() { *which = was })
}

// expiringSoon is for tests that wait until a lease expires.
func expiringSoon(t *testing.T) {
	t.Helper()
	quickly(t)
	set(t, &leaseExpires, 500*time.Millisecond)
}

// places runs a test on a local folder and on one of an object store.
func places(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	t.Run("local", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("gs", func(t *testing.T) {
		quickly(t)
		test(t, storetest.Folder(t))
	})
}

// A lease that is renewed belongs to its holder; a released one is free at once.
func TestLeaseIsKept(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	first, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	asked := false
	_, err = Acquire(t.Context(), out, Options{Waiting: func(who string, _ time.Duration) {
		asked = strings.Contains(who, fmt.Sprintf("process %d on ", os.Getpid()))
	}})
	want := fmt.Sprintf("another run works on %s (process %d on ", out, os.Getpid())
	if err == nil || !strings.HasPrefix(err.Error(), want) || !asked {
		t.Errorf("%v, waiting %t\nwant %q", err, asked, want)
	}
	ctx, cancel := first.Context(t.Context())
	defer cancel()
	if ctx.Err() != nil {
		t.Errorf("the holder lost it: %v", context.Cause(ctx))
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), out, Options{Waiting: func(string, time.Duration) { t.Error("it waits for a lease that was given back") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

// leaseOf returns the lease of a folder of a run with this ID, which does not renew it.
func leaseOf(t *testing.T, out, id string) *lease {
	t.Helper()
	l := &lease{out: out, name: Name(out), record: leaseRecord{holder: thisProcess(""), ID: id}}
	if err := l.write(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return l
}

// A run that died renews nothing, and its lease is taken.
func TestLeaseOfTheDead(t *testing.T) {
	expiringSoon(t)
	out := storetest.Folder(t)
	leaseOf(t, out, "dead")
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestTakeOver(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	first, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := first.Context(t.Context())
	defer cancel()
	second, err := Acquire(t.Context(), out, Options{TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if got := fmt.Sprint(context.Cause(ctx)); !strings.Contains(got, "took "+out+" over") {
		t.Errorf("the first run is told %q", got)
	}
	if err := first.Release(); err != nil {
		t.Errorf("Release of what was lost: %v", err)
	}
	if _, err := Acquire(t.Context(), out, Options{}); err == nil {
		t.Error("the first run gave back what is the second's")
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
}

// A holder that can't reach the store stops before another run may begin.
func TestLeaseThatCannotBeRenewed(t *testing.T) {
	expiringSoon(t)
	out := storetest.Folder(t)
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	storetest.Intercept(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	<-ctx.Done()
	if got := fmt.Sprint(context.Cause(ctx)); !strings.Contains(got, "could not be renewed") {
		t.Errorf("the run is told %q", got)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

// A renewal may arrive while its answer is lost. The lease is then the holder's own and no other run's,
// even if the owner cannot be determined at once.
func TestLeaseWhoseAnswerIsLost(t *testing.T) {
	quickly(t)
	set(t, &leaseExpires, 3*time.Second)
	out := storetest.Folder(t)
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	const faulty = 8
	var puts atomic.Int64
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		switch r.Method {
		case http.MethodPost:
			if n := puts.Add(1); n <= faulty && n%4 == 1 {
				server.ServeHTTP(httptest.NewRecorder(), r)
				<-r.Context().Done() // until the client stops waiting
				return
			}
		case http.MethodGet:
			if n := puts.Load(); n <= faulty && n%4 == 2 {
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		server.ServeHTTP(w, r)
	})
	// Two answers are lost, and the lease is renewed after each.
	for renewed := int64(0); puts.Load() <= faulty && ctx.Err() == nil; {
		is, _, err := readLease(t.Context(), l.lease.name)
		if err != nil {
			continue // refused
		}
		if is.Beat < renewed {
			t.Fatalf("beat %d after %d", is.Beat, renewed)
		}
		renewed = is.Beat
	}
	if ctx.Err() != nil {
		t.Errorf("the holder lost its lease to itself: %v", context.Cause(ctx))
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if is, _, err := readLease(t.Context(), l.lease.name); err != nil || !is.Released {
		t.Errorf("after Release the lease is %+v, %v", is, err)
	}
}

// A store that refuses a renewal while the lease is as it was has given it to nobody.
func TestLeaseThatNobodyElseHas(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := l.Context(t.Context())
	defer cancel()
	const refusals = 3
	var puts atomic.Int64
	renewed := make(chan struct{})
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			switch n := puts.Add(1); {
			case n <= refusals:
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			case n == refusals+2: // the one before was renewed
				close(renewed)
			}
		}
		server.ServeHTTP(w, r)
	})
	select {
	case <-renewed:
	case <-ctx.Done():
		t.Errorf("the holder lost its lease to itself: %v", context.Cause(ctx))
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

// A takeover succeeds even if the holder renews its lease between the takeover's look and its write. If
// another run has taken the lease in between, that run keeps it.
func TestTakeOverOfWhatIsRenewed(t *testing.T) {
	quickly(t)
	for _, test := range []struct{ who, id, want string }{
		{"the holder", "first", ""},
		{"another", "another", "another run works on"},
	} {
		t.Run(test.who, func(t *testing.T) {
			out := storetest.Folder(t)
			var mu sync.Mutex
			holder := leaseOf(t, out, "first")
			var renewed atomic.Bool
			storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if r.Method == http.MethodPost && renewed.CompareAndSwap(false, true) {
					mu.Lock()
					defer mu.Unlock()
					holder.record.ID, holder.record.Beat = test.id, 1
					b, err := json.Marshal(&holder.record)
					if err != nil {
						t.Error(err)
					}
					if _, err = store.Swap(t.Context(), holder.name, holder.version, b); err != nil {
						t.Error(err)
					}
				}
				server.ServeHTTP(w, r)
			})
			beat := func(string, time.Duration) { // the other renews its own
				mu.Lock()
				defer mu.Unlock()
				_, v, err := readLease(t.Context(), holder.name)
				if err != nil {
					t.Error(err)
				}
				holder.record.Beat++
				holder.version = v
				if err := holder.write(t.Context(), v); err != nil {
					t.Error(err)
				}
			}
			second, err := Acquire(t.Context(), out, Options{TakeOver: true, Waiting: beat})
			if test.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Fatalf("%v\nwant %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := second.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store may refuse a conditional write although no other run has changed the file. That is an error,
// and the write is not repeated for ever.
func TestTakeOverThatIsRefused(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	leaseOf(t, out, "first")
	var writes atomic.Int64
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPost {
			writes.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, "changed", http.StatusPreconditionFailed)
			return
		}
		server.ServeHTTP(w, r)
	})
	_, err := Acquire(t.Context(), out, Options{TakeOver: true})
	if !errors.Is(err, errUnwritten) {
		t.Errorf("%v, want %v", err, errUnwritten)
	}
	if n := writes.Load(); n > 4 {
		t.Errorf("it was written %d times", n)
	}
}

// A store that overwrites any version of a file supports no leases, and no run begins there.
func TestStoreWithoutConditions(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		q := r.URL.Query()
		q.Del("ifGenerationMatch")
		r.URL.RawQuery = q.Encode()
		server.ServeHTTP(w, r)
	})
	_, err := Acquire(t.Context(), out, Options{})
	if want := "the store of " + out + " ignores the conditions of writes"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %q", err, want)
	}
	l, err := Acquire(t.Context(), out, Options{Waiting: func(string, time.Duration) { t.Error("it waits for a lease that was given back") }})
	if err == nil {
		t.Errorf("a second run began: %v", l.Release())
	}
}

// The requests of a lease without another owner: look, take, renew at once, try to overwrite an older
// version, remove a missing file, release.
func TestCostOfALease(t *testing.T) {
	quickly(t)
	set(t, &leaseBeat, time.Hour)
	out := storetest.Folder(t)
	var mu sync.Mutex
	requests := map[string]int{}
	storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		mu.Lock()
		requests[r.Method]++
		mu.Unlock()
		server.ServeHTTP(w, r)
	})
	l, err := Acquire(t.Context(), out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{http.MethodGet: 3, http.MethodPost: 4, http.MethodDelete: 1}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// Workers see the owner of the lock: their own run, even if its program is gone, another run, or none.
func TestFence(t *testing.T) {
	places(t, func(t *testing.T, out string) {
		set(t, &fenceFresh, 0)
		check := func(attempt, want string) {
			t.Helper()
			err := NewFence(out, attempt).Check(t.Context())
			var lost *Lost
			switch {
			case want == "" && err == nil:
			case want == "" || !errors.As(err, &lost) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), attempt+" stops"):
				t.Errorf("attempt %s is told %v, want %q", attempt, err, want)
			}
		}
		check("first", "is gone")
		first, err := Acquire(t.Context(), out, Options{Attempt: "first"})
		if err != nil {
			t.Fatal(err)
		}
		check("first", "")
		check("second", "another run (process")
		if err := first.Release(); err != nil {
			t.Fatal(err)
		}
		check("first", "was ended")
		second, err := Acquire(t.Context(), out, Options{Attempt: "second"})
		if err != nil {
			t.Fatal(err)
		}
		check("first", "another run (process")
		check("second", "")
		if err := second.Release(); err != nil {
			t.Fatal(err)
		}
	})
}

// A watching worker gets an error when another run takes the folder. It continues while an unreachable
// store may come back.
func TestFenceWatches(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	first, err := Acquire(t.Context(), out, Options{Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- NewFence(out, "first").Watch(t.Context()) }()
	second, err := Acquire(t.Context(), out, Options{Attempt: "second", TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	var lost *Lost
	if err := <-told; !errors.As(err, &lost) {
		t.Errorf("the worker is told %v", err)
	}
	var refused atomic.Int64
	mend := storetest.Intercept(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		refused.Add(1)
		w.WriteHeader(http.StatusForbidden)
	})
	set(t, &fenceBlind, 300*time.Millisecond)
	began := time.Now()
	err = NewFence(out, "second").Watch(t.Context())
	if err == nil || errors.As(err, &lost) || !strings.Contains(err.Error(), "cannot find out") {
		t.Errorf("a worker that can't ask is told %v", err)
	}
	if took := time.Since(began); took < fenceBlind || refused.Load() < 2 {
		t.Errorf("it gave up after %s and %d questions, and not %s", took, refused.Load(), fenceBlind)
	}
	mend()
	if err := errors.Join(first.Release(), second.Release()); err != nil {
		t.Fatal(err)
	}
}

// A look without an answer blocks no caller for ever: a caller's context ends its wait, a waiting
// caller gets an error, and all callers share one look.
func TestFenceWithoutAnswer(t *testing.T) {
	quickly(t)
	out := storetest.Folder(t)
	lock, err := Acquire(t.Context(), out, Options{Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	intercepted, open := make(chan struct{}), make(chan struct{})
	mend := storetest.Intercept(t, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodGet {
			if asked.Add(1) == 1 {
				close(intercepted)
			}
			<-open
		}
		server.ServeHTTP(w, r)
	})
	f := NewFence(out, "first")
	ctx, leave := context.WithCancel(t.Context())
	var left sync.WaitGroup
	left.Go(func() {
		if err := f.Check(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who left is told %v", err)
		}
	})
	<-intercepted
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Check(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who asks beside it and is gone is told %v", err)
	}
	answer := fenceAnswer
	set(t, &fenceAnswer, 50*time.Millisecond)
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "still has "+out+": no answer for 50ms") {
		t.Errorf("who waits is told %v", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d looks at a time", n)
	}
	leave()
	left.Wait()
	fenceAnswer = answer
	close(open)
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("when the answer has come: %v", err)
	}
	mend()
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}
