package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/format"
)

// A checker finds out the decoded size of a page.
type checker struct {
	column *parquet.Column
	codec  format.CompressionCodec
	memory *memory
	// run is the number of values in the current row so far.
	run int64
	// cost is the memory of the decoded page and its longest row.
	cost int64
}

// check refuses a page that decodes to more than its header promises.
func (c *checker) check(h *format.PageHeader, data []byte) error {
	switch h.Type {
	case format.DataPage:
		return c.checkV1(h, data)
	case format.DataPageV2:
		return c.checkV2(h, data)
	case format.DictionaryPage:
		n := int64(h.DictionaryPageHeader.V.NumValues)
		data, err := c.decompress(data, int(h.UncompressedPageSize))
		if err != nil {
			return err
		}
		c.addCost(n, len(data))
		return c.checkValues(h.DictionaryPageHeader.V.Encoding, n, data)
	}
	return nil // parquet-go refuses other kinds
}

func (c *checker) checkV1(h *format.PageHeader, data []byte) error {
	data, err := c.decompress(data, int(h.UncompressedPageSize))
	if err != nil {
		return err
	}
	p := &h.DataPageHeader.V
	n := int64(p.NumValues)
	c.addCost(n, len(data))
	take := func() ([]byte, error) {
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
			return nil, damaged("a page with cut levels")
		}
		end := 4 + int(binary.LittleEndian.Uint32(data))
		levels := data[4:end]
		data = data[end:]
		return levels, nil
	}
	if c.column.MaxRepetitionLevel() > 0 {
		levels, err := take()
		if err == nil {
			err = c.checkRepetitions(p.RepetitionLevelEncoding, n, levels)
		}
		if err != nil {
			return err
		}
	}
	if highest := c.column.MaxDefinitionLevel(); highest > 0 {
		levels, err := take()
		if err == nil && p.DefinitionLevelEncoding == format.RLE {
			err = checkRuns(levels, levelBits(highest), n, nil)
		}
		if err != nil {
			return err
		}
	}
	return c.checkValues(p.Encoding, n, data)
}

func (c *checker) checkV2(h *format.PageHeader, data []byte) error {
	p := &h.DataPageHeaderV2.V
	n := int64(p.NumValues)
	repetitions, definitions := int64(p.RepetitionLevelsByteLength), int64(p.DefinitionLevelsByteLength)
	if repetitions < 0 || definitions < 0 || repetitions+definitions > int64(min(len(data), int(h.UncompressedPageSize))) {
		return damaged("a page with cut levels")
	}
	levels, data := data[:repetitions+definitions], data[repetitions+definitions:]
	if c.column.MaxRepetitionLevel() > 0 && repetitions > 0 {
		if err := c.checkRepetitions(format.RLE, n, levels[:repetitions]); err != nil {
			return err
		}
	}
	if highest := c.column.MaxDefinitionLevel(); highest > 0 && definitions > 0 {
		if err := checkRuns(levels[repetitions:], levelBits(highest), n, nil); err != nil {
			return err
		}
	}
	if p.IsCompressed.V || !p.IsCompressed.Valid {
		var err error
		// parquet-go's buffer is as long as the whole page.
		if data, err = c.decompress(data, int(h.UncompressedPageSize)); err != nil {
			return err
		}
	}
	c.addCost(n, len(data))
	return c.checkValues(p.Encoding, n, data)
}

// addCost adds the memory of n values in size bytes: parquet-go's copy, and another that some encodings
// need.
func (c *checker) addCost(n int64, size int) { c.cost += n*valueBytes + 2*int64(size) }

// checkRepetitions checks repetition levels, and finds the longest row.
func (c *checker) checkRepetitions(encoding format.Encoding, n int64, levels []byte) error {
	longest := c.run
	if encoding != format.RLE { // the deprecated encoding, whose levels are ignored
		c.run += n
		longest = c.run
	} else {
		left := n // the rest fills the last byte
		err := checkRuns(levels, levelBits(c.column.MaxRepetitionLevel()), n, func(level uint64, times int64) {
			times = min(times, left)
			left -= times
			switch {
			case level > 0:
				c.run += times
			case times > 0:
				longest = max(longest, c.run)
				c.run = 1
			}
		})
		if err != nil {
			return err
		}
		longest = max(longest, c.run)
	}
	c.cost += longest * rowValueBytes
	return nil
}

