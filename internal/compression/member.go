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

// maxPacked bounds the length that a member may say it has, in bytes: what does not compress grows by less. What it holds is
// at most blockSize.
const maxPacked = blockSize + 4096

// maxConcurrency bounds the members of a stream that are in memory at a time. More would help little: what they hold is hashed
// by one processor.
const maxConcurrency = 6

func concurrency() int { return min(runtime.GOMAXPROCS(0), maxConcurrency) + 1 }

// memberLengths are those that a header has, in bytes; none if it is not of such a member.
func memberLengths(head []byte) (packed, plain int, ok bool) {
	if len(head) < memberHeader || !bytes.Equal(head[:4], []byte{0x1f, 0x8b, 8, 4}) ||
		!bytes.Equal(head[extraAt-2:extraAt], []byte{memberHeader - extraAt, 0}) || !bytes.Equal(head[extraAt:packedAt], extraField[:4]) {
		return 0, 0, false
	}
	p, q := binary.LittleEndian.Uint32(head[packedAt:]), binary.LittleEndian.Uint32(head[plainAt:])
	return int(p), int(q), p >= memberHeader && p <= maxPacked && q <= blockSize
}

// member is one that is compressed or decompressed in the background.
type member struct {
	packed, plain []byte
	cut           error // why packed is not all of it, where it is read
	done          chan struct{}
	err           error // to be asked for when done is closed, as what is made
}

var memberPool = sync.Pool{New: func() any {
	return &member{packed: make([]byte, 0, maxPacked), plain: make([]byte, 0, blockSize)}
}}

// newMember is an empty one, with the memory of one that was given back to memberPool.
func newMember() *member {
	m := memberPool.Get().(*member)
	m.packed, m.plain, m.cut, m.err, m.done = m.packed[:0], m.plain[:0], nil, nil, make(chan struct{})
	return m
}

// compress makes packed of plain.
func (m *member) compress(z *gzip.Writer) {
	defer close(m.done)
	packed := bytes.NewBuffer(m.packed)
	z.Reset(packed)
	z.Extra = extraField[:]
	_, err := z.Write(m.plain)
	if m.err = errors.Join(err, z.Close()); m.err != nil {
		return
	}
	m.packed = packed.Bytes()
	binary.LittleEndian.PutUint32(m.packed[packedAt:], uint32(len(m.packed)))
	binary.LittleEndian.PutUint32(m.packed[plainAt:], uint32(len(m.plain)))
}

var errMemberLength = errors.New("a gzip member is not as long as its header says")

// decompress makes plain of packed, up to where it is damaged, and makes sure that the lengths are what the header says.
func (m *member) decompress(z *gzip.Reader, length int) {
	defer close(m.done)
	packed := bytes.NewReader(m.packed)
	err := z.Reset(packed)
	if err == nil {
		z.Multistream(false)
		var n int
		n, err = io.ReadFull(z, m.plain[:length])
		m.plain = m.plain[:n]
	}
	if err == nil {
		// The checksum is made sure of at the end.
		if _, err = io.CopyN(io.Discard, z, 1); errors.Is(err, io.EOF) && packed.Len() == 0 {
			return
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errMemberLength
	}
	m.err = err
}
