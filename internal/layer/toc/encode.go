package toc

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// The second byte of a record, after its type, is made of these flags.
const (
	recHardlink = 1 << iota
	recOpaque
	recXattrs
	recNanoseconds
	recSparse
	recImplied
)

// Encoder encodes a table of contents record by record, in tar order.
type Encoder struct {
	// Undigested: the entries have no digests.
	Undigested bool

	body []byte
	sum  Summary
	end  int64 // of the last content

	dirs map[string]bool // that have an entry
	dir  string          // of the last entry
	odd  bool            // see Summary.Plain
}

// notice keeps account of Summary.Plain and Devices. A directory whose entry comes after one of a file in it counts as one without
// an entry: the layer is then looked at more closely, no more.
func (t *Encoder) notice(e *view.Entry, implied bool) {
	if dir, _ := view.Split(e.Path); dir != t.dir {
		t.odd = t.odd || dir != "." && !t.dirs[dir]
		t.dir = dir
	}
	if e.IsDir() {
		if t.dirs == nil {
			t.dirs = make(map[string]bool)
		}
		t.dirs[e.Path] = true
	}
	t.sum.Devices = t.sum.Devices || IsDevice(e)
	t.odd = t.odd || implied || e.Opaque || e.Type == view.TypeWhiteout
}

// Add appends e, whose content is at p. link is the number of the entry of a hardlink's first name.
func (t *Encoder) Add(e *view.Entry, p Place, link int) {
	t.notice(e, p.Implied)
	flags := byte(0)
	for _, f := range []struct {
		on   bool
		flag byte
	}{
		{e.Hardlink != "", recHardlink},
		{e.Opaque, recOpaque},
		{len(e.Xattrs) > 0, recXattrs},
		{e.ModTime.Nanosecond() != 0, recNanoseconds},
		{p.Sparse, recSparse},
		{p.Implied, recImplied},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	t.body = append(t.body, byte(e.Type), flags)
	b := appendString(t.body, e.Path)
	if flags&recHardlink != 0 {
		t.body = binary.AppendUvarint(b, uint64(link))
		t.sum.Count++
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
	t.sum.Count++
}

// appendKind appends what only entries of e's type have.
func (t *Encoder) appendKind(b []byte, e *view.Entry, p Place) []byte {
	switch e.Type {
	case view.TypeRegular:
		b = binary.AppendUvarint(b, uint64(e.Size))
		t.sum.Size += e.Size
		if e.Size == 0 {
			break
		}
		t.sum.digests++
		b = append(b, RawDigest(e.Digest)...)
		b = binary.AppendUvarint(b, uint64(p.Offset-t.end))
		t.end = p.Offset
		if !p.Sparse {
			t.end += e.Size
		}
	case view.TypeSymlink:
		b = appendString(b, e.Linkname)
		t.sum.Size += int64(len(e.Linkname))
	case view.TypeChar, view.TypeBlock:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	return b
}

// Finish returns the file of the table of contents of the layer id.
func (t *Encoder) Finish(id digest.Digest, tarSize int64, canonical bool) ([]byte, Summary) {
	t.sum.DiffID, t.sum.TarSize, t.sum.Canonical = id, tarSize, canonical
	t.sum.Plain, t.sum.Undigested = !t.odd, t.Undigested && t.sum.digests > 0
	t.sum.bodySize, t.sum.bodySum = int64(len(t.body)), checksum(t.body)
	return append(t.sum.encode(), t.body...), t.sum
}

// Summary describes the entries added so far.
func (t *Encoder) Summary() Summary { return t.sum }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// IsDevice reports whether e is a device node.
func IsDevice(e *view.Entry) bool { return e.Type == view.TypeChar || e.Type == view.TypeBlock }
