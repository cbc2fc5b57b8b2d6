//go:build !linux || race

package wire

import "net"

// quick returns c: what a socket of Linux saves was measured nowhere else, and see it for race.
func quick(c net.Conn) net.Conn { return c }
