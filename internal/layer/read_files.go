package layer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// ReadFiles calls visit with the content of regular files of one layer, in any order, until it fails. A layer that is a compressed
// blob is decompressed once, up to the last of them, and not unpacked. What visit leaves is passed over.
func (l *Layers) ReadFiles(ctx context.Context, id digest.Digest, paths []string, visit func(path string, content io.Reader) error) error {
	root, err := l.indexOf(ctx, id)
	if err != nil {
		return err
	}
	nodes := make([]*index.Node, 0, len(paths))
	for _, p := range paths {
		n := root.Descend(p)
		if n == nil || n.Entry.Type != view.TypeRegular {
			return &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		nodes = append(nodes, n)
	}
	blobs, err := l.blobs(id)
	if err != nil {
		return err
	}
	streamed := nodes[:0:0]
	for _, n := range nodes {
		if len(nodes) >= maxStreams && !l.unpacked(id) && !holds(blobs, id) && !n.Place.Sparse && n.Entry.Size > 0 {
			streamed = append(streamed, n)
			continue
		}
		if err := l.visitOne(ctx, n, visit); err != nil {
			return err
		}
	}
	return l.visitStream(ctx, id, streamed, visit)
}

func (l *Layers) visitOne(ctx context.Context, n *index.Node, visit func(path string, content io.Reader) error) (err error) {
	f, err := l.openContent(ctx, n)
	if err != nil {
		return fmt.Errorf("open %q: %w", n.Entry.Path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return visit(n.Entry.Path, f)
}

// visitStream reads files in the order of the layer's tar.
func (l *Layers) visitStream(ctx context.Context, id digest.Digest, nodes []*index.Node, visit func(path string, content io.Reader) error) error {
	if len(nodes) == 0 {
		return nil
	}
	slices.SortStableFunc(nodes, func(a, b *index.Node) int { return cmp.Compare(a.Place.Offset, b.Place.Offset) })
	r, err := l.OpenTar(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it ends before the tar does
	at := int64(0)
	for _, n := range nodes {
		if n.Place.Offset < at { // another name of the file before it
			if err := l.visitOne(ctx, n, visit); err != nil {
				return err
			}
			continue
		}
		if _, err := io.CopyN(io.Discard, r, n.Place.Offset-at); err != nil {
			return fail(id, err)
		}
		content := io.LimitedReader{R: r, N: n.Entry.Size}
		if err := visit(n.Entry.Path, &content); err != nil {
			return err
		}
		at = n.Place.Offset + n.Entry.Size - content.N
	}
	return nil
}
