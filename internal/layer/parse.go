package layer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// tarParser reads somebody else's tar to its end and makes its table of contents.
type tarParser struct {
	tar    *tarstream.Reader
	index  *index
	tree   *treeStream // or nil
	digest bool        // of every content
}

// parseTar reads r to its end, trailing bytes included, and returns the table of contents, which lacks the DiffID, and
// the number of bytes read.
func parseTar(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	return (&tarParser{digest: true}).parse(ctx, r)
}

// skimTar is parseTar without the digests of the contents, which take a third of the time that a layer takes to arrive and
// which few layers are ever asked for; it makes the tar's tree if tree is not nil.
func skimTar(ctx context.Context, r io.Reader, tree *treeStream) (*toc.Encoder, int64, error) {
	return (&tarParser{tree: tree}).parse(ctx, r)
}

func (p *tarParser) parse(ctx context.Context, r io.Reader) (*toc.Encoder, int64, error) {
	var err error
	if p.tar, err = tarstream.NewReader(ctx, r); err != nil {
		return nil, 0, err
	}
	p.index = newIndex("", 64)
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
	table := p.index.encode()
	table.Undigested = !p.digest
	if p.tree != nil && p.index.revised {
		if err := p.tree.giveUp(); err != nil {
			return nil, 0, err
		}
	}
	if p.tree != nil {
		if err := p.tree.finish(p.index.root); err != nil {
			return nil, 0, err
		}
	}
	return table, p.tar.Size(), nil
}

// member puts a member of the tar into the index.
func (p *tarParser) member(m tarstream.Member) error {
	e, tree := m.Entry, p.tree
	switch m.Kind {
	case tarstream.Opaque:
		return p.index.opaque(e.Path)
	case tarstream.Removal:
		return p.index.add(e, toc.Place{})
	case tarstream.Whiteout:
		return p.index.replace(e)
	case tarstream.Nameless:
		tree = nil
	}
	e.ModTime = heldTime(e.ModTime)
	if hasContent(e) {
		if err := p.file(e, m.Place, tree); err != nil {
			return err
		}
	}
	if m.Kind == tarstream.Nameless {
		return p.index.hide(e, m.Place)
	}
	return p.index.add(e, m.Place)
}

// file reads a file's content, into its digest and the tree, if there is one to make.
func (p *tarParser) file(e *view.Entry, at toc.Place, tree *treeStream) (err error) {
	out := io.Discard
	if tree != nil {
		if out, err = tree.create(p.index, e, at); err != nil {
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
	if err != nil || tree == nil {
		return err
	}
	return tree.end()
}

// heldTime is a time as files have it. One that not every filesystem can hold is taken for 1970, as Docker does with those that
// nanoseconds since then cannot say; others would be cut off at a year that differs from tree to tree.
func heldTime(t time.Time) time.Time {
	if year := t.UTC().Year(); year < minYear || year > maxYear {
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// encode returns the table of contents of what add was given, in tar order. A file with several names stands where its
// content does, under the first name that is left of it.
func (x *index) encode() *toc.Encoder {
	var nodes []*node
	var collect func(n *node)
	collect = func(n *node) {
		if n.described || n.entry.Opaque || n.isDir() && len(n.kids) == 0 && n != x.root {
			nodes = append(nodes, n)
		}
		for _, kid := range n.kids {
			collect(kid)
		}
	}
	collect(x.finish())
	for _, g := range x.groups {
		if len(g.names) == 0 {
			continue
		}
		g.settle(func(a, b *node) int { return cmp.Compare(a.order, b.order) })
		g.names[0].order = g.order
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.order, b.order) })
	t := &toc.Encoder{}
	number := make(map[*node]int)
	for i, n := range nodes {
		first := 0
		if n.links != nil {
			number[n] = i
			first = number[n.links.names[0]]
		}
		n.place.Implied = !n.described
		t.Add(n.entry, n.place, first)
	}
	return t
}
