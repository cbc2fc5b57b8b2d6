package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coeval/transforms/infer/wire"
)

func target(t testing.TB, c *wire.Client, to string) *wire.Target {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = time.Minute
	}
	out, err := c.Target(u, http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer secret"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.CloseIdle)
	return out
}

// later is a deadline that no test meets.
func later() time.Time { return time.Now().Add(time.Minute) }

// echo answers with what it was sent, and counts its connections.
func echo(connections *atomic.Int64) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Server", fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", r.Host, " ", r.Header.Get("Authorization"), " ", r.ContentLength))
		if r.URL.Query().Has("chunked") {
			w.(http.Flusher).Flush()
		}
		if status := r.URL.Query().Get("status"); status == "500" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write(body)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	return s
}

func TestPost(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		var connections atomic.Int64
		server := echo(&connections)
		client := &wire.Client{}
		if scheme == "https" {
			server.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			client.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		} else {
			server.Start()
		}
		for _, query := range []string{"", "?chunked", "?status=500"} {
			to := target(t, client, server.URL+"/v1/chat"+query)
			before := connections.Load()
			for _, body := range []string{"{}", strings.Repeat("x", 300_000), strings.Repeat("y", 2<<20), ""} {
				a, err := to.Post(t.Context(), []byte(body), later(), 3<<20)
				if err != nil {
					t.Fatal(err)
				}
				host := strings.TrimPrefix(server.URL, scheme+"://")
				want := fmt.Sprintf("POST /v1/chat%s %s Bearer secret %d", query, host, len(body))
				if string(a.Body) != body || a.Server != want {
					t.Errorf("%s%s: got %d bytes, saw %q, want %d and %q", scheme, query, len(a.Body), a.Server, len(body), want)
				}
				if status := 200; (query == "?status=500") != (a.Status == 500) {
					t.Errorf("%s: got status %d, want %d", query, a.Status, status)
				}
			}
			if n := connections.Load() - before; n != 1 {
				t.Errorf("%s%s: 4 requests took %d connections, want 1", scheme, query, n)
			}
		}
		server.Close()
	}
}

// A certificate that nobody vouches for is an error, and nothing is sent.
func TestPostChecksCertificates(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	server.Config.ErrorLog = nil
	_, err := target(t, &wire.Client{}, server.URL).Post(t.Context(), []byte("{}"), later(), 100)
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) || asked.Load() != 0 {
		t.Errorf("got %v after %d requests", err, asked.Load())
	}
}

// raw serves each connection with a function.
func raw(t testing.TB, serve func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(n, c)
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/"
}

// read takes one request off a connection.
func read(c net.Conn) bool {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return true
}

