package toc

import (
	"encoding/binary"
	"encoding/hex"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// minRecord is the length of the shortest record: it bounds what a damaged count can make us allocate.
const minRecord = 4

const emptyDigest = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// Decode decodes the table of contents of the layer id: ErrDamaged. The entries share one allocation, and their strings share the
// file's: a table of 50,000 files is loaded by every build that needs the layer. The caller must not write to file any more.
func Decode(file []byte, id digest.Digest) (*Table, error) {
	s, body, err := split(file, id)
	if err != nil {
		return nil, err
	}
	entries := make([]view.Entry, s.Count)
	t := &Table{Summary: s, Entries: make([]*view.Entry, s.Count), Places: make([]Place, s.Count)}
	d := decoder{
		rest:    body,
		text:    unsafe.String(unsafe.SliceData(body), len(body)), //nolint:gosec // body is not written to from here on
		entries: entries, undigested: s.Undigested,
	}
	if !s.Undigested {
		d.hexes = make([]byte, 0, s.digests*(len("sha256:")+64))
	}
	d.digests = unsafe.String(unsafe.SliceData(d.hexes), cap(d.hexes)) //nolint:gosec // each byte is written before the part of the string that has it is used
	for i := range entries {
		t.Entries[i] = &entries[i]
		d.entry(i, &entries[i], &t.Places[i])
		if d.bad {
			return nil, ErrDamaged
		}
	}
	if len(d.rest) != 0 {
		return nil, ErrDamaged
	}
	return t, nil
}

// split checks a file as a whole, and returns its parts.
func split(file []byte, id digest.Digest) (s Summary, body []byte, err error) {
	if s, err = DecodeSummary(file, id); err != nil {
		return s, nil, err
	}
	body = file[headerSize:]
	if s.bodySize != int64(len(body)) || s.bodySum != checksum(body) || s.Count > len(body)/minRecord || s.digests > s.Count {
		return s, nil, ErrDamaged
	}
	return s, body, nil
}

type decoder struct {
	rest    []byte
	text    string       // all of the body
	hexes   []byte       // digests in text form, filled up to its capacity and never moved
	digests string       // the same bytes
	sum     []byte       // the last digest
	entries []view.Entry // that were decoded, nil if hard links are followed in records
	records *Records     // nil if they are not followed at all
	end     int64
	bad     bool

	undigested bool // digests are skipped
}

func (d *decoder) entry(i int, e *view.Entry, p *Place) {
	if len(d.rest) < 2 {
		d.bad = true
		return
	}
	kind, flags := view.Type(d.rest[0]), d.rest[1]
	d.rest = d.rest[2:]
	name := d.string()
	if flags&recHardlink != 0 {
		first := d.uint()
		if first >= uint64(i) {
			d.bad = true
			return
		}
		switch {
		case d.entries != nil:
			*e = d.entries[first]
		case d.records != nil:
			d.records.follow(int(first), e)
		}
		e.Path, e.Hardlink = name, e.Path
		return
	}
	e.Path, e.Type = name, kind
	e.Opaque = flags&recOpaque != 0
	p.Sparse, p.Implied = flags&recSparse != 0, flags&recImplied != 0
	e.Mode = uint32(d.uint())
	e.UID, e.GID = int(d.uint()), int(d.uint())
	seconds, nanoseconds := d.int(), uint64(0)
	if flags&recNanoseconds != 0 {
		nanoseconds = d.uint() % 1e9
	}
	e.ModTime = time.Unix(seconds, int64(nanoseconds)).UTC()
	if flags&recXattrs != 0 {
		d.xattrs(e)
	}
	d.kind(e, p)
}

func (d *decoder) kind(e *view.Entry, p *Place) {
	switch e.Type {
	case view.TypeRegular:
		e.Size = int64(d.uint())
		if e.Size == 0 {
			e.Digest = emptyDigest
			break
		}
		e.Digest = d.digest()
		p.Offset = d.end + int64(d.uint())
		d.end = p.Offset
		if !p.Sparse {
			d.end += e.Size
		}
		d.bad = d.bad || e.Size < 0 || p.Offset < 0 || d.end < 0
	case view.TypeSymlink:
		e.Linkname = d.string()
	case view.TypeChar, view.TypeBlock:
		e.Major, e.Minor = int64(d.uint()), int64(d.uint())
	case view.TypeDir, view.TypeFifo, view.TypeWhiteout:
	default:
		d.bad = true
	}
}

func (d *decoder) xattrs(e *view.Entry) {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return
	}
	e.Xattrs = make(map[string]string, n)
	for range n {
		name := d.string()
		e.Xattrs[name] = d.string()
	}
}

func (d *decoder) digest() digest.Digest {
	start := len(d.hexes)
	if d.undigested && len(d.rest) >= 32 {
		d.sum, d.rest = d.rest[:32], d.rest[32:]
		return ""
	}
	if len(d.rest) < 32 || cap(d.hexes)-start < 71 {
		d.bad = true
		return ""
	}
	d.hexes = append(d.hexes, "sha256:"...)
	d.hexes = hex.AppendEncode(d.hexes, d.rest[:32])
	d.rest = d.rest[32:]
	return digest.Digest(d.digests[start : start+71])
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return ""
	}
	at := len(d.text) - len(d.rest)
	d.rest = d.rest[n:]
	return d.text[at : at+int(n)]
}

func (d *decoder) uint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 {
		v := d.rest[0]
		d.rest = d.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}
