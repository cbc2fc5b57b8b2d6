// Package transport exchanges HTTP messages with one server.
//
// It keeps connections, and adds the key, headers and query of the config to each request. It redacts secrets
// in everything that the server returns, and decompresses and bounds bodies. It rejects an answer that belongs
// to another request: one that arrived before the request was sent, or that echoes the ID of another request.
// It does not interpret requests. It repeats a request in one case: a server without TLS that has never
// answered gets it again over HTTP/2.
package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"coeval/schemas/redact"
	"coeval/transforms/fleet/openai"
	"coeval/transforms/stage"
)

// A Client sends requests to one server. It is safe for concurrent use.
type Client struct {
	Name string // as in the config, without a password
	Base *url.URL
	// HasKey reports whether requests have an API key.
	HasKey bool
	// Secrets replaces the key and the secrets of headers and URL in all texts from the server. It must
	// run before a text is shortened, stored or shown.
	Secrets *redact.Redactor
	// HTTP makes the connections. The owner of the client sets it before the first request.
	HTTP *http.Client
	// OnBytes is called when an answer begins. May be nil.
	OnBytes func()

	header http.Header
	// query is added to the URL's own.
	query url.Values
	// plainHTTP2 makes the connections to a server that speaks HTTP/2 without TLS, nil for any other.
	plainHTTP2 atomic.Pointer[http.Client]
	// answered is true after an answer by HTTP/1.
	answered atomic.Bool
	// echoes is true after the server has returned a request's ID.
	echoes atomic.Bool
}

// New creates the client of a server. The caller must set its HTTP.
func New(spec stage.Endpoint) (*Client, error) {
	access, err := spec.Credentials()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", redactedURL(spec.URL), err)
	}
	base, err := url.Parse(spec.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fleet: %w", err)
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("%s: the scheme is %q; allowed are http and https", base.Redacted(), base.Scheme)
	}
	c := &Client{
		Name: base.Redacted(), Base: base, HasKey: access.Key != "", Secrets: redact.New(secretsOf(access, base)...), query: url.Values{},
		header: http.Header{"User-Agent": {"coeval"}, "Content-Type": {"application/json"}, "Accept-Encoding": {"identity"}},
	}
	maps.Copy(c.header, access.Header)
	for name, value := range access.Query {
		c.query.Set(name, value)
	}
	return c, nil
}

func redactedURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return "a URL that can't be parsed"
}

// URLOf returns the URL of a path below the base, with the query of the base and of the config.
func (c *Client) URLOf(path string) string {
	return c.URLAt(strings.TrimSuffix(c.Base.Path, "/") + path)
}

