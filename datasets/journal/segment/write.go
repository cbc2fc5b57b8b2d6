package segment

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// The size of a chunk when a file is written whole.
const (
	recordsPerFrame = 2000
	bytesPerFrame   = 16 << 20
)

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
