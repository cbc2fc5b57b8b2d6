//go:build !race

package wire

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// A socket is a TCP connection that reads and writes with system calls of which Go's scheduler is
// not told. Go's sockets never block, so there is nothing to tell; but where a process has been
// idle since the last answer, as it is a thousand times a second while a fleet works, each telling
// wakes the runtime's monitor, which then looks around every 20 µs for a millisecond. That was a
// sixth of the CPU of a run of 1,500 requests a second (0.216 CPU-s for 1,000 requests, 0.181
// without; 2 cores, 2026-11-28).
//
// It is for one reader and one writer at a time. The race detector would not know that what is read
// was written before: so it gets Go's own connections.
type socket struct {
	net.Conn

	raw syscall.RawConn

	// Of the read that is under way. Its function is made once, as it would escape every time.
	read    func(fd uintptr) bool
	into    []byte
	n       int
	readErr syscall.Errno

	// Of the write that is under way.
	write    func(fd uintptr) bool
	rest     []syscall.Iovec
	parts    [2]syscall.Iovec
	writeErr syscall.Errno
}

// quick returns a connection that costs less, or c where there is none.
func quick(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	s := &socket{Conn: c, raw: raw}
	s.read, s.write = s.readNow, s.writeNow
	return s
}

// Read implements [net.Conn].
func (s *socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.into, s.n, s.readErr = b, 0, 0
	err := s.raw.Read(s.read)
	s.into = nil
	switch {
	case err != nil:
		return 0, err
	case s.readErr != 0:
		return 0, s.failed("read", s.readErr)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// Write implements [net.Conn].
func (s *socket) Write(b []byte) (int, error) {
	if err := s.writeParts(b, nil); err != nil {
		return 0, err // how much of it went doesn't matter: the connection is of no use any more
	}
	return len(b), nil
}

// writeParts writes a and then b, together where the kernel takes both.
func (s *socket) writeParts(a, b []byte) error {
	s.rest, s.writeErr = s.parts[:0], 0
	for _, part := range [][]byte{a, b} {
		if len(part) > 0 {
			v := syscall.Iovec{Base: unsafe.SliceData(part)}
			v.SetLen(len(part))
			s.rest = append(s.rest, v)
		}
	}
	err := s.raw.Write(s.write)
	s.rest, s.parts = nil, [2]syscall.Iovec{}
	if err == nil && s.writeErr != 0 {
		err = s.failed("write", s.writeErr)
	}
	return err
}

func (s *socket) failed(call string, e syscall.Errno) error {
	return &net.OpError{Op: call, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(call, e)}
}

// readNow reads what is there, and returns false when that is nothing yet.
func (s *socket) readNow(fd uintptr) bool {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.into))), uintptr(len(s.into)))
		switch e {
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			if s.readErr = e; e == 0 {
				s.n = int(n)
			}
			return true
		}
	}
}

// writeNow writes what the kernel takes, and returns false when that isn't all.
func (s *socket) writeNow(fd uintptr) bool {
	for len(s.rest) > 0 {
		n, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.rest))), uintptr(len(s.rest)))
		switch e {
		case 0:
			s.wrote(int(n))
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.writeErr = e
			return true
		}
	}
	return true
}

// wrote takes n bytes off what is left to write.
func (s *socket) wrote(n int) {
	for n > 0 {
		v := &s.rest[0]
		if n < int(v.Len) {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(int(v.Len) - n)
			return
		}
		n -= int(v.Len)
		s.rest = s.rest[1:]
	}
}
