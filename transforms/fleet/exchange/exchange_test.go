package exchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coeval/schemas"
	"coeval/transforms/fleet/endpoint"
	"coeval/transforms/fleet/openai/fault"
	"coeval/transforms/fleet/pacing"
	"coeval/transforms/fleet/schedule"
	"coeval/transforms/fleet/transport"
	"coeval/transforms/stage"
)

func endpointAt(t *testing.T, url string) *endpoint.Endpoint {
	t.Helper()
	c, err := transport.New(stage.Endpoint{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP, err = transport.NewHTTPClient(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return endpoint.New(c, schedule.NewServer(url, pacing.New(0), pacing.NewQuota(0, 0)))
}

const answer = `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}`

// Each outcome of an exchange is either generations or one fault. Only a complete 200 has a body to report.
func TestDo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		serve  func(w http.ResponseWriter)
		kind   fault.Kind
		code   string // empty for generations, and for a denial
		wait   time.Duration
		body   bool
		denied bool
	}{
		{name: "an answer", serve: func(w http.ResponseWriter) { _, _ = io.WriteString(w, answer) }, body: true},
		{name: "a stream", serve: func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+strings.Replace(answer, "message", "delta", 1)+"\n\ndata: [DONE]\n\n")
		}, body: true},
		{name: "no JSON", serve: func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") }, kind: fault.Broken, code: fault.CodeMalformed, body: true},
		{name: "no choice", serve: func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"choices":[]}`) }, kind: fault.NoChoice, code: fault.CodeMalformed, body: true},
		{name: "an overload in a 200", serve: func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			_, _ = io.WriteString(w, `{"error":{"code":429,"message":"wait"}}`)
		}, kind: fault.Overloaded, code: fault.CodeServerError, wait: 7 * time.Second, body: true},
		{name: "an overload", serve: func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, kind: fault.Overloaded, code: fault.CodeServerError, wait: 7 * time.Second},
		{name: "a denial", serve: func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, kind: fault.Denied, denied: true},
		{name: "a gateway's time-out at once", serve: func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout) }, kind: fault.Broken, code: fault.CodeTimeout},
		{name: "a body that breaks off", serve: func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, answer)
		}, kind: fault.Broken, code: fault.CodeConnection},
		{name: "a body that is too large", serve: func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 2<<20)) }, kind: fault.Broken, code: fault.CodeMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.serve(w) }))
			t.Cleanup(s.Close)
			r := Do(t.Context(), endpointAt(t, s.URL), &Request{Role: &stage.Role{Name: schemas.RoleActor, MaxTokens: 1}, Chat: []byte(`{}`), N: 1, Timeout: time.Minute})
			if (r.Body != nil) != tt.body {
				t.Errorf("the body is %q", r.Body)
			}
			if tt.code == "" && !tt.denied {
				if r.Fault != nil || len(r.Generations) != 1 || r.Generations[0].Text != "a" || !r.Has[0] {
					t.Errorf("%+v, %+v", r.Generations, r.Fault)
				}
				return
			}
			if r.Fault == nil || r.Generations != nil || r.Fault.Kind != tt.kind || r.Fault.Code != tt.code || r.Fault.RetryAfter != tt.wait {
				t.Errorf("the fault is %+v, want kind %d, code %q and a wait of %s", r.Fault, tt.kind, tt.code, tt.wait)
			}
		})
	}
}

// Without a server the fault is that of the connection.
func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	r := Do(t.Context(), endpointAt(t, s.URL), &Request{Role: &stage.Role{}, Chat: []byte(`{}`), N: 1, Timeout: time.Minute})
	if r.Fault == nil || r.Fault.Kind != fault.Unreachable || r.Fault.Code != fault.CodeConnection || r.Answer != nil {
		t.Errorf("%+v", r.Fault)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A status that gateways use for silence counts as such after 25 s without an answer. No answer within the time limit
// is a time-out.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		status int
		after  time.Duration
		kind   fault.Kind
	}{
		{http.StatusGatewayTimeout, 24 * time.Second, fault.Broken},
		{http.StatusGatewayTimeout, 25 * time.Second, fault.CutOffSilence},
		{http.StatusRequestTimeout, 24 * time.Second, fault.Overloaded},
		{http.StatusRequestTimeout, 25 * time.Second, fault.CutOffSilence},
		{http.StatusOK, 61 * time.Second, fault.TimedOut},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := endpointAt(t, "http://host/v1")
			e.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				select {
				case <-time.After(tt.after):
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
				w := httptest.NewRecorder()
				w.WriteHeader(tt.status)
				return w.Result(), nil
			})}
			r := Do(t.Context(), e, &Request{Role: &stage.Role{}, Chat: []byte(`{}`), N: 1, Timeout: time.Minute})
			if r.Fault == nil || r.Fault.Kind != tt.kind || tt.kind == fault.CutOffSilence && r.Fault.Code != fault.CodeTimeout {
				t.Errorf("%d after %s: %+v, want kind %d", tt.status, tt.after, r.Fault, tt.kind)
			}
			if want := min(tt.after, time.Minute); r.Took != want {
				t.Errorf("%d took %s, want %s", tt.status, r.Took, want)
			}
		})
	}
}
