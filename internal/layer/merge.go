package layer

import (
	"context"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/view"
)

// indexOf returns the index of one layer, whiteouts included.
func (l *Layers) indexOf(ctx context.Context, id digest.Digest) (*node, error) {
	t, err := l.TOC(ctx, id)
	if err != nil {
		return nil, err
	}
	return t.index()
}

// index builds the layer's files from their records.
func (t *TOC) index() (*node, error) {
	x := newIndex(t.summary.diffID, len(t.Entries))
	for i, e := range t.Entries {
		if err := x.add(e, t.where[i]); err != nil {
			return nil, fail(t.summary.diffID, errTOC)
		}
	}
	root := x.finish()
	for _, g := range x.groups {
		g.settle(func(a, b *node) int { return strings.Compare(a.entry.Path, b.entry.Path) })
	}
	return root, nil
}

// merged returns the files of a chain. Every chain that this process has met is remembered, since a build goes on from
// one to the next; they share what they have in common.
func (l *Layers) merged(ctx context.Context, chain []digest.Digest) (*node, error) {
	keys := identity.ChainIDs(append([]digest.Digest(nil), chain...))
	known := len(chain)
	var root *node
	l.mu.Lock()
	for ; known > 0 && root == nil; known-- {
		if root = l.chains[keys[known-1]]; root != nil {
			break
		}
	}
	l.mu.Unlock()
	layers := make([]*node, len(chain))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := known; i < len(chain); i++ {
		g.Go(func() (err error) {
			defer crash.Recover(&err)
			layers[i], err = l.indexOf(gctx, chain[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := known; i < len(chain); i++ {
		root = merge(root, layers[i])
		l.mu.Lock()
		l.chains[keys[i]] = root
		l.mu.Unlock()
	}
	return root, nil
}

// merge puts the files of a layer over those beneath it (nil for none), as overlayfs does, and returns nil for a
// removal. Neither side is changed; directories that only one side has are shared.
func merge(lower, upper *node) *node {
	if upper.entry.Type == view.TypeWhiteout {
		return nil
	}
	if lower == nil || !lower.isDir() || !upper.isDir() {
		return bare(upper)
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
	out.kids = make([]*node, 0, max(len(lower.kids), len(upper.kids)))
	i, j := 0, 0
	for i < len(lower.kids) || j < len(upper.kids) {
		switch {
		case j == len(upper.kids) || i < len(lower.kids) && lower.kids[i].name < upper.kids[j].name:
			out.kids = append(out.kids, lower.kids[i])
			i++
		case i == len(lower.kids) || upper.kids[j].name < lower.kids[i].name:
			out.keep(merge(nil, upper.kids[j]))
			j++
		default:
			out.keep(merge(lower.kids[i], upper.kids[j]))
			i, j = i+1, j+1
		}
	}
	return out
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
		out.keep(merge(nil, kid))
	}
	return &out
}
