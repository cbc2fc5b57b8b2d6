package stage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxLocal is the largest size of a file with a key or with certificates.
const maxLocal = 4 << 20

// ReadLocal returns the bytes of a file of this machine with a key or with certificates. It refuses a pipe
// and a device, whose bytes come once or have no end, and a file of more than 4 MiB. Its errors are
// [fs.PathError].
func ReadLocal(name string) (b []byte, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would block until somebody writes
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	is, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !is.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is not a regular file; write its content to a file first")}
	}
	b, err = io.ReadAll(io.LimitReader(f, maxLocal+1))
	if err == nil && len(b) > maxLocal {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has more than %d bytes", maxLocal)}
	}
	return b, err
}
