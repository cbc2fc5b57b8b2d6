package segment

import (
	"errors"
	"io"
)

// A ByteRange is a range of a file, To not included.
type ByteRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// A LostRange is an unreadable range of a segment, and the reason.
type LostRange struct {
	ByteRange

	Err        error
	Incomplete bool // no whole frame follows
}

// Readable calls each with every record in the whole frames of a segment, and returns the ranges
// between them.
func Readable(b []byte, each func(*Record)) (lost []LostRange) {
	f := newFrames(b)
	defer f.close()
	for {
		err := f.next()
		if errors.Is(err, io.EOF) {
			return lost
		}
		incomplete := err != nil && !errors.Is(err, errTooLarge)
		if err == nil {
			var records []*Record
			if err = f.decode(nil, func(r *Record) { records = append(records, r) }); err == nil {
				for _, r := range records {
					each(r)
				}
				f.at = f.end
				continue
			}
		}
		from := f.at
		if !f.skip() {
			return append(lost, LostRange{ByteRange{int64(from), int64(len(b))}, err, incomplete})
		}
		lost = append(lost, LostRange{ByteRange{int64(from), int64(f.at)}, err, false})
	}
}