// A body that is larger than what the kernel takes at once goes on from where it stopped, and ends
// where the request does.
func TestPostToASlowReader(t *testing.T) {
	body := make([]byte, 24<<20)
	for i := range body {
		body[i] = byte(i * i >> 7)
	}
	url := raw(t, func(n int, c net.Conn) {
		if n > 1 {
			<-t.Context().Done() // reads nothing
			return
		}
		r, err := http.ReadRequest(bufio.NewReaderSize(slowly{c}, 1<<20))
		if err != nil {
			t.Error(err)
			return
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 64\r\n\r\n%x", sum.Sum(nil))
	})
	to := target(t, &wire.Client{}, url)
	a, err := to.Post(t.Context(), body, later(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(body)); string(a.Body) != want {
		t.Errorf("another body came: %s, want %s", a.Body, want)
	}
	if _, err := to.Post(t.Context(), body, time.Now().Add(100*time.Millisecond), 100); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a body that nobody reads: %v", err)
	}
}

// slowly reads with pauses.
type slowly struct{ io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	<-time.After(time.Millisecond)
	return s.Reader.Read(b)
}

func TestAnswers(t *testing.T) {
	big := "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000)
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name, sent string
		status     int // 0 for no answer at all
		body       string
		err        error // nil for none; errAny for any
	}{
		{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", nil},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", nil},
		{"until it closes", "HTTP/1.1 200 OK\r\n\r\nok", 200, "ok", nil},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", 200, "ok", nil},
		{"nothing in it", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", nil},
		{"redirect", "HTTP/1.1 307 Temporary Redirect\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 307, "", nil},
		{"trailer", chunked + "2\r\nok\r\n0\r\nX: y\r\n\r\n", 200, "ok", nil},
		{"announced too large", big, 200, "", wire.ErrTooLarge},
		{"too large in chunks", chunked + "65\r\n" + strings.Repeat("x", 0x65) + "\r\n0\r\n\r\n", 200, "", wire.ErrTooLarge},
		{"cut short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", 200, "", io.ErrUnexpectedEOF},
		{"cut short in chunks", chunked + "5\r\nok", 200, "", io.ErrUnexpectedEOF},
		{"a refusal cut short", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 5\r\n\r\nok", 429, "", io.ErrUnexpectedEOF},
		{"nothing", "", 0, "", io.EOF},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", 0, "", errAny},
		{"no HTTP", "SSH-2.0-OpenSSH_9.6\r\n", 0, "", errAny},
		{"interim for ever", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), 0, "", errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := target(t, &wire.Client{}, raw(t, func(_ int, c net.Conn) {
				if read(c) {
					_, _ = io.WriteString(c, tt.sent)
				}
			}))
			a, err := to.Post(t.Context(), []byte("{}"), later(), 100)
			if free := errors.Is(tt.err, errAny); free && err == nil || !free && !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			switch {
			case tt.status == 0 && a != nil, tt.status != 0 && (a == nil || a.Status != tt.status):
				t.Errorf("got %+v, want status %d", a, tt.status)
			case err == nil && string(a.Body) != tt.body:
				t.Errorf("got %q, want %q", a.Body, tt.body)
			}
		})
	}
}

var errAny = errors.New("any")

// A server that refuses a large body and closes has said why.
func TestPostReadsARefusalBeforeItsBodyIsSent(t *testing.T) {
	to := target(t, &wire.Client{}, raw(t, func(_ int, c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
		<-time.After(50 * time.Millisecond) // else the reset overtakes it
	}))
	a, err := to.Post(t.Context(), bytes.Repeat([]byte("x"), 20<<20), later(), 100)
	if err != nil || a.Status != 413 || string(a.Body) != "big" {
		t.Errorf("got %+v, %v; want 413", a, err)
	}
}

// A connection that the server closed while it was idle is replaced, once.
func TestPostReplacesAClosedConnection(t *testing.T) {
	closed := make(chan struct{})
	to := target(t, &wire.Client{}, raw(t, func(n int, c net.Conn) {
		if read(c) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"+fmt.Sprint(n))
		}
		if n == 1 {
			_ = c.Close()
			close(closed)
		}
	}))
	for want := 1; want <= 2; want++ {
		a, err := to.Post(t.Context(), []byte("{}"), later(), 100)
		if err != nil || string(a.Body) != fmt.Sprint(want) {
			t.Fatalf("got %+v, %v; want connection %d", a, err, want)
		}
		<-closed
		<-time.After(1100 * time.Millisecond) // long enough to be idle
	}
}

// One that is closed right after an answer may have been closed because of the request: that
// is for the caller to know.
func TestPostReportsAnEarlyEnd(t *testing.T) {
	to := target(t, &wire.Client{}, raw(t, func(n int, c net.Conn) {
		for i := 0; read(c) && i < 1; i++ {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		}
	}))
	if _, err := to.Post(t.Context(), []byte("{}"), later(), 100); err != nil {
		t.Fatal(err)
	}
	if a, err := to.Post(t.Context(), []byte("{}"), later(), 100); err == nil {
		t.Errorf("got %+v of a connection that was closed after the second request", a)
	}
}

// What comes after an answer belongs to nobody: the connection isn't used again.
func TestPostDropsAConnectionWithMoreInIt(t *testing.T) {
	to := target(t, &wire.Client{}, raw(t, func(n int, c net.Conn) {
		for read(c) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", n)
		}
	}))
	for want := 1; want <= 3; want++ {
		a, err := to.Post(t.Context(), []byte("{}"), later(), 100)
		if err != nil || string(a.Body) != fmt.Sprint(want) {
			t.Fatalf("got %+v, %v; want connection %d", a, err, want)
		}
	}
}

