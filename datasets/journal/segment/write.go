package segment

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A frame ends after the record with which it has this size, or, in a file that is written whole, this number of
// records.
const (
	recordsPerFrame = 2000
	bytesPerFrame   = 16 << 20
)

// AppendFrames appends the frames of the lines that [EncodeLines] wrote.
func AppendFrames(encoder *zstd.Encoder, frames, lines []byte) []byte {
	for len(lines) > bytesPerFrame {
		n := bytes.IndexByte(lines[bytesPerFrame-1:], '\n')
		if n < 0 { // a line that does not end: cannot happen
			break
		}
		n += bytesPerFrame
		frames, lines = encoder.EncodeAll(lines[:n], frames), lines[n:]
	}
	if len(lines) == 0 {
		return frames
	}
	return encoder.EncodeAll(lines, frames)
}

// EncodeFrames returns the content of a segment of all the records, which is written whole.
func EncodeFrames(records []Record) (frames []byte, err error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, encoder.Close()) }()
	var lines bytes.Buffer
	n := 0
	for i := range records {
		if err := EncodeLines(&lines, records[i:i+1]); err != nil {
			return nil, err
		}
		if n++; n == recordsPerFrame || lines.Len() >= bytesPerFrame || i == len(records)-1 {
			frames = encoder.EncodeAll(lines.Bytes(), frames)
			lines.Reset()
			n = 0
		}
	}
	return frames, nil
}
