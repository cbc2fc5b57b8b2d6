package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"coeval/transforms/inprocess"
	"coeval/transforms/stage"
)

const (
	// keepAlive is shorter than uvicorn's 5 s, so that no request uses a connection that the server
	// is about to close.
	keepAlive = 4 * time.Second
	// dialTimeout limits connecting, and the TLS handshake.
	dialTimeout = 10 * time.Second
	// maxIdle is the largest number of idle connections to a server. It exceeds the number of
	// requests in flight, since closing a connection early costs a handshake later.
	maxIdle = 4096
	// maxHeader bounds the header of each answer in flight. Gateways send a few kilobytes.
	maxHeader = 1 << 20
	// pingAfter is how long an HTTP/2 connection may be silent before the client pings it. All
	// requests to a server share the connection, so that a dead one would block them all.
	pingAfter = 15 * time.Second
)

// NewHTTPClient returns the client for endpoints whose certificates are signed by the system's
// authorities, or also by those in a file. It honours HTTPS_PROXY and SSL_CERT_FILE, and uses HTTP/2 with
// servers that offer it over TLS.
func NewHTTPClient(caFile string) (*http.Client, error) {
	roots, err := authorities(caFile)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        keepAlive,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // answers are small, and the size of unrequested compression is bounded below
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
	inprocess.Attach(transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &guardedConn{Conn: c}, nil
	}
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: noRedirects}, nil
}

// withPlainHTTP2 returns a client like c for servers that speak HTTP/2 without TLS, and nothing else.
func withPlainHTTP2(c *http.Client) *http.Client {
	out := *c
	if t, ok := c.Transport.(*http.Transport); ok {
		t = t.Clone()
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if guarded, ok := c.(*guardedConn); ok { // HTTP/2 numbers its requests
				c = guarded.Conn
			}
			return c, err
		}
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
		out.Transport = t
	}
	return &out
}

// authorities returns the certificate authorities of the system and of a PEM file. Nil means the
// system's authorities alone.
func authorities(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := stage.ReadLocal(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file names a file that can't be read: %w. Give the path of a PEM file with the certificate authority of the server", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file names %s, which contains no PEM certificate. Give the certificate authority of the server as PEM", caFile)
	}
	return roots, nil
}

// Unreachable reports whether no connection was made: the name, the address, a proxy or TLS failed.
func Unreachable(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &dns) || errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "remote error") ||
		errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &certificate) ||
		strings.Contains(err.Error(), "TLS handshake timeout") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}
