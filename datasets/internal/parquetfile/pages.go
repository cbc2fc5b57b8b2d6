package parquetfile

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// maxPageBytes bounds a page, compressed and decompressed.
	maxPageBytes = 128 << 20
	// maxPagesBytes bounds the memory of all pages in use, over all columns.
	maxPagesBytes = 512 << 20
	// readAhead is the size of the read for a page's header.
	readAhead = 16 << 10
	// maxHeaderBytes bounds a page's header, which contains the lowest and the highest value.
	maxHeaderBytes = 16 << 20
	// valueBytes is the memory of a page for each of its values: two levels, an offset, and up to
	// 12 bytes for a number.
	valueBytes = 20
	// rowValueBytes is the memory of a row for each of its values, doubled because the row grows.
	rowValueBytes = 2 * 24
)

// A memory counts the memory of the pages in use, and has the buffer for checking pages.
type memory struct {
	used, limit int64
	scratch     []byte
}

// A guardedGroup is a row group whose pages are checked before parquet-go reads them.
type guardedGroup struct {
	parquet.RowGroup

	chunks []parquet.ColumnChunk
}

// guardGroup guards a row group of a file.
func guardGroup(f *parquet.File, number int, m *memory) (*guardedGroup, error) {
	g := &guardedGroup{RowGroup: f.RowGroups()[number]}
	for i, chunk := range g.RowGroup.ColumnChunks() {
		c, ok := chunk.(*parquet.FileColumnChunk)
		if !ok {
			return nil, fmt.Errorf("a column chunk of type %T", chunk)
		}
		leaf, ok := c.Node().(*parquet.Column)
		if !ok {
			return nil, fmt.Errorf("a column of type %T", c.Node())
		}
		meta := &f.Metadata().RowGroups[number].Columns[i].MetaData
		g.chunks = append(g.chunks, &guardedChunk{FileColumnChunk: c, file: f, leaf: leaf, meta: meta, memory: m})
	}
	return g, nil
}

// ColumnChunks returns the guarded chunks.
func (g *guardedGroup) ColumnChunks() []parquet.ColumnChunk { return g.chunks }

// Rows reads rows from the guarded chunks.
func (g *guardedGroup) Rows() parquet.Rows { return parquet.NewRowGroupRowReader(g) }

// A guardedChunk is a column of a row group whose pages are checked.
type guardedChunk struct {
	*parquet.FileColumnChunk

	file   io.ReaderAt
	leaf   *parquet.Column
	meta   *format.ColumnMetaData
	memory *memory
}

// Pages returns a reader of the pages.
func (c *guardedChunk) Pages() parquet.Pages {
	start := c.meta.DataPageOffset
	if c.meta.DictionaryPageOffset != 0 {
		start = c.meta.DictionaryPageOffset
	}
	return c.PagesFrom(&guard{
		guardedChunk: c, start: start, end: start + c.meta.TotalCompressedSize, next: c.meta.DataPageOffset,
	})
}

// A guard supplies parquet-go with the bytes of a column, one checked page at a time.
//
// parquet-go reads a column from its first page on, and returns at most once to a dictionary at the
// column's start. So the guard keeps two pages: the dictionary and the last page.
type guard struct {
	*guardedChunk

	start, end int64
	// next is the offset of the page after data.
	next       int64
	dictionary page
	data       page
	// run is the number of values in the row at the end of data so far.
	run int64
}

// A page is a checked page with its header.
type page struct {
	offset int64
	bytes  []byte
	// cost is the memory of the page.
	cost int64
}

func (p *page) read(b []byte, offset int64) int {
	if offset < p.offset || offset >= p.offset+int64(len(p.bytes)) {
		return 0
	}
	return copy(b, p.bytes[offset-p.offset:])
}

