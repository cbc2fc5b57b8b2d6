package inprocess

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve serves h without a socket until the test ends, and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	l := Listen("test")
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if Serves(l.Host()) {
			t.Errorf("%s is still known after Close", l.Host())
		}
	})
	return "http://" + l.Host()
}

func body(t *testing.T, c *http.Client, method, at, sent string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	_, _ = w.Write(b)
}

// A request larger than all buffers comes back whole, and past a proxy that would refuse it.
func TestRequestsStayInTheProcess(t *testing.T) {
	base := serve(t, http.HandlerFunc(echo))
	transport := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		return nil, errors.New("asked for a proxy of " + r.URL.Host)
	}}
	Attach(transport)
	defer transport.CloseIdleConnections()
	sent := strings.Repeat("long ", 50_000)
	if got := body(t, &http.Client{Transport: transport}, http.MethodPost, base+"/v1", sent); got != sent {
		t.Errorf("%d bytes came back of %d", len(got), len(sent))
	}
}

// The context of a request on a reused connection ends only with the answer.
func TestKeptConnections(t *testing.T) {
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "whole")
	}))
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	Attach(transport)
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for range 200 {
				resp, err := c.Post(base, "text/plain", strings.NewReader("short"))
				if err != nil {
					t.Error(err)
					return
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "whole" {
					t.Errorf("%q, %v", b, err)
				}
				resp.Body.Close()
			}
		})
	}
	clients.Wait()
}

// Each server has another name, and other hosts are dialed as before.
func TestOtherHosts(t *testing.T) {
	answers := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
	}
	first := serve(t, answers("first"))
	second := serve(t, answers("second"))
	socket := httptest.NewServer(answers("socket"))
	t.Cleanup(socket.Close)
	transport := &http.Transport{}
	Attach(transport)
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for at, want := range map[string]string{first: "first", second: "second", socket.URL: "socket"} {
		if got := body(t, c, http.MethodGet, at, ""); got != want {
			t.Errorf("%s answers %q, want %q", at, got, want)
		}
	}
}

// A connection that the server cuts fails the request. It does not hang.
func TestCutConnection(t *testing.T) {
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = c.Close()
	}))
	transport := &http.Transport{}
	Attach(transport)
	if resp, err := (&http.Client{Transport: transport}).Get(base); err == nil {
		resp.Body.Close()
		t.Error("the request has an answer")
	}
}

// The name of a closed server no longer resolves.
func TestClosedServer(t *testing.T) {
	l := Listen("closed")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	Attach(transport)
	resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Host())
	if err == nil {
		resp.Body.Close()
		t.Fatal("a closed server answers")
	}
	if e := (*net.OpError)(nil); !errors.As(err, &e) {
		t.Errorf("the error is %v, want one of the network", err)
	}
}