// URLAt returns the URL of a path on the endpoint's host.
func (c *Client) URLAt(path string) string {
	u := *c.Base
	u.Path, u.RawPath = path, ""
	if len(c.query) > 0 {
		q := u.Query()
		maps.Copy(q, c.query)
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// MetricsURL returns the usual address of metrics: beside /v1, not below it.
func (c *Client) MetricsURL() string {
	u := *c.Base
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1") + "/metrics"
	u.RawPath, u.RawQuery = "", ""
	return u.String()
}

// URLBeside returns the URL of a path that servers have beside /v1, as the tokenizer's.
func (c *Client) URLBeside(path string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(c.Base.Path, "/"), "/v1")
	return c.URLAt(base + path)
}

// secretsOf returns the secrets that a server receives and may quote: its key, and the secrets in
// headers, query and URL.
func secretsOf(access *stage.Credentials, base *url.URL) []string {
	secrets := slices.Clone(access.Secrets)
	if password, ok := base.User.Password(); ok {
		secrets = append(secrets, password)
	}
	for name, values := range base.Query() {
		if redact.Name(name) {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

const (
	requestIDHeader = "X-Request-Id"
	requestIDPrefix = "coeval-"
)

// An Answer is the server's answer, with any status. Its texts contain no secret.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Stream bool // server-sent events
}

var (
	// ErrTooLarge reports that a body is larger than the limit of its request.
	ErrTooLarge = errors.New("the body is larger than allowed")
	// ErrForeign reports that an answer belongs to another request, or to none.
	ErrForeign = errors.New("the answer belongs to another request")
)

// Post sends a body to the completions path and reads an answer of at most limit bytes. With an error,
// the answer has the part received so far, or is nil.
func (c *Client) Post(ctx context.Context, body []byte, limit int64, timeout time.Duration) (*Answer, error) {
	return c.PostTo(ctx, c.URLOf(openai.CompletionsPath), body, limit, timeout)
}

// PostTo is Post for another URL of the server.
func (c *Client) PostTo(ctx context.Context, url string, body []byte, limit int64, timeout time.Duration) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return c.exchange(req, limit)
}

// Get fetches a page of at most limit bytes within a time limit.
func (c *Client) Get(ctx context.Context, url string, limit int64, timeout time.Duration) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return c.exchange(req, limit)
}

func (c *Client) exchange(req *http.Request, limit int64) (*Answer, error) {
	id := requestIDPrefix + uuid.NewString()
	req.Header = c.header.Clone()
	req.Header.Set(requestIDHeader, id)
	var guard *guardedConn
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if guard = guardOf(info.Conn); guard != nil && info.Reused {
			guard.assign()
		}
	}}
	resp, err := c.do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if c.OnBytes != nil {
		c.OnBytes()
	}
	if to := resp.Header.Get("Location"); to != "" {
		resp.Header.Set("Location", c.Secrets.String(to))
	}
	a := &Answer{Status: resp.StatusCode, Header: resp.Header, Stream: strings.HasPrefix(strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Type"))), "text/event-stream")}
	if guard != nil && !guard.answered() {
		_ = guard.Close() // a further request would get the answer to this one
		return a, fmt.Errorf("%w: it arrived before the request was sent", ErrForeign)
	}
	if echoes := resp.Header.Values(requestIDHeader); c.isForeign(id, echoes) {
		if guard != nil {
			_ = guard.Close() // as above
		}
		return a, fmt.Errorf("%w: %s is %q, the client sent %q", ErrForeign, requestIDHeader, c.Secrets.String(strings.Join(echoes, ", ")), id)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return a, nil // its body is the connection: no time limit would end a read
	}
	a.Body, err = readBody(resp, limit)
	if err == nil {
		a.Body = inUTF8(a.Body, resp.Header.Get("Content-Type"))
	}
	a.Body = c.Secrets.Bytes(a.Body)
	return a, err
}

// do sends a request. Some servers without TLS support HTTP/2 alone. A server that has never answered,
// and breaks the connection or sends no HTTP/1, gets the request once more by HTTP/2.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	if h2 := c.plainHTTP2.Load(); h2 != nil {
		return h2.Do(req)
	}
	resp, err := c.HTTP.Do(req)
	if err == nil {
		c.answered.Store(true)
		return resp, nil
	}
	if c.Base.Scheme != "http" || c.answered.Load() || req.Context().Err() != nil || Unreachable(err) {
		return nil, err
	}
	if req.GetBody != nil {
		body, bodyErr := req.GetBody()
		if bodyErr != nil {
			return nil, err
		}
		req.Body = body
	}
	h2 := withPlainHTTP2(c.HTTP)
	resp, errOfHTTP2 := h2.Do(req)
	if errOfHTTP2 != nil {
		h2.CloseIdleConnections()
		return nil, err
	}
	c.plainHTTP2.Store(h2)
	return resp, nil
}

// CloseIdleConnections closes the connections that carry no request.
func (c *Client) CloseIdleConnections() {
	c.HTTP.CloseIdleConnections()
	if h2 := c.plainHTTP2.Load(); h2 != nil {
		h2.CloseIdleConnections()
	}
}

// isForeign reports whether the echoed request IDs show that the answer belongs to another request. Some
// services number requests themselves, and gateways add their IDs to ours, in the same header or in
// another. So an ID of another form counts only if the server has returned one of ours before.
func (c *Client) isForeign(sent string, headers []string) bool {
	var ours, others bool
	for _, id := range strings.FieldsFunc(strings.Join(headers, ","), isBetweenIDs) {
		switch {
		case strings.HasPrefix(id, sent): // a gateway may number its tries
			ours = true
		case strings.HasPrefix(id, requestIDPrefix):
			return true
		default:
			others = true
		}
	}
	if ours {
		c.echoes.Store(true)
		return false
	}
	return others && c.echoes.Load()
}

// isBetweenIDs reports whether a character separates IDs or quotes them.
func isBetweenIDs(r rune) bool { return strings.ContainsRune(`,; "'`, r) }
