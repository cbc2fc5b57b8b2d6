//go:build !linux || race

package wire

import "net"

// quick returns c: what the socket of Linux saves was measured nowhere else, and the race detector
// can't look through it.
func quick(c net.Conn) net.Conn { return c }
