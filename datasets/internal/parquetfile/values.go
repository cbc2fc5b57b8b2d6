package parquetfile

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdDecoder returns a decoder that fills the memory passed to it and no more.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))
})

// slack is how many extra values a writer may pack, because the last group is padded.
const slack = 1024

// checkRuns checks that runs of values of some bits each decode to at most about n values. It calls each,
// unless that is nil, for every run. The format is the hybrid of run lengths and bit packing of
// https://github.com/apache/parquet-format/blob/master/Encodings.md.
func checkRuns(data []byte, width int, n int64, each func(value uint64, times int64)) error {
	const maxWidth = 32
	if width > maxWidth {
		return damaged("values of %d bits", width)
	}
	left := uint64(n) + slack
	for len(data) > 0 {
		head, size := binary.Uvarint(data)
		if size <= 0 {
			return damaged("a run without a length")
		}
		data = data[size:]
		count, packed := head>>1, head&1 == 1
		if packed {
			if count > left/8 {
				return damaged("a page has more than the %d values that its header states", n)
			}
			length := int(count) * width
			if length > len(data) {
				return damaged("a cut run of values")
			}
			if each != nil {
				unpack(data[:length], width, each)
			}
			count *= 8
			data = data[length:]
		} else {
			if count > left {
				return damaged("a page has more than the %d values that its header states", n)
			}
			length := (width + 7) / 8
			if length > len(data) {
				return damaged("a cut run of values")
			}
			if each != nil {
				var value [8]byte
				copy(value[:], data[:length])
				each(binary.LittleEndian.Uint64(value[:]), int64(count))
			}
			data = data[length:]
		}
		left -= count
	}
	return nil
}

// unpack calls each for every value of width bits, the lowest bits first.
func unpack(data []byte, width int, each func(value uint64, times int64)) {
	if width == 0 {
		return
	}
	for at := 0; at+width <= 8*len(data); at += width {
		var value uint64
		for bit := range width {
			value |= uint64(data[(at+bit)/8]>>((at+bit)%8)&1) << bit
		}
		each(value, 1)
	}
}

// skipDeltas passes over at most n values in the encoding DELTA_BINARY_PACKED.
func skipDeltas(data []byte, n int64) (rest []byte, err error) {
	var head [4]uint64 // values of a block, parts of a block, values in all, the first value
	for i := range head {
		v, size := binary.Uvarint(data)
		if size <= 0 {
			return nil, damaged("a page with cut values")
		}
		head[i], data = v, data[size:]
	}
	block, parts, total := head[0], head[1], head[2]
	const maxBlock = 1 << 20
	switch {
	case total > uint64(n)+slack:
		return nil, damaged("a page has more than the %d values that its header states", n)
	case block == 0 || block > maxBlock || parts == 0 || parts > block:
		return nil, damaged("blocks of %d values in %d parts", block, parts)
	case total == 0:
		return data, nil
	}
	each := block / parts
	for left := total - 1; left > 0; {
		_, size := binary.Uvarint(data) // the smallest difference
		if size <= 0 || uint64(len(data)-size) < parts {
			return nil, damaged("a page with cut values")
		}
		widths := data[size : size+int(parts)]
		data = data[size+int(parts):]
		for _, width := range widths {
			length := each * uint64(width) / 8
			data = data[min(length, uint64(len(data))):]
			if left -= min(each, left); left == 0 {
				break
			}
		}
	}
	return data, nil
}
