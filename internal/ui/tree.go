package ui

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/view"
)

// file is a file of a layer, or of all layers of an image. A directory has the sums of what is in it.
type file struct {
	name   string
	entry  *view.Entry
	layer  int // that has the file, from the bottom
	change filetree.Change
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
	all    *filetree.Tree
	merged *file
	count  int // of files, as far as they are kept

	mu     sync.Mutex
	layers []*file         // bottom first, each with what the layer changes; nil until it is asked for
	report *analyze.Report // likewise
}

// loadTree reads the tables of contents of an image.
func loadTree(ctx context.Context, img *opened) (*imageTree, error) {
	in, err := img.Analyzed(ctx)
	if err != nil {
		return nil, err
	}
	t := &imageTree{}
	if t.all, err = analyze.Load(ctx, in); err != nil {
		return nil, err
	}
	t.layers = make([]*file, len(img.Layers))
	t.count = 3 * t.all.Count // with the files of layers, which are there later
	t.merged = t.files(t.all.Root, len(img.Layers)-1, map[linked]bool{})
	return t, nil
}

// layer returns what a layer changes.
func (t *imageTree) layer(i int) *file {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.layers[i] == nil {
		if t.layers[i] = t.changes(t.all.Root, i); t.layers[i] == nil {
			t.layers[i] = t.file(t.all.Root, i, t.all.EntryAt(t.all.Root, i))
		}
	}
	return t.layers[i]
}

// file makes a file of a node as a layer leaves it, without what is in it. Its entry is nil if it was removed.
func (t *imageTree) file(n *filetree.Node, layer int, e *view.Entry) *file {
	f := &file{name: n.Name, entry: e}
	if f.change, _ = t.all.Changed(n, layer, layer); e == nil {
		f.entry = &view.Entry{Path: n.Path(), Type: view.TypeWhiteout}
	}
	if v := n.At(layer); v != nil {
		f.layer = max(v.Layer, 0)
	}
	return f
}

func (f *file) add(kid *file) {
	f.kids = append(f.kids, kid)
	f.size += kid.size
	f.count += kid.count
}

// changes makes a tree of what a layer has; nil if it has nothing of a node.
func (t *imageTree) changes(n *filetree.Node, layer int) *file {
	var kids []*file
	for _, kid := range n.Children {
		if f := t.changes(kid, layer); f != nil {
			kids = append(kids, f)
		}
	}
	v := n.At(layer)
	own := v != nil && v.Layer == layer
	if !own && len(kids) == 0 {
		return nil
	}
	f := t.file(n, layer, t.all.EntryAt(n, layer))
	if own {
		f.size = v.Bytes()
	}
	if !f.entry.IsDir() {
		f.count = 1
	} else if own && f.change == filetree.Modified && filetree.Same(t.all.Entry(n, v), t.entryBelow(n, layer)) {
		f.change = filetree.Unmodified // a layer lists the directories of what it changes
	}
	for _, kid := range kids {
		f.add(kid)
	}
	return f
}

// entryBelow is the entry of a node before a layer.
func (t *imageTree) entryBelow(n *filetree.Node, layer int) *view.Entry {
	if e := t.all.EntryAt(n, layer-1); e != nil {
		return e
	}
	return &view.Entry{}
}

// linked is a file of a layer that has several names, by the first of them.
type linked struct {
	layer int
	first string
}

// files makes a tree of what is there once a layer is applied. Of a file with several names, the first that is left has the size.
func (t *imageTree) files(n *filetree.Node, layer int, counted map[linked]bool) *file {
	e := t.all.EntryAt(n, layer)
	if e == nil {
		e = t.all.Entry(n, &n.Versions[0]) // of the root
	}
	f := t.file(n, layer, e)
	f.change = filetree.Unmodified
	if e.Type == view.TypeRegular {
		f.size = e.Size
		if link := (linked{f.layer, e.Hardlink}); e.Hardlink != "" {
			if first := t.all.Find(e.Hardlink); counted[link] || first != nil && first.At(layer).Present() && first.At(layer).Layer == f.layer {
				f.size = 0
			}
			counted[link] = true
		}
	}
	if !e.IsDir() {
		f.count = 1
	}
	for _, kid := range n.Children {
		if kid.PresentAt(layer) != nil {
			f.add(t.files(kid, layer, counted))
		}
	}
	return f
}
