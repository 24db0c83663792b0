// Package tarstream reads and writes the tar of a layer: Docker's and the OCI image-spec's rules for names, whiteouts and types on
// one side, files as a view has them on the other. What it writes is the same on every machine, for ever.
package tarstream

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/view"
)

// Reader reads the tar of a layer, which is not trusted, member by member. The quota of the layer limits what it reads.
type Reader struct {
	Headers
	ctx     context.Context
	in      CountingReader
	tar     *tar.Reader
	headers int
	buf     []byte
}

// Headers reads the meanings of the headers of a layer's tar, which are not trusted, one after the other. The quota of the layer limits
// how many there are.
type Headers struct{ quota *quota.Quota }

// Member is what one or more entries of the tar say of a file.
type Member struct {
	Kind  Kind
	Entry *view.Entry // the path alone, of an opaque directory
	Place toc.Place
}

// NewReader returns a Reader of r.
func NewReader(ctx context.Context, r io.Reader) (*Reader, error) {
	headers, err := NewHeaders()
	if err != nil {
		return nil, err
	}
	t := &Reader{Headers: *headers, ctx: ctx, buf: make([]byte, 64<<10)}
	t.in.R = t.quota.Reader(r)
	t.tar = tar.NewReader(&t.in)
	return t, nil
}

// NewHeaders returns the Headers of one layer.
func NewHeaders() (*Headers, error) {
	q, err := quota.New()
	return &Headers{q}, err
}

// Size is the number of bytes read.
func (t *Reader) Size() int64 { return t.in.N }

// Next returns the next member. After the last it reads what follows the archive, and returns io.EOF.
func (t *Reader) Next() (Member, error) {
	for {
		if err := t.ctx.Err(); err != nil {
			return Member{}, err
		}
		start, err := t.nextHeader()
		if err != nil {
			return Member{}, t.explain(err)
		}
		h, err := t.tar.Next()
		if errors.Is(err, io.EOF) {
			return Member{}, t.drain()
		}
		if err != nil {
			return Member{}, t.explain(err)
		}
		t.headers++
		at := toc.Place{Offset: t.in.N}
		if isSparse(h) {
			at = toc.Place{Offset: start, Sparse: true}
		}
		m, ok, err := t.Member(h, at)
		if err != nil || ok {
			return m, err
		}
	}
}

// nextHeader reads to the end of a member and returns the position of the first header block of the next.
func (t *Reader) nextHeader() (int64, error) {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{t.tar}) // content that was not read
	return t.in.N + padding(t.in.N), err
}

// drain reads to the end of the stream, and returns io.EOF there.
func (t *Reader) drain() error {
	for {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		if _, err := t.in.Read(t.buf); err != nil {
			return err
		}
	}
}

// Member returns the meaning of a header whose content is at a place; ok is false if it has none in a layer.
func (t *Headers) Member(h *tar.Header, at toc.Place) (m Member, ok bool, err error) {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == 'V' {
		return m, false, nil // archive-wide records (a git commit), a volume's label: not files
	}
	if err := t.take(h); err != nil {
		return m, false, err
	}
	name, err := entryName(h.Name)
	if err != nil {
		return m, false, err
	}
	name, kind, err := kindOf(name)
	if err != nil {
		return m, false, err
	}
	switch {
	case kind == ignored:
		return m, false, nil
	case kind == Opaque:
		return Member{Kind: kind, Entry: &view.Entry{Path: name, Type: view.TypeDir}}, true, nil
	case kind == Removal:
		return Member{Kind: kind, Entry: &view.Entry{Path: name, Type: view.TypeWhiteout}}, true, nil
	case name == "." || kind == Nameless && h.Typeflag != tar.TypeReg:
		return m, false, nil
	}
	e, err := describe(h, name)
	if err != nil {
		return m, false, err
	}
	if e.Type == view.TypeWhiteout {
		return Member{Kind: Whiteout, Entry: e}, true, nil
	}
	return Member{kind, e, at}, true, nil
}

// take takes a member from the layer's quota.
func (t *Headers) take(h *tar.Header) error {
	if err := t.quota.Entry(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return t.quota.Content(h.Size)
	}
	return nil
}

// CopyContent copies the content of e, the entry of the last member, to w.
func (t *Reader) CopyContent(w io.Writer, e *view.Entry) error {
	for size := int64(0); ; {
		n, err := t.tar.Read(t.buf)
		if _, err := w.Write(t.buf[:n]); err != nil {
			return err
		}
		size += int64(n)
		if errors.Is(err, io.EOF) {
			if size == e.Size {
				return nil
			}
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("layer entry %q: %w", e.Path, t.explain(err))
		}
		if err := t.ctx.Err(); err != nil {
			return err
		}
	}
}

// explain returns the error of the tar reader as users see it.
func (t *Reader) explain(err error) error {
	var compressed *compression.Error
	switch {
	case errors.As(err, &compressed):
		return compressed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("tar ends too early")
	case errors.Is(err, tar.ErrHeader) && t.headers == 0:
		return errors.New("not a tar archive")
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("tar is damaged before byte %d", t.in.N)
	}
	return err
}

// OpenSparse returns the content of the sparse file whose first header block r begins with.
func OpenSparse(r io.Reader) (io.Reader, error) {
	t := tar.NewReader(r)
	if _, err := t.Next(); err != nil {
		return nil, err
	}
	return t, nil
}

// CountingReader counts the bytes read from R.
type CountingReader struct {
	R io.Reader
	N int64
}

func (c *CountingReader) Read(p []byte) (int, error) {
	n, err := c.R.Read(p)
	c.N += int64(n)
	return n, err
}
