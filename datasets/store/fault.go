package store

import (
	"errors"
	"io/fs"
	"syscall"
)

// MachineFault returns a sentence when an error is a fault of this machine, such as a full disk, and ""
// for any other error. A run must stop after such a fault: the fault has nothing to do with the call or
// file, and a repetition does not help.
func MachineFault(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	switch errno {
	case syscall.ENOSPC:
		return "the disk is full: free some space and run the same command again"
	case syscall.EDQUOT:
		return "the disk quota is used up: free some space and run the same command again"
	case syscall.EROFS:
		return "the file system is read-only: choose another folder, or mount it writable"
	case syscall.EMFILE:
		return "this process has too many open files: raise the limit (ulimit -n) and run the same command again"
	case syscall.ENFILE:
		return "this machine has too many open files: close other programs and run the same command again"
	case syscall.ENOMEM:
		return "this machine is out of memory: close other programs and run the same command again"
	case syscall.EIO:
		return "the disk reports an input/output error: check the disk, then run the same command again"
	case syscall.EACCES, syscall.EPERM:
		if errors.Is(err, fs.ErrPermission) && isFileError(err) {
			return "this user has no permission for the file: change its permissions, or choose another folder"
		}
	}
	return ""
}

// isFileError reports whether an error is about a file, and not about a connection.
func isFileError(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}
