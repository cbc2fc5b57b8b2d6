//go:build !linux

package wire

import "net"

// quick returns c: what a socket of Linux saves was measured nowhere else.
func quick(c net.Conn) net.Conn { return c }
