package lines

import (
	"bufio"
	"testing"
)

// An endless line costs no more memory than the limit.
func TestHugeLineIsNotHeld(t *testing.T) {
	const limit = 1 << 20
	text := &zeros{left: 1 << 30}
	l := &lineReader{text: bufio.NewReader(text), max: limit}
	if _, failure, err := l.Next(); failure == nil || failure.Code != TooLarge || err != nil {
		t.Errorf("a line of 1 GiB: %+v, %v, want one that is too large", failure, err)
	}
	if kept := cap(l.buf); kept > 4*limit {
		t.Errorf("%d bytes are kept, want at most 4 times the limit", kept)
	}
}

type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.left)
	z.left -= n
	p[0] = 'x'
	if z.left == 0 && n > 0 {
		p[n-1] = '\n'
	}
	return n, nil
}
