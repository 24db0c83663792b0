// Package toc is the table of contents of a layer: what files it has, and where in its tar their contents are. It is written
// once, when the layer is made, and read in place of the tar. docs/store.md describes the file.
package toc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// Table is a layer's table of contents: one entry per file, in tar order. Of several entries for one name it holds the last. A
// removal is an entry of type whiteout; an opaque marker is the Opaque of its directory. The digests of the entries may be "",
// see Summary.Undigested.
type Table struct {
	Summary
	Entries []*view.Entry
	Places  []Place // of the contents of Entries, by the same numbers
}

// Place is the position of a regular file's content in the uncompressed tar.
type Place struct {
	Offset int64
	// Sparse: the content is not stored as it is. Offset is the position of the entry's first header block.
	Sparse bool
	// Implied: the tar has no entry for this directory, only an opaque marker or a removal in it.
	Implied bool
}

// Summary is the part of a table of contents that can be read without the rest.
type Summary struct {
	DiffID  digest.Digest
	TarSize int64 // of the uncompressed tar, in bytes
	// Size is Docker's size of a layer: the sizes of files and the lengths of symlink targets, a hardlinked file once.
	Size  int64
	Count int // of entries
	// Canonical: mica wrote the tar and can write it again from the entries and the files.
	Canonical bool
	// Undigested: the digests of the contents have not been computed yet.
	Undigested bool
	// Plain: every directory has an entry, and nothing of lower layers is removed, so that the layer's tree means the same on
	// any chain. Tables of older versions do not set it.
	Plain bool
	// Devices: there are device nodes.
	Devices bool

	digests  int // in the body
	bodySize int64
	bodySum  uint32
}

// The file begins with a header of fixed size: magic, version, flags, numbers, DiffID, the CRC-32C of the body, and that of the
// header before it. The checksums detect damage, not malice: a process that can write here can write anything.
const (
	magic             = "micatoc"
	versionDigested   = 1
	versionUndigested = 2
	headerSize        = 84
	flagCanonical     = 1
	flagPlain         = 2
	flagDevices       = 4
)

// SummarySize is how many bytes of a file DecodeSummary needs.
const SummarySize = headerSize

// ErrDamaged is the error of a table of contents that cannot be used.
var ErrDamaged = errors.New("table of contents is damaged")

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (s *Summary) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	version := byte(versionDigested)
	if s.Undigested {
		version = versionUndigested
	}
	b = append(b, version)
	flags := uint32(0)
	if s.Canonical {
		flags |= flagCanonical
	}
	if s.Plain {
		flags |= flagPlain
	}
	if s.Devices {
		flags |= flagDevices
	}
	le := binary.LittleEndian
	b = le.AppendUint32(b, flags)
	b = le.AppendUint32(b, uint32(s.Count))
	b = le.AppendUint32(b, uint32(s.digests))
	b = le.AppendUint64(b, uint64(s.TarSize))
	b = le.AppendUint64(b, uint64(s.Size))
	b = le.AppendUint64(b, uint64(s.bodySize))
	b = append(b, RawDigest(s.DiffID)...)
	b = le.AppendUint32(b, s.bodySum)
	b = le.AppendUint32(b, 0)
	le.PutUint32(b[headerSize-4:], checksum(b[:headerSize-4]))
	return b
}

// DecodeSummary decodes the first SummarySize bytes of the table of contents of the layer id: ErrDamaged.
func DecodeSummary(b []byte, id digest.Digest) (Summary, error) {
	le := binary.LittleEndian
	if len(b) < headerSize || string(b[:len(magic)]) != magic ||
		le.Uint32(b[headerSize-4:]) != checksum(b[:headerSize-4]) {
		return Summary{}, ErrDamaged
	}
	version, b := b[len(magic)], b[len(magic)+1:]
	flags := le.Uint32(b)
	if version != versionDigested && version != versionUndigested || flags&^(flagCanonical|flagPlain|flagDevices) != 0 {
		return Summary{}, ErrDamaged
	}
	s := Summary{
		Canonical: flags&flagCanonical != 0, Plain: flags&flagPlain != 0, Devices: flags&flagDevices != 0,
		Undigested: version == versionUndigested,
		Count:      int(le.Uint32(b[4:])),
		digests:    int(le.Uint32(b[8:])),
		TarSize:    int64(le.Uint64(b[12:])),
		Size:       int64(le.Uint64(b[20:])),
		bodySize:   int64(le.Uint64(b[28:])),
		DiffID:     digest.NewDigestFromBytes(digest.SHA256, b[36:68]),
		bodySum:    le.Uint32(b[68:]),
	}
	if s.DiffID != id || s.TarSize < 0 || s.Size < 0 || s.bodySize < 0 {
		return Summary{}, ErrDamaged
	}
	return s, nil
}

// RawDigest returns the 32 bytes of a sha256 digest; zeros for "".
func RawDigest(d digest.Digest) []byte {
	if d == "" {
		return make([]byte, 32)
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil || len(raw) != 32 {
		return make([]byte, 32)
	}
	return raw
}