func TestPostKeepsNoOldConnection(t *testing.T) {
	var connections atomic.Int64
	server := echo(&connections)
	server.Start()
	defer server.Close()
	to := target(t, &wire.Client{KeepAlive: time.Nanosecond}, server.URL)
	for range 3 {
		if _, err := to.Post(t.Context(), nil, later(), 100); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("got %d connections, want 3", n)
	}
}

// A connection that takes too long, headers that never come, a body that trickles: all end at the
// deadline or with the context.
func TestPostEnds(t *testing.T) {
	silent := raw(t, func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	trickling := raw(t, func(_ int, c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
		for range 1000 {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	for _, to := range []string{silent, trickling} {
		to := target(t, &wire.Client{}, to)
		_, err := to.Post(t.Context(), nil, time.Now().Add(-time.Millisecond), 1<<20)
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, wire.ErrDial) {
			t.Errorf("got %v, want a deadline that is exceeded without a connection", err)
		}
		if _, err := to.Post(t.Context(), nil, time.Now().Add(100*time.Millisecond), 1<<20); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a deadline that is exceeded", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := to.Post(ctx, nil, later(), 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		if _, err := to.Post(ctx, nil, later(), 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
}

// What waits for an answer is given up, once; what comes later, and idle connections, are not.
func TestDrop(t *testing.T) {
	errGone := errors.New("the server is gone")
	var asked sync.WaitGroup
	const requests = 3
	asked.Add(requests)
	to := target(t, &wire.Client{}, raw(t, func(n int, c net.Conn) {
		for i := 0; read(c); i++ {
			if n > 1 && n <= 1+requests || n == 1 && i == 1 {
				asked.Done()
				_, _ = io.Copy(io.Discard, c) // until it is closed
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	post := func() error {
		_, err := to.Post(t.Context(), []byte("{}"), later(), 100)
		return err
	}
	if err := post(); err != nil { // its connection is idle after that, and used again
		t.Fatal(err)
	}
	ended := make(chan error, requests)
	for range requests {
		go func() { ended <- post() }()
	}
	asked.Wait()
	to.Drop(errGone)
	for range requests {
		if err := <-ended; !errors.Is(err, errGone) {
			t.Errorf("it ended with %v", err)
		}
	}
	to.Drop(errGone) // nothing waits
	asked.Add(1)
	go func() { ended <- post() }()
	asked.Wait()
	to.Drop(errGone)
	if err := <-ended; !errors.Is(err, errGone) {
		t.Errorf("a later one ended with %v", err)
	}
	if err := post(); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestTargetRefusesOtherSchemes(t *testing.T) {
	u := &url.URL{Scheme: "ftp", Host: "x", User: url.UserPassword("u", "secret")}
	if _, err := (&wire.Client{}).Target(u, nil); err == nil || !strings.Contains(err.Error(), `"ftp"`) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want one that names ftp and no password", err)
	}
}

// Whatever a server sends, Post returns, and no more than the limit.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\nContent-Length: 99999999999\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 304 x\r\nConnection: close\r\nContent-Length: -1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		to := target(t, &wire.Client{}, raw(t, func(_ int, c net.Conn) {
			if read(c) {
				_, _ = c.Write(sent)
			}
		}))
		a, err := to.Post(t.Context(), []byte("{}"), later(), 100)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("it hangs")
		}
		if err == nil && len(a.Body) > 100 {
			t.Errorf("got %d bytes", len(a.Body))
		}
	})
}

// BenchmarkPost compares the client with net/http's: 6 kB there, 3 kB back, over loopback. The
// server's part is in both.
func BenchmarkPost(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 3<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	defer server.Close()
	body := bytes.Repeat([]byte("x"), 6<<10)
	b.Run("wire", func(b *testing.B) {
		to := target(b, &wire.Client{}, server.URL)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := to.Post(b.Context(), body, later(), 1<<20); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("net/http", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
		defer client.CloseIdleConnections()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				resp, err := client.Post(server.URL, "application/json", bytes.NewReader(body))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}
