package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// A gzip stream that this package writes is a row of members, each of blockSize bytes of the input but for the last (RFC
// 1952, 2.2: what they hold follows one another, so that every reader has the whole). An extra field (2.3.1.1) in the
// header of each has its own length, by which a reader can hand members to all processors:
//
//	offset  bytes
//	     0     10  header, whose flags are FEXTRA alone
//	    10      2  XLEN: 12
//	    12      4  subfield "mi", and its length: 8
//	    16      4  length of the member, header and trailer included
//	    20      4  length of what it holds
const (
	extraAt      = 12
	packedAt     = 16
	plainAt      = 20
	memberHeader = 24
)

// extraField is the field without its lengths.
var extraField = [memberHeader - extraAt]byte{'m', 'i', memberHeader - packedAt}

// maxMember bounds the lengths that a member may have, in bytes: what is written here stays below.
const maxMember = 2 * blockSize

// maxConcurrency bounds the members of a stream that are in memory at a time. More would not help: what they hold is hashed
// by one processor.
const maxConcurrency = 8

func concurrency() int { return min(runtime.GOMAXPROCS(0), maxConcurrency) + 1 }

// memberLengths are those that a header has, in bytes; none if it is not of such a member.
func memberLengths(head []byte) (packed, plain int, ok bool) {
	if len(head) < memberHeader || !bytes.Equal(head[:4], []byte{0x1f, 0x8b, 8, 4}) ||
		!bytes.Equal(head[extraAt-2:extraAt], []byte{memberHeader - extraAt, 0}) || !bytes.Equal(head[extraAt:packedAt], extraField[:4]) {
		return 0, 0, false
	}
	p, q := binary.LittleEndian.Uint32(head[packedAt:]), binary.LittleEndian.Uint32(head[plainAt:])
	return int(p), int(q), p >= memberHeader && p <= maxMember && q <= maxMember
}

// member is one that is compressed or decompressed in the background.
type member struct {
	packed bytes.Buffer
	plain  []byte
	done   chan struct{}
	err    error // to be asked for when done is closed
}

var memberPool = sync.Pool{New: func() any { return new(member) }}

// newMember is an empty one, with the memory of one that was given back to memberPool.
func newMember() *member {
	m := memberPool.Get().(*member)
	m.packed.Reset()
	m.plain, m.err, m.done = m.plain[:0], nil, make(chan struct{})
	return m
}

// compress fills packed.
func (m *member) compress(z *gzip.Writer) {
	defer close(m.done)
	z.Reset(&m.packed)
	z.Extra = extraField[:]
	_, err := z.Write(m.plain)
	if m.err = errors.Join(err, z.Close()); m.err == nil {
		head := m.packed.Bytes()[:memberHeader]
		binary.LittleEndian.PutUint32(head[packedAt:], uint32(m.packed.Len()))
		binary.LittleEndian.PutUint32(head[plainAt:], uint32(len(m.plain)))
	}
}

var errMemberLength = errors.New("a gzip member is not as long as its header says")

// decompress fills plain, and makes sure that the member is as long as it says.
func (m *member) decompress(z *gzip.Reader, length int) {
	defer close(m.done)
	m.plain = append(m.plain, make([]byte, length)...)
	err := z.Reset(&m.packed)
	if err == nil {
		z.Multistream(false)
		_, err = io.ReadFull(z, m.plain)
	}
	if err == nil {
		// The checksum is made sure of at the end.
		if _, err = io.CopyN(io.Discard, z, 1); errors.Is(err, io.EOF) && m.packed.Len() == 0 {
			return
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errMemberLength
	}
	m.err = err
}
