package parquetfile

import "encoding/binary"

// The types of Thrift's compact protocol, in which a footer is written:
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
const (
	thriftTrue = iota + 1
	thriftFalse
	thriftByte
	thriftInt16
	thriftInt32
	thriftInt64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

// maxDepth is deeper than a footer's structs go.
const maxDepth = 32

// thrift is what is left of a value in the compact protocol.
type thrift []byte

// skip passes over a value. It returns false if the value promises more than is left, as
// every item of a list takes a byte at least.
func (t *thrift) skip(kind byte, depth int) bool {
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		return t.drop(1)
	case thriftInt16, thriftInt32, thriftInt64:
		_, ok := t.uvarint()
		return ok
	case thriftDouble:
		return t.drop(8)
	case thriftBinary:
		n, ok := t.uvarint()
		return ok && t.drop(n)
	case thriftList, thriftSet:
		return t.skipList(depth + 1)
	case thriftMap:
		return t.skipMap(depth + 1)
	case thriftStruct:
		return t.skipStruct(depth + 1)
	}
	return false
}

func (t *thrift) skipStruct(depth int) bool {
	for depth < maxDepth {
		head, ok := t.head()
		if !ok || head == 0 {
			return ok
		}
		if head>>4 == 0 { // the field's number follows
			if _, ok := t.uvarint(); !ok {
				return false
			}
		}
		kind := head & 0xf
		if kind == thriftTrue || kind == thriftFalse { // the value of a field is its type
			continue
		}
		if !t.skip(kind, depth) {
			return false
		}
	}
	return false
}

func (t *thrift) skipList(depth int) bool {
	head, ok := t.head()
	n := uint64(head >> 4)
	if n == 0xf {
		n, ok = t.uvarint()
	}
	return ok && t.skipItems(n, depth, head&0xf)
}

func (t *thrift) skipMap(depth int) bool {
	n, ok := t.uvarint()
	if !ok || n == 0 {
		return ok
	}
	kinds, ok := t.head()
	return ok && t.skipItems(n, depth, kinds>>4, kinds&0xf)
}

// skipItems passes over n items, each of values of these kinds.
func (t *thrift) skipItems(n uint64, depth int, kinds ...byte) bool {
	if n > uint64(len(*t)) || depth >= maxDepth {
		return false
	}
	for range n {
		for _, kind := range kinds {
			if !t.skip(kind, depth) {
				return false
			}
		}
	}
	return true
}

func (t *thrift) head() (byte, bool) {
	if len(*t) == 0 {
		return 0, false
	}
	head := (*t)[0]
	*t = (*t)[1:]
	return head, true
}

func (t *thrift) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(*t)
	if n <= 0 {
		return 0, false
	}
	*t = (*t)[n:]
	return v, true
}

func (t *thrift) drop(n uint64) bool {
	if n > uint64(len(*t)) {
		return false
	}
	*t = (*t)[n:]
	return true
}
