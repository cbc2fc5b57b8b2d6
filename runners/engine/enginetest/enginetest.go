// Package enginetest runs job servers and Google's services in a test's process.
package enginetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
)

// Serve starts a gRPC server with the services that register adds, and returns its address. The server
// ends with the test.
func Serve(t testing.TB, register func(server *grpc.Server, address string)) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	server := grpc.NewServer()
	register(server, address)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address
}

// Google serves one of Google's APIs, and access tokens for it, until the test ends. It returns the
// address and a file with credentials.
func Google(t testing.TB, mux *http.ServeMux) (endpoint, credentials string) {
	t.Helper()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		Answer(w, http.StatusOK, `{"access_token": "token", "token_type": "Bearer", "expires_in": 3600}`)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "me@p.iam.gserviceaccount.com", "token_uri": s.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	credentials = filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(credentials, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL + "/", credentials
}

// Answer answers a request with a JSON object.
func Answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// WrongRegion is the body of Google's answer of status 400 to a request for a region without Dataflow.
const WrongRegion = `{"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "(0): The workflow could not be created,\nsince it was sent to an invalid regional endpoint."}}`