// ReadAt returns bytes of one page. Unlike [io.ReaderAt] it returns fewer than len(b) without
// an error at the end of a page, so that no byte of an unchecked page is read.
func (g *guard) ReadAt(b []byte, offset int64) (int, error) {
	if n := g.data.read(b, offset); n > 0 || len(b) == 0 {
		return n, nil
	}
	if n := g.dictionary.read(b, offset); n > 0 {
		return n, nil
	}
	at := &g.data
	switch offset {
	case g.next:
	case g.start:
		at = &g.dictionary
	default:
		return 0, damaged("a page at an offset where none begins")
	}
	if err := g.load(at, offset); err != nil {
		return 0, fmt.Errorf("column %s: %w", columnName(g.leaf.Path()), err)
	}
	if at == &g.data {
		g.next = offset + int64(len(at.bytes))
	}
	return at.read(b, offset), nil
}

// load reads and checks the page at offset.
func (g *guard) load(at *page, offset int64) error {
	g.memory.used -= at.cost
	*at = page{offset: offset, bytes: at.bytes[:0]}
	header, size, err := g.header(at)
	if err != nil {
		return err
	}
	total := int64(size) + int64(header.CompressedPageSize)
	if total > g.end-offset {
		return damaged("a page of %d bytes in a column of %d", total, g.end-offset)
	}
	if err := checkSizes(header); err != nil {
		return err
	}
	if err := g.fill(at, total); err != nil {
		return err
	}
	at.bytes = at.bytes[:total]
	c := checker{column: g.leaf, codec: g.meta.Codec, memory: g.memory, run: g.run}
	if err := c.check(header, at.bytes[size:]); err != nil {
		return err
	}
	g.run = c.run
	at.cost = c.cost + total
	if g.memory.used += at.cost; g.memory.used > g.memory.limit {
		return fmt.Errorf("the pages in use need more than %d MiB; write the file with smaller pages", g.memory.limit>>20)
	}
	return nil
}

// header decodes the header of the page at p, and returns its length.
func (g *guard) header(p *page) (*format.PageHeader, int, error) {
	for want := int64(readAhead); ; want *= 8 {
		if err := g.fill(p, min(want, g.end-p.offset)); err != nil {
			return nil, 0, err
		}
		t := compact{rest: p.bytes, items: maxItems}
		if t.skip(thriftStruct, 0) {
			size := len(p.bytes) - len(t.rest)
			h := &format.PageHeader{}
			if err := thrift.Unmarshal(&thrift.CompactProtocol{}, p.bytes[:size], h); err != nil {
				return nil, 0, damaged("the header of a page can't be read: %w", err)
			}
			return h, size, nil
		}
		if int64(len(p.bytes)) == g.end-p.offset || want >= maxHeaderBytes {
			return nil, 0, damaged("the header of a page can't be read")
		}
	}
}

// fill reads the bytes of p up to a length.
func (g *guard) fill(p *page, length int64) error {
	have := int64(len(p.bytes))
	if have >= length {
		return nil
	}
	if int64(cap(p.bytes)) < length {
		p.bytes = append(make([]byte, 0, length), p.bytes...)
	}
	p.bytes = p.bytes[:length]
	n, err := g.file.ReadAt(p.bytes[have:], p.offset+have)
	if int64(n) == length-have {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// checkSizes checks a page's header before any allocation.
func checkSizes(h *format.PageHeader) error {
	if h.CompressedPageSize < 0 || h.UncompressedPageSize < 0 {
		return damaged("a page of %d bytes, %d decompressed", h.CompressedPageSize, h.UncompressedPageSize)
	}
	if size := max(h.CompressedPageSize, h.UncompressedPageSize); size > maxPageBytes {
		return fmt.Errorf("a page has %d MiB, at most %d MiB are read; write the file with smaller pages", size>>20, maxPageBytes>>20)
	}
	values := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
	if int64(values)*valueBytes > maxPagesBytes {
		return fmt.Errorf("a page has %d values, at most %d are read; write the file with smaller pages", values, maxPagesBytes/valueBytes)
	}
	return nil
}

// levelBits returns the bits of a level.
func levelBits(highest int) int { return bits.Len8(uint8(highest)) }
