package segment

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// A file of a few kB that unpacks to gigabytes costs an error, and no gigabytes; also as the last frame, where
// a frame may be incomplete.
func TestFramesThatExpand(t *testing.T) {
	whole := pack(t, strings.NewReader(textLine(1<<10)))
	large := pack(t, strings.NewReader(strings.Repeat(textLine(1<<20), 64))) // 64 MiB
	tiny := `{"key":"k","replicate":1,"prompt_id":"p"}` + "\n"
	record := func(inside string, size int) io.Reader {
		return io.MultiReader(strings.NewReader(`{"key":"k","prompt_id":"p",`), io.LimitReader(&endless{line: inside}, int64(size)))
	}
	for what, bomb := range map[string]struct {
		frames []byte
		want   string
	}{
		"one frame":        {pack(t, io.LimitReader(&endless{line: textLine(1 << 20)}, maxFrame+1<<20)), "a frame unpacks to more than 256 MiB"},
		"many frames":      {bytes.Repeat(large, 5), "the frames unpack to more than 1024 times their size"},
		"one record":       {pack(t, record("a", 66<<20)), "a record has more than 65 MiB"},
		"many records":     {pack(t, io.LimitReader(&endless{line: tiny}, 40<<20)), "there are more records than bytes"},
		"many messages":    {pack(t, io.MultiReader(record("-", 0), strings.NewReader(`"prompt":{"messages":[`), io.LimitReader(&endless{line: "{},"}, 60<<20))), "a record of 60 MiB has more than 1048576 JSON tokens"},
		"many labels":      {pack(t, io.MultiReader(record("-", 0), strings.NewReader(`"log_probs":{`), io.LimitReader(&endless{line: `"a":1,`}, 30<<20))), "a record of 30 MiB has more than 1048576 JSON tokens"},
		"a window of 1 GB": {append(slices.Clone(frameMagic), 0, 20<<3, 1|1<<1|8, 0, 0, 'a'), "window size exceeded"},
		"a claimed size":   {append(slices.Clone(frameMagic), 0b1010_0000, 0, 0, 0, 0xf0, 1|1<<1|8, 0, 0, 'a'), "decompressed size exceeds"},
	} {
		if len(bomb.frames) > 1<<20 {
			t.Fatalf("%s: %d bytes", what, len(bomb.frames))
		}
		for place, b := range map[string][]byte{
			"before another": append(slices.Clone(bomb.frames), whole...),
			"after another":  append(slices.Clone(whole), bomb.frames...),
		} {
			if (what == "many frames" || what == "one frame") && place != "before another" {
				continue // it takes seconds
			}
			var err error
			used := allocated(func() { _, err = Decode(b, func(string) bool { return false }, nil) })
			if !errors.Is(err, ErrDamaged) || !strings.Contains(fmt.Sprint(err), bomb.want) {
				t.Errorf("%s, %s: %v, want damaged: %s", what, place, err, bomb.want)
			}
			// The buffer grows to 32 MiB, by a quarter at a time, and the decoder has a window of 8 MiB. The scanner has a
			// record of 60 MiB. The texts of the large frames are in memory one at a time.
			if pooled && used > 270<<20 && what != "many frames" {
				t.Errorf("%s, %s: %d MiB were allocated", what, place, used>>20)
			}
			kept := 0
			lost := Readable(b, func(r *Record) {
				if len(r.Text) == 1<<10 {
					kept++
				}
			})
			if len(lost) == 0 || lost[0].Incomplete || kept != 1 && what != "many frames" {
				t.Errorf("%s, %s: lost are %+v, and %d of 1 record is kept", what, place, lost, kept)
			}
		}
	}
	// Texts that a looping model wrote are as small, and whole.
	n := 0
	if length, err := Decode(large, nil, func(*Record) { n++ }); err != nil || length != int64(len(large)) || n != 64 {
		t.Errorf("%d of %d bytes, %d of 64 records, %v", length, len(large), n, err)
	}
}

// A chain of blocks that begins at every magic number takes no time that grows with the square of the file.
func TestChainsOfBlocks(t *testing.T) {
	link := append(slices.Clone(frameMagic), 0, 0, 6<<3, 0, 0) // a block of 6 bytes, after which comes the header of the next link's block
	b := bytes.Repeat(link, 1<<20/len(link))
	f := newFrames(b)
	defer f.close()
	found := f.skip()
	// A link costs at least 64 bytes, of 256 MiB and 1,024 times the file: 20 million of the 6 billion headers.
	if found || f.left >= 0 {
		t.Errorf("found is %t, and %d bytes are left", found, f.left)
	}
	if _, err := Decode(b, nil, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v, want damaged", err)
	}
}

// A batch of any size becomes frames that are decompressed at once.
func TestAppendFrames(t *testing.T) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]int{
		0:  0,
		1:  1,
		16: 1, // 16 lines of less than 1 MiB and one more byte each are less than 16 MiB
		17: 1, // and so many end the first frame
		18: 2,
		51: 3,
	} {
		lines := strings.Repeat(textLine(1<<20-64), size)
		b := AppendFrames(encoder, nil, []byte(lines))
		n := 0
		length, err := Decode(b, nil, func(*Record) { n++ })
		if err != nil || length != int64(len(b)) || n != size {
			t.Errorf("%d lines: %d of %d bytes, %d records, %v", size, length, len(b), n, err)
		}
		f := newFrames(b)
		frames := 0
		for ; f.next() == nil; f.at = f.end {
			frames++
			if f.large || len(f.buffer) > bytesPerFrame+1<<20 {
				t.Errorf("%d lines: a frame has %d bytes", size, len(f.buffer))
			}
		}
		f.close()
		if frames != want {
			t.Errorf("%d lines: %d frames, want %d", size, frames, want)
		}
	}
}

func textLine(size int) string {
	return fmt.Sprintf(`{"key":"k","replicate":1,"prompt_id":"p","text":"%s"}`+"\n", strings.Repeat("a", size))
}

func pack(t *testing.T, lines io.Reader) []byte {
	t.Helper()
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

// pooled reports whether a sync.Pool keeps its values. Under the race detector it drops some at random, decoders with
// their windows among them, so that a count of allocated bytes shows nothing.
var pooled = true

// allocated returns the bytes that a call allocates.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// endless repeats a line.
type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		more := copy(p[n:], e.line[e.at:])
		e.at = (e.at + more) % len(e.line)
		n += more
	}
	return len(p), nil
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
		// Any input may be an error; none may panic. Records that were read must be undamaged: after a known
		// frame any bytes may follow, and the frame is read unless they make an error.
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

// Lines are those of bufio.ScanLines, in blocks of any size.
func TestLongLines(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", "a\n", "a\r\nb\n\n\r\nc\r", "\n\n", strings.Repeat("x", 100) + "\n" + strings.Repeat("y", 300)} {
		var want []string
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			want = append(want, lines.Text())
		}
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.HalfReader(strings.NewReader(text))} {
			var got []string
			lines := bufio.NewScanner(r)
			lines.Split(longLines())
			for lines.Scan() {
				got = append(got, lines.Text())
			}
			if lines.Err() != nil || !slices.Equal(got, want) {
				t.Errorf("%q has the lines %q, want %q: %v", text, got, want, lines.Err())
			}
		}
	}
}
