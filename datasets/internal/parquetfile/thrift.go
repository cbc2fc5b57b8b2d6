package parquetfile

import "encoding/binary"

// The types of Thrift's compact protocol, the format of footers and page headers:
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

// maxDepth exceeds the depth of the structs in a footer.
const maxDepth = 32

// A compact is the unread part of a value in the compact protocol.
type compact struct {
	rest []byte
	// items is the number of further list items to accept.
	items int
}

// skip passes over a value. It returns false if the value promises more than the input has: every item of
// a list takes at least one byte.
func (t *compact) skip(kind byte, depth int) bool {
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
		n, item, ok := t.listHead()
		return ok && t.skipItems(n, depth+1, item)
	case thriftMap:
		return t.skipMap(depth + 1)
	case thriftStruct:
		return t.eachField(depth+1, func(_ int64, kind byte) bool { return t.skip(kind, depth+1) })
	}
	return false
}

// eachField calls field with number and type of every field of a struct. The function passes over the
// value. eachField returns false if the function does, or if the struct has no end.
func (t *compact) eachField(depth int, field func(id int64, kind byte) bool) bool {
	id := int64(0)
	for depth < maxDepth {
		head, ok := t.head()
		if !ok || head == 0 {
			return ok
		}
		if delta := int64(head >> 4); delta > 0 {
			id += delta
		} else { // the field's number follows, in zigzag code
			n, ok := t.uvarint()
			if !ok {
				return false
			}
			id = int64(n>>1) ^ -int64(n&1)
		}
		kind := head & 0xf
		if kind == thriftTrue || kind == thriftFalse { // the value of a boolean field is in its type
			continue
		}
		if !field(id, kind) {
			return false
		}
	}
	return false
}

// listHead reads the number and the type of a list's items.
func (t *compact) listHead() (n uint64, item byte, ok bool) {
	head, ok := t.head()
	n = uint64(head >> 4)
	if n == 0xf {
		n, ok = t.uvarint()
	}
	return n, head & 0xf, ok
}

func (t *compact) skipMap(depth int) bool {
	n, ok := t.uvarint()
	if !ok || n == 0 {
		return ok
	}
	kinds, ok := t.head()
	return ok && t.skipItems(n, depth, kinds>>4, kinds&0xf)
}

// skipItems passes over n items, each of values of these kinds.
func (t *compact) skipItems(n uint64, depth int, kinds ...byte) bool {
	if n > uint64(len(t.rest)) || depth >= maxDepth {
		return false
	}
	if t.items -= int(n); t.items < 0 {
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

func (t *compact) head() (byte, bool) {
	if len(t.rest) == 0 {
		return 0, false
	}
	head := t.rest[0]
	t.rest = t.rest[1:]
	return head, true
}

func (t *compact) uvarint() (uint64, bool) {
	v, n := binary.Uvarint(t.rest)
	if n <= 0 {
		return 0, false
	}
	t.rest = t.rest[n:]
	return v, true
}

func (t *compact) drop(n uint64) bool {
	if n > uint64(len(t.rest)) {
		return false
	}
	t.rest = t.rest[n:]
	return true
}
