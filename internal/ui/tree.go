package ui

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// change is what a layer does to a file.
type change uint8

// The changes. In the tree of all layers every file is unchanged.
const (
	unchanged change = iota
	added
	modified
	removed
)

func (c change) String() string { return [...]string{"", "added", "modified", "removed"}[c] }

// file is a file of a layer, or of all layers of an image. A directory has the sums of what is in it.
type file struct {
	name   string
	entry  *view.Entry
	layer  int // that has the file, from the bottom
	change change
	size   int64 // content, a file with several names once
	count  int   // of files that are not directories
	kids   []*file
}

// find returns the file of a path, or nil.
func (f *file) find(name string) *file {
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == "" {
			continue
		}
		i, ok := slices.BinarySearchFunc(f.kids, part, func(kid *file, name string) int { return strings.Compare(kid.name, name) })
		if !ok {
			return nil
		}
		f = f.kids[i]
	}
	return f
}

// imageTree has the files of an image.
type imageTree struct {
	view   view.View // for contents
	layers []*file   // bottom first, each with what the layer changes
	merged *file
	count  int // of files, in all of them
}

// loadTree reads the tables of contents of a chain.
func loadTree(ctx context.Context, layers *layer.Layers, chain []digest.Digest) (*imageTree, error) {
	t := &imageTree{}
	number := map[digest.Digest]int{}
	var below *index.Node
	for i, id := range chain {
		number[id] = i // of a layer that occurs twice, the upper one
		table, err := layers.TOC(ctx, id)
		if err != nil {
			return nil, err
		}
		root, err := index.FromTable(table)
		if err != nil {
			return nil, err
		}
		b := &treeBuilder{layerOf: func(digest.Digest) int { return i }, seen: map[*index.Node]bool{}}
		t.layers = append(t.layers, b.changes(root, below))
		t.count += b.count
		below = index.Merge(below, root, func(digest.Digest, string) *view.Entry { return nil })
	}
	if below == nil {
		below = &index.Node{Entry: index.ImpliedDir(".")}
	}
	b := &treeBuilder{layerOf: func(id digest.Digest) int { return number[id] }, seen: map[*index.Node]bool{}}
	t.merged = b.files(below)
	t.count += b.count
	var err error
	t.view, err = layers.View(ctx, chain)
	return t, err
}

// treeBuilder makes files of the nodes of an index.
type treeBuilder struct {
	layerOf func(digest.Digest) int
	seen    map[*index.Node]bool // the first names of files with several, whose content has been counted
	count   int
}

// file makes a file of a node, without what is in it.
func (b *treeBuilder) file(n *index.Node) *file {
	b.count++
	f := &file{name: path.Base(n.Entry.Path), entry: n.Entry, layer: b.layerOf(n.Layer)}
	if n.IsDir() {
		return f
	}
	f.count = 1
	if names := n.Names(); names == nil {
		f.size = n.Entry.Size
	} else if !b.seen[names[0]] {
		b.seen[names[0]] = true
		f.size = n.Entry.Size
	}
	return f
}

func (f *file) add(kid *file) {
	f.kids = append(f.kids, kid)
	f.size += kid.size
	f.count += kid.count
}

// files makes a tree of a node.
func (b *treeBuilder) files(n *index.Node) *file {
	f := b.file(n)
	for _, kid := range n.Children {
		f.add(b.files(kid))
	}
	return f
}

// changes makes a tree of a node of one layer, with what it changes of those below it; below is nil where they have nothing.
func (b *treeBuilder) changes(n, below *index.Node) *file {
	f := b.file(n)
	switch {
	case n.Entry.Type == view.TypeWhiteout:
		f.change = removed
	case below == nil:
		f.change = added
	case n.IsDir() && below.IsDir() && (!n.Described || n.Entry.Mode == below.Entry.Mode && n.Entry.UID == below.Entry.UID && n.Entry.GID == below.Entry.GID):
		f.change = unchanged // a layer lists the directories of what it changes
	default:
		f.change = modified
	}
	if n.Entry.Opaque {
		f.change = modified
		below = nil
	}
	for _, kid := range n.Children {
		var was *index.Node
		if below != nil && below.IsDir() {
			was = below.Descend(path.Base(kid.Entry.Path))
		}
		f.add(b.changes(kid, was))
	}
	return f
}
