package convert

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
)

// Listed is a header of a tar that is not read: a list of its headers is.
type Listed struct {
	tar.Header
	Digest digest.Digest // of the content; "" without one
	At     int64         // a number that no other content has, larger than those before it
}

// List makes the table of contents of a layer of a list of the headers of its tar, which is not trusted. next returns the headers in the
// order of the tar, and then io.EOF. The offsets of the contents are Listed.At.
func List(ctx context.Context, next func() (*Listed, error)) (*Parsed, error) {
	headers, err := tarstream.NewHeaders()
	if err != nil {
		return nil, err
	}
	p := &parser{files: index.NewBuilder("", 64)}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		m, ok, err := headers.Member(&h.Header, toc.Place{Offset: h.At})
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if HasContent(m.Entry) {
			m.Entry.Digest = h.Digest
		}
		if err := p.add(m); err != nil {
			return nil, err
		}
	}
	return &Parsed{Table: p.files.Table()}, nil
}
