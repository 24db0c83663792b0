package layer

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// TOC is a layer's table of contents: one entry per file, in tar order, as the layer means them. Of several entries for
// one name it holds the last; a removal is an entry of type whiteout, an opaque marker the Opaque of its directory. Of a
// layer that came from elsewhere the entries' digests may be "": a view of the layer computes them when they are asked for.
type TOC struct {
	Entries []*view.Entry

	summary summary
	where   []place // where[i] says where the content of Entries[i] stands in the tar
}

// place is where a regular file's content stands in the uncompressed tar.
type place struct {
	offset int64
	// sparse: offset is that of the entry's first header block, since the content is not stored as it is.
	sparse bool
	// implied: the tar has no entry for this directory, only an opaque marker in it, or the removal of what is not there.
	implied bool
}

// summary is the part of a table of contents that is read without the rest.
type summary struct {
	diffID  digest.Digest
	tarSize int64
	size    int64 // Docker's: see Layer.Size
	entries int
	digests int
	// canonical: mica wrote the tar, so that it can be written again from the entries and the files.
	canonical bool
	// undigested: the digests of the contents have not been computed yet.
	undigested bool
	// plain: every directory has an entry, and nothing of lower layers is removed, so that the layer's tree means the same on
	// any chain. Tables of older versions do not say so.
	plain bool
	// devices: there are device nodes.
	devices  bool
	bodySize int64
	bodySum  uint32
}

// The file begins with a fixed header: magic with the format's version, flags, numbers, DiffID and two CRC-32C sums (the
// body's, then that of the header up to there). A sum guards against damage, not against malice: whoever may write here
// may write anything. docs/store.md describes the records.
const (
	tocMagic      = "micatoc"
	tocVersion    = 1 // of tables with digests
	tocUndigested = 2 // of tables without
	tocHeaderSize = 84
	flagCanonical = 1
	flagPlain     = 2
	flagDevices   = 4
)

// errTOC says that a table of contents cannot be used.
var errTOC = errors.New("table of contents is damaged")

func tocSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (s *summary) encode() []byte {
	b := make([]byte, 0, tocHeaderSize)
	b = append(b, tocMagic...)
	version := byte(tocVersion)
	if s.undigested {
		version = tocUndigested
	}
	b = append(b, version)
	flags := uint32(0)
	if s.canonical {
		flags |= flagCanonical
	}
	if s.plain {
		flags |= flagPlain
	}
	if s.devices {
		flags |= flagDevices
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, uint32(s.entries))
	b = le.AppendUint32(b, uint32(s.digests))
	b = le.AppendUint64(b, uint64(s.tarSize))
	b = le.AppendUint64(b, uint64(s.size))
	b = le.AppendUint64(b, uint64(s.bodySize))
	b = append(b, rawDigest(s.diffID)...)
	b = le.AppendUint32(b, s.bodySum)
	b = le.AppendUint32(b, 0)
	le.PutUint32(b[tocHeaderSize-4:], tocSum(b[:tocHeaderSize-4]))
	return b
}

func decodeSummary(b []byte, id digest.Digest) (summary, error) {
	le := binary.LittleEndian
	if len(b) < tocHeaderSize || string(b[:len(tocMagic)]) != tocMagic ||
		le.Uint32(b[tocHeaderSize-4:]) != tocSum(b[:tocHeaderSize-4]) {
		return summary{}, errTOC
	}
	version, b := b[len(tocMagic)], b[len(tocMagic)+1:]
	flags := le.Uint32(b)
	if version != tocVersion && version != tocUndigested || flags&^(flagCanonical|flagPlain|flagDevices) != 0 {
		return summary{}, errTOC
	}
	s := summary{
		canonical: flags&flagCanonical != 0, plain: flags&flagPlain != 0, devices: flags&flagDevices != 0,
		undigested: version == tocUndigested,
		entries:    int(le.Uint32(b[4:])),
		digests:    int(le.Uint32(b[8:])),
		tarSize:    int64(le.Uint64(b[12:])),
		size:       int64(le.Uint64(b[20:])),
		bodySize:   int64(le.Uint64(b[28:])),
		diffID:     digest.NewDigestFromBytes(digest.SHA256, b[36:68]),
		bodySum:    le.Uint32(b[68:]),
	}
	if s.diffID != id || s.tarSize < 0 || s.size < 0 || s.bodySize < 0 {
		return summary{}, errTOC
	}
	return s, nil
}
