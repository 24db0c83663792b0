package compression

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// maxDictionaries bounds the dictionaries of all blocks of an xz stream, in bytes, beside blockShare bytes for each byte that
// comes out: every block has one of its own, and may hold a byte. xz(1) makes blocks that are larger than their dictionary.
const (
	maxDictionaries = 16 << 30
	blockShare      = 64
)

// xzBlocks follows the structure of an xz file ("The .xz File Format" 1.2.1) without decompressing it, for the size of each
// block's dictionary, which the library allocates as soon as it has read a block's header. What it does not understand it
// leaves to the library.
type xzBlocks struct {
	skip int64              // bytes to pass over
	need int                // bytes to collect
	have []byte             // those that are there
	then func([]byte) error // what they are for; nil: nothing is looked at any more

	stream       int64 // bytes since the stream began, of those that were asked for
	check        int64 // bytes of a block's check
	records      uint64
	dictionaries int64
	out          int64
}

func newXZBlocks() *xzBlocks {
	b := &xzBlocks{}
	b.expect(12, b.header)
	return b
}

func (b *xzBlocks) expect(n int, then func([]byte) error) { b.need, b.then = n, then }

// feed takes the next bytes of the file.
func (b *xzBlocks) feed(p []byte) error {
	for len(p) > 0 && b.then != nil {
		if b.skip > 0 {
			n := min(b.skip, int64(len(p)))
			b.skip -= n
			b.stream += n
			p = p[n:]
			continue
		}
		n := min(b.need-len(b.have), len(p))
		b.have = append(b.have, p[:n]...)
		b.stream += int64(n)
		p = p[n:]
		if len(b.have) < b.need {
			break
		}
		got := b.have
		b.have = nil
		if err := b.then(got); err != nil {
			return err
		}
	}
	return nil
}

// header is 2.1.1: the beginning of a stream.
func (b *xzBlocks) header(p []byte) error {
	if Detect(p) != XZ {
		b.then = nil
		return nil
	}
	b.stream = int64(len(p))
	b.check = []int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[p[7]&0x0f]
	b.expect(1, b.blockOrIndex)
	return nil
}

// blockOrIndex is the first byte of either.
func (b *xzBlocks) blockOrIndex(p []byte) error {
	if p[0] == 0 {
		b.expect(1, b.count(nil, func(n uint64) { b.records = 2 * n; b.record() }))
		return nil
	}
	b.expect(int(p[0])*4+3, b.block)
	return nil
}

// block is the rest of 3.1: flags, sizes, the filter, padding, a checksum.
func (b *xzBlocks) block(p []byte) error {
	flags, rest := p[0], p[1:]
	for _, present := range []byte{0x40, 0x80} {
		if flags&present != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				b.then = nil
				return nil
			}
			rest = rest[n:]
		}
	}
	b.expect(1, b.chunk)
	if len(rest) < 3 || flags&3 != 0 || rest[0] != 0x21 {
		b.then = nil // the library knows no other filter
		return nil
	}
	size, err := lzma.DecodeDictCap(rest[2])
	if err != nil {
		return err
	}
	if size > maxWindow {
		return fmt.Errorf("its dictionary of %d MiB is larger than %d MiB", size>>20, maxWindow>>20)
	}
	if b.dictionaries += size; b.dictionaries > maxDictionaries+blockShare*b.out {
		return errors.New("it has too many blocks that are smaller than their dictionaries")
	}
	return nil
}

// chunk is the first byte of a chunk of LZMA2.
func (b *xzBlocks) chunk(p []byte) error {
	control := p[0]
	switch {
	case control == 0: // the block's end: padding, its check
		b.skip = -b.stream&3 + b.check
		b.expect(1, b.blockOrIndex)
	case control <= 2:
		b.expect(2, func(p []byte) error {
			return b.content(int64(binary.BigEndian.Uint16(p))+1, int64(binary.BigEndian.Uint16(p))+1)
		})
	case control < 0x80:
		b.then = nil
	default:
		more := int64(0)
		if control >= 0xc0 {
			more = 1 // properties
		}
		b.expect(4, func(p []byte) error {
			out := int64(control&0x1f)<<16 + int64(binary.BigEndian.Uint16(p)) + 1
			return b.content(more+int64(binary.BigEndian.Uint16(p[2:]))+1, out)
		})
	}
	return nil
}

// content passes over what a chunk holds.
func (b *xzBlocks) content(packed, out int64) error {
	b.skip, b.out = packed, b.out+out
	b.expect(1, b.chunk)
	return nil
}

// count reads a number (1.2) byte by byte.
func (b *xzBlocks) count(before []byte, then func(uint64)) func([]byte) error {
	return func(p []byte) error {
		number := slices.Concat(before, p)
		switch n, size := binary.Uvarint(number); {
		case p[0]&0x80 != 0 && len(number) < 9:
			b.expect(1, b.count(number, then))
		case size > 0:
			then(n)
		default:
			b.then = nil
		}
		return nil
	}
}

// record reads the index's numbers, two for each block, then passes over padding, checksum and the stream's footer (2.1.2).
func (b *xzBlocks) record() {
	if b.records > 0 {
		b.records--
		b.expect(1, b.count(nil, func(uint64) { b.record() }))
		return
	}
	b.skip = -b.stream&3 + 4 + 12
	b.expect(4, b.padding)
}

// padding is 2.2: four zeros at a time, until another stream begins.
func (b *xzBlocks) padding(p []byte) error {
	if binary.BigEndian.Uint32(p) == 0 {
		b.expect(4, b.padding)
		return nil
	}
	first := p
	b.expect(8, func(p []byte) error { return b.header(append(first, p...)) })
	return nil
}
