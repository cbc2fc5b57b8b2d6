package segment

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A file of a few kB that unpacks to gigabytes costs an error, and no gigabytes.
func TestFramesThatExpand(t *testing.T) {
	line := func(i, size int) string {
		return fmt.Sprintf(`{"key":"k","replicate":%d,"prompt_id":"p","text":"%s"}`+"\n", i, strings.Repeat("a", size))
	}
	pack := func(lines io.Reader) []byte {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, lines); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	large := strings.Repeat(line(1, 1<<20), 64) // 64 MiB
	var many []byte
	frame := pack(strings.NewReader(large))
	for range 8 {
		many = append(many, frame...)
	}
	for what, b := range map[string][]byte{
		"one frame":   pack(io.LimitReader(&endless{line: line(1, 1<<20)}, maxFrame+1<<20)),
		"many frames": many,
	} {
		if len(b) > 1<<20 {
			t.Fatalf("%s: %d bytes", what, len(b))
		}
		_, err := Decode(append(b, frame...), func(string) bool { return false }, nil)
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Texts that a looping model wrote are as small, and whole.
	if n, err := Decode(frame, nil, func(*Record) {}); err != nil || n != int64(len(frame)) {
		t.Errorf("%d of %d bytes, %v", n, len(frame), err)
	}
}

// endless repeats a line.
type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line[e.at:])
	e.at = (e.at + n) % len(e.line)
	return n, nil
}

func FuzzDecodeSegment(f *testing.F) {
	frame, err := EncodeFrames([]Record{{Key: "k", PromptID: "p", Text: "text"}, {Key: "k2", PromptID: "p", Code: "code", Message: "m"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(append(append([]byte(nil), frame...), frame[:len(frame)/2]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Anything may be an error; nothing may panic, and what is read must have been whole:
		// a known frame before any bytes is read, unless they make it an error.
		n := 0
		length, err := Decode(append(append([]byte(nil), frame...), b...), nil, func(*Record) { n++ })
		if err == nil && (n < 2 || length < int64(len(frame))) {
			t.Errorf("%d records and %d bytes of a whole frame of 2 records and %d bytes", n, length, len(frame))
		}
		found := 0
		lost := Readable(append(append([]byte(nil), frame...), b...), func(*Record) { found++ })
		if found < 2 || err == nil && found < n {
			t.Errorf("%d records can be salvaged, and %d were read", found, n)
		}
		for _, l := range lost {
			if l.From < int64(len(frame)) || l.From >= l.To || l.To > int64(len(frame)+len(b)) {
				t.Errorf("lost is %+v of %d bytes, with a whole frame of %d", l.ByteRange, len(frame)+len(b), len(frame))
			}
		}
	})
}
