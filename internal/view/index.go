package view

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// Content reads the regular files of an Index. tag is what Put was given with the entry.
type Content interface {
	Open(ctx context.Context, e *Entry, tag int) (io.ReadCloser, error)
	Digest(ctx context.Context, e *Entry, tag int) (digest.Digest, error)
}

// Index is a View whose metadata is in memory. It is filled with Put, Remove and Clear, then frozen; only then is it
// safe for concurrent use.
type Index struct {
	content Content
	nodes   map[string]*node
}

type node struct {
	entry   *Entry
	tag     int
	kids    []*node
	removed bool
}

// NewIndex is an Index that holds an empty root directory, with room for size entries.
func NewIndex(content Content, size int) *Index {
	x := &Index{content: content, nodes: make(map[string]*node, size+1)}
	x.nodes["."] = &node{entry: impliedDir(".")}
	return x
}

// impliedDir is a directory that no entry describes.
func impliedDir(name string) *Entry { return &Entry{Path: name, Type: TypeDir, Mode: 0o755} }

// Put adds an entry or replaces the one of its name. A directory keeps its children when it replaces a directory.
func (x *Index) Put(e *Entry, tag int) {
	n := x.nodes[e.Path]
	if n == nil {
		n = &node{}
		x.nodes[e.Path] = n
		parent := x.dir(path.Dir(e.Path))
		parent.kids = append(parent.kids, n)
	} else if !e.IsDir() || !n.entry.IsDir() {
		x.drop(n)
	}
	n.entry, n.tag = e, tag
}

// dir returns the node of a directory, implied ones made as needed.
func (x *Index) dir(name string) *node {
	if n := x.nodes[name]; n != nil {
		if !n.entry.IsDir() {
			n.entry = impliedDir(name)
		}
		return n
	}
	x.Put(impliedDir(name), -1)
	return x.nodes[name]
}

// drop forgets everything below n.
func (x *Index) drop(n *node) {
	for _, k := range n.kids {
		if !k.removed {
			x.forget(k)
		}
	}
	n.kids = nil
}

func (x *Index) forget(n *node) {
	x.drop(n)
	n.removed = true
	delete(x.nodes, n.entry.Path)
}

// Remove deletes a name with all below it; a missing one is no error.
func (x *Index) Remove(name string) {
	if n := x.nodes[name]; n != nil && name != "." {
		x.forget(n)
	}
}

// Clear deletes everything below a directory.
func (x *Index) Clear(name string) {
	if n := x.nodes[name]; n != nil {
		x.drop(n)
	}
}

// Freeze ends the filling.
func (x *Index) Freeze() *Index {
	for _, n := range x.nodes {
		n.kids = slices.DeleteFunc(n.kids, func(k *node) bool { return k.removed })
		slices.SortFunc(n.kids, func(a, b *node) int { return strings.Compare(a.entry.Path, b.entry.Path) })
	}
	return x
}

// Copy returns an Index with the same entries, to be changed independently.
func (x *Index) Copy(content Content) *Index {
	y := &Index{content: content, nodes: make(map[string]*node, len(x.nodes)+len(x.nodes)/4)}
	all := make([]node, len(x.nodes))
	i := 0
	for name, n := range x.nodes {
		all[i] = node{entry: n.entry, tag: n.tag}
		y.nodes[name] = &all[i]
		i++
	}
	for name, n := range x.nodes {
		if len(n.kids) == 0 {
			continue
		}
		kids := make([]*node, 0, len(n.kids))
		for _, k := range n.kids {
			if !k.removed {
				kids = append(kids, y.nodes[k.entry.Path])
			}
		}
		y.nodes[name].kids = kids
	}
	return y
}

func (x *Index) find(op, name string) (*node, error) {
	if n := x.nodes[name]; n != nil {
		return n, nil
	}
	// As the kernel: a path through something that is not a directory is another error than a missing one.
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if n := x.nodes[dir]; n != nil && !n.entry.IsDir() {
			return nil, &fs.PathError{Op: op, Path: "/" + name, Err: syscall.ENOTDIR}
		}
	}
	return nil, notExist(op, name)
}

// Lstat implements View.
func (x *Index) Lstat(_ context.Context, name string) (*Entry, error) {
	n, err := x.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return n.entry, nil
}

// ReadDir implements View.
func (x *Index) ReadDir(_ context.Context, name string) ([]*Entry, error) {
	n, err := x.find("open", name)
	if err != nil {
		return nil, err
	}
	if !n.entry.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: "/" + name, Err: syscall.ENOTDIR}
	}
	list := make([]*Entry, len(n.kids))
	for i, k := range n.kids {
		list[i] = k.entry
	}
	return list, nil
}

func (x *Index) regular(op, name string) (*node, error) {
	n, err := x.find(op, name)
	switch {
	case err != nil:
		return nil, err
	case n.entry.IsDir():
		return nil, &fs.PathError{Op: op, Path: "/" + name, Err: syscall.EISDIR}
	case n.entry.Type != TypeRegular:
		return nil, &fs.PathError{Op: op, Path: "/" + name, Err: syscall.EINVAL}
	}
	return n, nil
}

// Open implements View.
func (x *Index) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	n, err := x.regular("open", name)
	if err != nil {
		return nil, err
	}
	return x.content.Open(ctx, n.entry, n.tag)
}

// Digest implements View.
func (x *Index) Digest(ctx context.Context, name string) (digest.Digest, error) {
	n, err := x.regular("read", name)
	if err != nil {
		return "", err
	}
	if n.entry.Digest != "" {
		return n.entry.Digest, nil
	}
	return x.content.Digest(ctx, n.entry, n.tag)
}

// Empty is the filesystem with nothing but a root directory.
func Empty() View { return NewIndex(nil, 0).Freeze() }