// checkValues checks the decoded size of a page's values. Encodings that are not named here do not
// expand.
func (c *checker) checkValues(encoding format.Encoding, n int64, data []byte) error {
	if c.column.Type().Kind() == parquet.FixedLenByteArray {
		c.cost += n * int64(c.column.Type().Length())
	}
	switch encoding {
	case format.PlainDictionary, format.RLEDictionary: //nolint:staticcheck // old writers use the first
		if len(data) == 0 {
			return nil
		}
		return checkRuns(data[1:], int(data[0]), n, nil)
	case format.RLE:
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
			return damaged("a page with cut values")
		}
		return checkRuns(data[4:4+binary.LittleEndian.Uint32(data)], 1, n, nil)
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray:
		_, err := skipDeltas(data, n)
		return err
	case format.DeltaByteArray:
		return c.checkPrefixes(n, data)
	}
	return nil
}

// checkPrefixes adds up the texts of the encoding in which each text begins with a prefix of the text
// before it.
func (c *checker) checkPrefixes(n int64, data []byte) error {
	rest, err := skipDeltas(data, n)
	if err != nil {
		return err
	}
	if rest, err = skipDeltas(rest, n); err != nil {
		return err
	}
	prefixes, err := new(delta.BinaryPackedEncoding).DecodeInt32(nil, data)
	if err != nil {
		return damaged("%w", err)
	}
	size := int64(len(rest))
	for _, length := range prefixes {
		if length < 0 {
			return damaged("a text that shares %d bytes", length)
		}
		size += int64(length)
	}
	if size > maxPageBytes {
		return fmt.Errorf("a page has %d MiB, at most %d MiB are read; write the file with smaller pages", size>>20, maxPageBytes>>20)
	}
	c.cost += size
	return nil
}

// decompress returns the data of a page, in memory that the next page reuses. It returns an error when
// there is more data than size.
func (c *checker) decompress(data []byte, size int) ([]byte, error) {
	if c.codec == format.Uncompressed {
		return data, nil
	}
	c.memory.scratch = slices.Grow(c.memory.scratch[:0], size)
	out, err := decompress(c.codec, c.memory.scratch[:0], data, size)
	switch {
	case errors.Is(err, errLarger):
		return nil, damaged("a page has more than the %d bytes that its header states", size)
	case err != nil:
		return nil, damaged("a page can't be decompressed: %w", err)
	}
	const kept = 8 << 20
	if cap(c.memory.scratch) > kept {
		c.memory.scratch = nil
	}
	return out, nil
}

var errLarger = errors.New("larger than expected")

// decompress appends at most size bytes to out, which must have room for them.
func decompress(codec format.CompressionCodec, out, data []byte, size int) ([]byte, error) {
	switch codec {
	case format.Snappy:
		n, err := snappy.DecodedLen(data)
		if err != nil {
			return nil, err
		}
		if n > size {
			return nil, errLarger
		}
		return snappy.Decode(out[:0:size], data)
	case format.Zstd:
		r, err := zstdDecoder()
		if err != nil {
			return nil, err
		}
		out, err := r.DecodeAll(data, out[:0:size])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			err = errLarger
		}
		return out, err
	case format.Gzip:
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return readUpTo(r, out, size)
	case format.Brotli:
		return readUpTo(brotli.NewReader(bytes.NewReader(data)), out, size)
	}
	return nil, fmt.Errorf("compressed with %s", codec)
}

// readUpTo appends at most size bytes to out.
func readUpTo(r io.Reader, out []byte, size int) ([]byte, error) {
	n, err := io.ReadFull(r, out[:size])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return out[:n], nil
	}
	if err != nil {
		return nil, err
	}
	var more [1]byte
	if n, err := io.ReadFull(r, more[:]); n > 0 {
		return nil, errLarger
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return out[:size], nil
}
