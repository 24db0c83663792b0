package compression

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/micabuild/mica/internal/crash"
)

// A gzip stream that this package writes is a sequence of members, each with blockSize bytes of the input except the last.
// Every reader concatenates them (RFC 1952, 2.2). An extra field (2.3.1.1) in the header of each member has its length, so that
// a reader can decompress members in parallel:
//
//	offset  bytes
//	     0     10  header, whose flags are FEXTRA alone
//	    10      2  XLEN: 12
//	    12      4  subfield "mi", and its length: 8
//	    16      4  length of the member, header and trailer included
//	    20      4  length of its data
const (
	packedAt     = 16
	plainAt      = 20
	memberHeader = 24
)

// extraField is the extra field, with lengths of 0.
var extraField = []byte("mi\x08\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00")

// blockSize is the number of bytes that one processor compresses at a time. It changes the output and its digests: another value
// needs another name in Recipe. With a smaller one, members that were written before are read sequentially.
const blockSize = 1 << 20

// maxPacked bounds the length of a member in its header: data that does not compress grows by less. The data of a member has
// blockSize bytes at most.
const maxPacked = blockSize + 4096

// inMemory returns how many members of a stream are in memory at a time: one for each processor, and one that is read or
// written. More than 7 would help little: one processor hashes their data.
func inMemory() int { return min(runtime.GOMAXPROCS(0)+1, 7) }

// memberLengths returns the lengths in a header, and whether it is that of a member with lengths.
func memberLengths(head []byte) (packed, plain int, ok bool) {
	if len(head) < memberHeader || string(head[:4]) != "\x1f\x8b\x08\x04" || string(head[10:packedAt]) != "\x0c\x00mi\x08\x00" {
		return 0, 0, false
	}
	p, q := binary.LittleEndian.Uint32(head[packedAt:]), binary.LittleEndian.Uint32(head[plainAt:])
	return int(p), int(q), p >= memberHeader && p <= maxPacked && q <= blockSize
}

// member is a member that is compressed or decompressed in the background.
type member struct {
	packed, plain []byte
	done          chan struct{}
	err           error // valid when done is closed, like the result
}

var memberPool = sync.Pool{New: func() any {
	return &member{packed: make([]byte, 0, maxPacked), plain: make([]byte, 0, blockSize)}
}}

// newMember returns an empty member, with memory from memberPool.
func newMember() *member {
	m := memberPool.Get().(*member)
	m.packed, m.plain, m.err, m.done = m.packed[:0], m.plain[:0], nil, make(chan struct{})
	return m
}

func (m *member) ready() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// compressing bounds the gzip.Writers of all streams, each of more than a MiB, to one for each processor.
var compressing = sync.OnceValue(func() chan struct{} { return make(chan struct{}, runtime.GOMAXPROCS(0)) })

var gzipWriters [gzip.BestCompression + 1]sync.Pool // of *gzip.Writer, by level

// compress makes packed from plain, when a writer is free. level is 1 to 9.
func (m *member) compress(level int) {
	defer close(m.done)
	compressing() <- struct{}{}
	defer func() { <-compressing() }()
	z, ok := gzipWriters[level].Get().(*gzip.Writer)
	if !ok {
		z, _ = gzip.NewWriterLevel(nil, level)
	}
	defer gzipWriters[level].Put(z)
	packed := bytes.NewBuffer(m.packed)
	z.Reset(packed)
	z.Extra = extraField
	_, err := z.Write(m.plain)
	if m.err = errors.Join(err, z.Close()); m.err != nil {
		return
	}
	m.packed = packed.Bytes()
	binary.LittleEndian.PutUint32(m.packed[packedAt:], uint32(len(m.packed)))
	binary.LittleEndian.PutUint32(m.packed[plainAt:], uint32(len(m.plain)))
}

var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

var errMemberLength = errors.New("a gzip member is not as long as its header says")

// decompress makes plain from packed, up to where it is damaged or cut, and verifies the lengths in the header. It keeps an
// error that the member already has.
func (m *member) decompress(length int) {
	defer close(m.done)
	defer crash.Recover(&m.err)
	z := gzipReaders.Get().(*gzip.Reader)
	defer gzipReaders.Put(z)
	packed := bytes.NewReader(m.packed)
	err := z.Reset(packed)
	if err == nil {
		z.Multistream(false)
		var n int
		n, err = io.ReadFull(z, m.plain[:length])
		m.plain = m.plain[:n]
	}
	if err == nil {
		// The checksum is verified at the end.
		if _, err = io.CopyN(io.Discard, z, 1); errors.Is(err, io.EOF) && packed.Len() == 0 {
			return
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errMemberLength
	}
	m.err = cmp.Or(m.err, err)
}
