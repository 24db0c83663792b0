package layer

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

// tarParser reads somebody else's tar to its end and makes its table of contents.
type tarParser struct {
	tar    *tarstream.Reader
	files  *index.Builder
	into   *treeStream // or nil
	digest bool        // of every content
}

// parseTar reads r to its end, trailing bytes included, and returns the table of contents, which lacks the DiffID, and
// the number of bytes read.
func parseTar(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	return (&tarParser{digest: true}).parse(ctx, r)
}

// skimTar is parseTar without the digests of the contents, which take a third of the time that a layer takes to arrive and
// which few layers are ever asked for. It makes the tree if into is not nil.
func skimTar(ctx context.Context, r io.Reader, into *treeStream) (*toc.Encoder, int64, error) {
	return (&tarParser{into: into}).parse(ctx, r)
}

func (p *tarParser) parse(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	var err error
	if p.tar, err = tarstream.NewReader(ctx, r); err != nil {
		return nil, 0, err
	}
	p.files = index.NewBuilder("", 64)
	for {
		m, err := p.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		if err := p.member(m); err != nil {
			return nil, 0, err
		}
	}
	table := p.files.Table()
	table.Undigested = !p.digest
	if p.into != nil && p.files.Revised() {
		if err := p.into.giveUp(); err != nil {
			return nil, 0, err
		}
	}
	if p.into != nil {
		if err := p.into.finish(p.files.Root()); err != nil {
			return nil, 0, err
		}
	}
	return table, p.tar.Size(), nil
}

// member puts a member of the tar into the index.
func (p *tarParser) member(m tarstream.Member) error {
	e, into := m.Entry, p.into
	switch m.Kind {
	case tarstream.Opaque:
		return p.files.Opaque(e.Path)
	case tarstream.Removal:
		return p.files.Add(e, toc.Place{})
	case tarstream.Whiteout:
		return p.files.Replace(e)
	case tarstream.Nameless:
		into = nil
	}
	e.ModTime = tree.Time(e.ModTime)
	if hasContent(e) {
		if err := p.file(e, m.Place, into); err != nil {
			return err
		}
	}
	if m.Kind == tarstream.Nameless {
		return p.files.AddNameless(e, m.Place)
	}
	return p.files.Add(e, m.Place)
}

// file reads a file's content, into its digest and the tree, if there is one to make.
func (p *tarParser) file(e *view.Entry, at toc.Place, into *treeStream) (err error) {
	out := io.Discard
	if into != nil {
		if out, err = into.create(p.files, e, at); err != nil {
			return err
		}
	}
	if !p.digest {
		err = p.tar.CopyContent(out, e)
	} else {
		hash := sha256.New()
		err = p.tar.CopyContent(io.MultiWriter(hash, out), e)
		e.Digest = digest.NewDigest(digest.SHA256, hash)
	}
	if err != nil || into == nil {
		return err
	}
	return into.end()
}
