// Package machine recognizes faults of this machine, such as a full disk or a lack of file descriptors.
//
// No server, object store or prompt causes these faults. Retrying does not help, so the run stops without
// recording a failure.
package machine

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// advice has the sentence for each error number that is always a fault of this machine.
var advice = map[syscall.Errno]string{
	syscall.ENOSPC:        "the disk is full: free some space and run the same command again",
	syscall.EDQUOT:        "the disk quota is used up: free some space and run the same command again",
	syscall.EFBIG:         "the file has reached the size limit of this process or of the file system: raise the limit (ulimit -f) or choose another folder, then run the same command again",
	syscall.EROFS:         "the file system is read-only: choose another folder, or mount it writable",
	syscall.EIO:           "the disk reports an input/output error: check the disk, then run the same command again",
	syscall.EMFILE:        "this process has too many open files and connections: raise the limit (ulimit -n) or set client.max_in_flight lower, then run the same command again",
	syscall.ENFILE:        "this machine has too many open files: close other programs and run the same command again",
	syscall.ENOMEM:        "this machine is out of memory: close other programs and run the same command again",
	syscall.ENOBUFS:       "this machine has no memory for connections: set client.max_in_flight lower, then run the same command again",
	syscall.EADDRNOTAVAIL: "this machine has no free ports for connections: set client.max_in_flight lower, or widen net.ipv4.ip_local_port_range",
}

// Shown returns the sentence of [Fault] for an error that is shown to the user. A Beam runner passes on only
// the text of an error, so Shown also recognizes a text that ends with the system's words for a fault. A
// server could send these words too, so nothing but the message may depend on Shown.
func Shown(err error) string {
	if sentence := Fault(err); sentence != "" || err == nil {
		return sentence
	}
	for number, sentence := range advice {
		if strings.HasSuffix(err.Error(), ": "+number.Error()) {
			return sentence
		}
	}
	return ""
}

// Fault returns a sentence about the fault and its remedy if err is a fault of this machine, and "" for
// any other error.
func Fault(err error) string {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		if number == syscall.EACCES || number == syscall.EPERM {
			return permissionFault(err)
		}
		return advice[number]
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok && strings.Contains(lookup.Err, syscall.EMFILE.Error()) {
		return advice[syscall.EMFILE] // the resolver reports a failed socket as text alone
	}
	return ""
}

// permissionFault returns the sentence about a file that this user may not use. A connection that is
// not permitted, for example by a firewall, is no fault of this machine.
func permissionFault(err error) string {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "this user has no permission for the file: change its permissions, or choose another folder"
	}
	return ""
}
