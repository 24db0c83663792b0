package layer

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// A record begins with a byte of type and a byte of these.
const (
	recHardlink = 1 << iota
	recOpaque
	recXattrs
	recNanoseconds
	recSparse
	recImplied
)

// tocEncoder encodes a table of contents record by record, in tar order.
type tocEncoder struct {
	body []byte
	sum  summary
	end  int64 // where the last content ended

	dirs map[string]bool // those with an entry
	dir  string          // of the last entry
	odd  bool            // see summary.plain
}

// notice looks whether an entry makes the layer other than plain. A directory that stands behind what is in it counts as one
// without an entry: that costs a look at the layer, no more.
func (t *tocEncoder) notice(e *view.Entry, implied bool) {
	if dir, _ := splitPath(e.Path); dir != t.dir {
		t.odd = t.odd || dir != "." && !t.dirs[dir]
		t.dir = dir
	}
	if e.IsDir() {
		if t.dirs == nil {
			t.dirs = make(map[string]bool)
		}
		t.dirs[e.Path] = true
	}
	t.sum.devices = t.sum.devices || isDevice(e)
	t.odd = t.odd || implied || e.Opaque || e.Type == view.TypeWhiteout
}

// add appends e, whose content stands at p. link is the number of the entry that a hardlink's first name has.
func (t *tocEncoder) add(e *view.Entry, p place, link int) {
	t.notice(e, p.implied)
	flags := byte(0)
	for _, f := range []struct {
		on   bool
		flag byte
	}{
		{e.Hardlink != "", recHardlink},
		{e.Opaque, recOpaque},
		{len(e.Xattrs) > 0, recXattrs},
		{e.ModTime.Nanosecond() != 0, recNanoseconds},
		{p.sparse, recSparse},
		{p.implied, recImplied},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	t.body = append(t.body, byte(e.Type), flags)
	b := appendString(t.body, e.Path)
	if flags&recHardlink != 0 {
		t.body = binary.AppendUvarint(b, uint64(link))
		t.sum.entries++
		return
	}
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	seconds := int64(0)
	if !e.ModTime.IsZero() {
		seconds = e.ModTime.Unix()
	}
	b = binary.AppendVarint(b, seconds)
	if flags&recNanoseconds != 0 {
		b = binary.AppendUvarint(b, uint64(e.ModTime.Nanosecond()))
	}
	if flags&recXattrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
		for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
			b = appendString(appendString(b, k), e.Xattrs[k])
		}
	}
	t.body = t.appendKind(b, e, p)
	t.sum.entries++
}

// appendKind appends what only entries of e's type have.
func (t *tocEncoder) appendKind(b []byte, e *view.Entry, p place) []byte {
	switch e.Type {
	case view.TypeRegular:
		b = binary.AppendUvarint(b, uint64(e.Size))
		t.sum.size += e.Size
		if e.Size == 0 {
			break
		}
		t.sum.digests++
		b = append(b, rawDigest(e.Digest)...)
		b = binary.AppendUvarint(b, uint64(p.offset-t.end))
		t.end = p.offset
		if !p.sparse {
			t.end += e.Size
		}
	case view.TypeSymlink:
		b = appendString(b, e.Linkname)
		t.sum.size += int64(len(e.Linkname))
	case view.TypeChar, view.TypeBlock:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	return b
}

// finish returns the whole file for a layer of this identity.
func (t *tocEncoder) finish(id digest.Digest, tarSize int64, canonical bool) []byte {
	t.sum.diffID, t.sum.tarSize, t.sum.canonical = id, tarSize, canonical
	t.sum.plain = !t.odd
	t.sum.bodySize, t.sum.bodySum = int64(len(t.body)), tocSum(t.body)
	return append(t.sum.encode(), t.body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// rawDigest is the 32 bytes of a sha256 digest.
func rawDigest(d digest.Digest) []byte {
	if d == "" {
		return make([]byte, 32)
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil || len(raw) != 32 {
		return make([]byte, 32)
	}
	return raw
}
