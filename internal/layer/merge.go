package layer

import (
	"context"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// indexOf returns the index of one layer, whiteouts included.
func (l *Layers) indexOf(ctx context.Context, id digest.Digest) (*node, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return nil, err
	}
	return indexTable(t)
}

// indexTable builds the layer's files from their records.
func indexTable(t *toc.Table) (*node, error) {
	x := newIndex(t.DiffID, len(t.Entries))
	for i, e := range t.Entries {
		if err := x.add(e, t.Places[i]); err != nil {
			return nil, fail(t.DiffID, toc.ErrDamaged)
		}
	}
	root := x.finish()
	for _, g := range x.groups {
		g.settle(func(a, b *node) int { return strings.Compare(a.entry.Path, b.entry.Path) })
	}
	return root, nil
}

// merged returns the files of a chain, whose ChainIDs and those of all that it begins with are keys. The chains that were
// used last are remembered, since a build goes on from one to the next; they share what they have in common.
func (l *Layers) merged(ctx context.Context, chain, keys []digest.Digest) (*node, error) {
	known := len(chain)
	var root *node
	for ; known > 0; known-- {
		if root = l.chains.get(keys[known-1]); root != nil {
			break
		}
	}
	behind := func(layer digest.Digest, name string) *view.Entry { return l.behind(ctx, layer, name) }
	layers := make([]*node, len(chain)-known)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, id := range chain[known:] {
		g.Go(func() (err error) {
			defer crash.Recover(&err)
			layers[i], err = l.indexOf(gctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, upper := range layers {
		root = merge(root, upper, behind)
		l.chains.add(keys[known+i], root)
	}
	return root, nil
}

// behind returns the directory that a name leads to through the symlinks of a layer, in that layer; nil for none.
func (l *Layers) behind(ctx context.Context, layer digest.Digest, name string) *view.Entry {
	own, err := l.View(ctx, []digest.Digest{layer})
	if err != nil {
		return nil
	}
	real, err := view.Resolve(ctx, own, name, true)
	if err != nil {
		return nil
	}
	e, err := own.Lstat(ctx, real)
	if err != nil || !e.IsDir() {
		return nil
	}
	e = e.Clone()
	e.Path, e.Opaque = name, false
	return e
}

// merge puts the files of a layer over those beneath it (nil for none), as overlayfs does, and returns nil for a
// removal. Neither side is changed; directories that only one side has are shared.
func merge(lower, upper *node, behind func(layer digest.Digest, name string) *view.Entry) *node {
	if upper.entry.Type == view.TypeWhiteout {
		return nil
	}
	if lower == nil || !lower.isDir() || !upper.isDir() {
		out := bare(upper)
		if lower != nil && lower.entry.Type == view.TypeSymlink {
			out = out.overLink(func(name string) *view.Entry { return behind(lower.layer, name) })
		}
		return out
	}
	if upper.entry.Opaque {
		out := bare(upper)
		if !upper.described {
			out.entry, out.layer = lower.entry, lower.layer
		}
		return out
	}
	out := &node{name: upper.name, entry: upper.entry, layer: upper.layer, described: true}
	if !upper.described {
		out.entry, out.layer = lower.entry, lower.layer
	}
	out.kids = make([]*node, 0, len(lower.kids)+len(upper.kids))
	rest := lower.kids
	for _, kid := range upper.kids {
		i, there := search(rest, kid.name)
		out.kids = append(out.kids, rest[:i]...)
		rest = rest[i:]
		if there {
			out.keep(merge(rest[0], kid, behind))
			rest = rest[1:]
		} else {
			out.keep(merge(nil, kid, nil))
		}
	}
	out.kids = append(out.kids, rest...)
	return out
}

// overLink returns what is in the place of a symlink of a layer below. Directories without entries of their own look as those
// that the link leads to, as containerd has it (mkparent).
func (n *node) overLink(behind func(name string) *view.Entry) *node {
	if !n.isDir() {
		return n
	}
	out := *n
	if e := behind(n.entry.Path); e != nil && !n.described {
		out.entry = e
	}
	out.kids = make([]*node, len(n.kids))
	for i, kid := range n.kids {
		out.kids[i] = kid.overLink(behind)
	}
	return &out
}

func (n *node) keep(kid *node) {
	if kid != nil {
		n.kids = append(n.kids, kid)
	}
}

// bare is a layer's file or directory with nothing beneath it to be hidden: whiteouts and opaque marks fall away.
func bare(n *node) *node {
	if !n.hides {
		return n
	}
	out := *n
	out.hides = false
	if n.entry.Opaque {
		out.entry = n.entry.Clone()
		out.entry.Opaque = false
	}
	out.kids = make([]*node, 0, len(n.kids))
	for _, kid := range n.kids {
		out.keep(merge(nil, kid, nil))
	}
	return &out
}
