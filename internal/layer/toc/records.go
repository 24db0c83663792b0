package toc

import (
	"unsafe"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// List is the entries of a table of contents, as a Table or as Records.
type List interface {
	Info() Summary
	Len() int
	// Read sets e to the entry with the number i, with or without its digest, and reports whether it is implied: see Place.Implied.
	Read(i int, e *view.Entry) (implied bool)
	// Entry returns the entry with the number i. It is not to be changed.
	Entry(i int) *view.Entry
	// Sum returns the sha256 of a regular file that is not empty; ok is false if it is not known.
	Sum(i int) (sum [32]byte, ok bool)
}

// Info returns the summary of the table.
func (t *Table) Info() Summary { return t.Summary }

// Len is the number of entries.
func (t *Table) Len() int { return len(t.Entries) }

// Read is List.Read.
func (t *Table) Read(i int, e *view.Entry) (implied bool) {
	*e = *t.Entries[i]
	return i < len(t.Places) && t.Places[i].Implied
}

// Entry is List.Entry.
func (t *Table) Entry(i int) *view.Entry { return t.Entries[i] }

// Sum is List.Sum.
func (t *Table) Sum(i int) (sum [32]byte, ok bool) {
	e := t.Entries[i]
	if e.Digest == "" || e.Size == 0 {
		return sum, false
	}
	return [32]byte(RawDigest(e.Digest)), true
}

// Records is a table of contents in its encoded form. An entry is decoded when it is asked for, so that the table takes little more
// memory than its file: a fifth of a Table. It is safe for concurrent use.
type Records struct {
	Summary
	body []byte
	at   []int // where the records begin in body
}

// DecodeRecords checks the table of contents of the layer id: ErrDamaged. The caller must not write to file any more.
func DecodeRecords(file []byte, id digest.Digest) (*Records, error) {
	s, body, err := split(file, id)
	if err != nil {
		return nil, err
	}
	r := &Records{Summary: s, body: body, at: make([]int, s.Count)}
	d := r.decoder(0)
	d.records = nil
	digests := 0
	for i := range r.at {
		r.at[i], d.sum = len(body)-len(d.rest), nil
		var e view.Entry
		var p Place
		if d.entry(i, &e, &p); d.bad {
			return nil, ErrDamaged
		}
		if d.sum != nil {
			digests++
		}
	}
	if len(d.rest) != 0 || digests > s.digests && !s.Undigested {
		return nil, ErrDamaged
	}
	return r, nil
}

// decoder returns a decoder that stands at a position of the body.
func (r *Records) decoder(at int) decoder {
	return decoder{
		rest:       r.body[at:],
		text:       unsafe.String(unsafe.SliceData(r.body), len(r.body)), //nolint:gosec // body is not written to
		records:    r,
		undigested: true,
	}
}

// decode decodes the entry with the number i, without its digest, which it returns; nil if it has none.
func (r *Records) decode(i int, e *view.Entry) (sum []byte, p Place) {
	d := r.decoder(r.at[i])
	d.entry(i, e, &p)
	return d.sum, p
}

// first follows a hard link to the entry that has the file.
func (r *Records) first(i int) int {
	for r.body[r.at[i]+1]&recHardlink != 0 {
		d := r.decoder(r.at[i] + 2)
		_ = d.string()
		i = int(d.uint())
	}
	return i
}

// follow sets e to the entry with the number i, with the file that it is a link to.
func (r *Records) follow(i int, e *view.Entry) {
	r.decode(r.first(i), e)
	d := r.decoder(r.at[i] + 2)
	e.Path = d.string()
}

// Info returns the summary of the table.
func (r *Records) Info() Summary { return r.Summary }

// Len is the number of entries.
func (r *Records) Len() int { return len(r.at) }

// Read is List.Read. e gets no digest.
func (r *Records) Read(i int, e *view.Entry) (implied bool) {
	*e = view.Entry{}
	_, p := r.decode(i, e)
	return p.Implied
}

// Entry is List.Entry.
func (r *Records) Entry(i int) *view.Entry {
	e := &view.Entry{}
	r.Read(i, e)
	switch sum, ok := r.Sum(i); {
	case ok:
		e.Digest = digest.NewDigestFromBytes(digest.SHA256, sum[:])
	case e.Type == view.TypeRegular && e.Size == 0:
		e.Digest = emptyDigest
	}
	return e
}

// Sum is List.Sum.
func (r *Records) Sum(i int) (sum [32]byte, ok bool) {
	if r.Undigested {
		return sum, false
	}
	var e view.Entry
	b, _ := r.decode(r.first(i), &e)
	return sum, copy(sum[:], b) == len(sum)
}
