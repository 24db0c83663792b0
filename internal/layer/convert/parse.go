package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// parser makes the table of contents of a tar that is not trusted.
type parser struct {
	tar    *tarstream.Reader
	files  *index.Builder
	into   *treeStream // or nil
	digest bool        // of every content; without a tree
}

// Parsed is what reading a tar gives.
type Parsed struct {
	Table *toc.Encoder // without the DiffID
	Size  int64        // bytes read
	// Unpacked: the tree is made, too.
	Unpacked bool
}

// Finish returns the file of the table of contents of the layer id.
func (p *Parsed) Finish(id digest.Digest) ([]byte, toc.Summary) {
	return p.Table.Finish(id, p.Size, false)
}

// Parse reads the tar of a layer to its end, trailing bytes included, and computes the digests of all contents.
func Parse(ctx context.Context, r io.Reader) (*Parsed, error) {
	return (&parser{digest: true}).parse(ctx, r)
}

// Skim is Parse without the digests of the contents: computing them takes a third of the time in which a layer arrives, and
// few layers are ever asked for them. It makes the tree with w, if that is not nil and the tar allows it.
func Skim(ctx context.Context, r io.Reader, w tree.Writer) (*Parsed, error) {
	if w == nil {
		return (&parser{}).parse(ctx, r)
	}
	into := newTreeStream(ctx, w)
	defer into.close()
	return (&parser{into: into}).parse(ctx, r)
}

func (p *parser) parse(ctx context.Context, r io.Reader) (*Parsed, error) {
	var err error
	if p.tar, err = tarstream.NewReader(ctx, r); err != nil {
		return nil, err
	}
	p.files = index.NewBuilder("", 64)
	for {
		m, err := p.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := p.member(m); err != nil {
			return nil, err
		}
	}
	table := p.files.Table()
	table.Undigested = !p.digest
	if p.into != nil && p.files.Revised() {
		if err := p.into.giveUp(); err != nil {
			return nil, err
		}
	}
	if p.into != nil {
		if err := p.into.finish(p.files.Root()); err != nil {
			return nil, err
		}
	}
	return &Parsed{Table: table, Size: p.tar.Size(), Unpacked: p.into != nil && p.into.whole}, nil
}

// member puts a member of the tar into the index.
func (p *parser) member(m tarstream.Member) error {
	into := p.into
	if m.Kind == tarstream.Nameless {
		into = nil
	}
	if HasContent(m.Entry) {
		m.Entry.ModTime = tree.Time(m.Entry.ModTime)
		if err := p.file(m.Entry, m.Place, into); err != nil {
			return err
		}
	}
	return p.add(m)
}

// add puts a member into the index whose content is read, or is not there.
func (p *parser) add(m tarstream.Member) error {
	if m.Kind == tarstream.File || m.Kind == tarstream.Nameless {
		m.Entry.ModTime = tree.Time(m.Entry.ModTime)
	}
	switch m.Kind {
	case tarstream.Opaque:
		return p.files.Opaque(m.Entry.Path)
	case tarstream.Removal:
		return p.files.Add(m.Entry, toc.Place{})
	case tarstream.Whiteout:
		return p.files.Replace(m.Entry)
	case tarstream.Nameless:
		return p.files.AddNameless(m.Entry, m.Place)
	}
	return p.files.Add(m.Entry, m.Place)
}

// file reads a file's content, into its digest or into the tree.
func (p *parser) file(e *view.Entry, at toc.Place, into *treeStream) error {
	switch {
	case p.digest:
		hash := sha256.New()
		err := p.tar.CopyContent(hash, e)
		e.Digest = digest.NewDigest(digest.SHA256, hash)
		return err
	case into == nil:
		return p.tar.CopyContent(io.Discard, e)
	}
	out, err := into.create(p.files, e, at)
	if err != nil {
		return err
	}
	if err := p.tar.CopyContent(out, e); err != nil {
		return err
	}
	return into.end()
}
