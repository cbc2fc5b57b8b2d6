// Package enginetest runs job servers in a test's process.
package enginetest

import (
	"net"
	"testing"

	"google.golang.org/grpc"
)

// Serve starts a server of what register registers, which is told its address, and returns the
// address. The server ends with the test.
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
