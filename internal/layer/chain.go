package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// View is the merged filesystem of a chain, bottom first, by tables of contents. Contents are read from trees or blobs. Of several
// names of one file the first, sorted, has Hardlink "".
func (l *Layers) View(ctx context.Context, chain []digest.Digest) (view.View, error) {
	return l.ViewChain(ctx, chain, identity.ChainIDs(slices.Clone(chain)))
}

// ViewChain is View where the ChainIDs of all that the chain begins with are known, by length: its cost does not grow with the
// layers that an earlier call had.
func (l *Layers) ViewChain(ctx context.Context, chain, chainIDs []digest.Digest) (view.View, error) {
	if len(chain) == 0 {
		return view.Empty(), nil
	}
	root, err := l.merged(ctx, chain, chainIDs)
	if err != nil {
		return nil, err
	}
	return &chainView{layers: l, root: root}, nil
}

// Files returns the root of the files that View shows, as the index that View is made of.
func (l *Layers) Files(ctx context.Context, chain []digest.Digest) (*index.Node, error) {
	if len(chain) == 0 {
		return &index.Node{Entry: index.ImpliedDir(".")}, nil
	}
	return l.merged(ctx, chain, identity.ChainIDs(slices.Clone(chain)))
}

type chainView struct {
	layers  *Layers
	root    *index.Node
	foreign map[digest.Digest]Foreign // layers that are not in the store
}

// find returns the node called name, which need not be clean.
func (v *chainView) find(op, name string) (*index.Node, error) {
	n := v.root.Descend(name)
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

func (v *chainView) Lstat(_ context.Context, name string) (*view.Entry, error) {
	n, err := v.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return v.entry(n), nil
}

func (v *chainView) ReadDir(_ context.Context, name string) ([]*view.Entry, error) {
	n, err := v.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: unix.ENOTDIR}
	}
	entries := make([]*view.Entry, len(n.Children))
	for i, kid := range n.Children {
		entries[i] = v.entry(kid)
	}
	return entries, nil
}

// entry is n's entry as this chain has it: an upper layer may have replaced the first name of a hardlinked file.
func (v *chainView) entry(n *index.Node) *view.Entry {
	if n.Names() == nil {
		return n.Entry
	}
	first := ""
	for _, name := range n.Names() {
		if name == n {
			break
		}
		if here, err := v.find("", name.Entry.Path); err == nil && here.SameFile(n) {
			first = name.Entry.Path
			break
		}
	}
	if n.Entry.Hardlink == first {
		return n.Entry
	}
	e := n.Entry.Clone()
	e.Hardlink = first
	return e
}

func (v *chainView) Digest(ctx context.Context, name string) (digest.Digest, error) {
	n, err := v.regular("digest", name)
	if err != nil {
		return "", err
	}
	return v.layers.contentDigest(ctx, n)
}

func (v *chainView) regular(op, name string) (*index.Node, error) {
	n, err := v.find(op, name)
	if err == nil && n.Entry.Type != view.TypeRegular {
		err = &fs.PathError{Op: op, Path: name, Err: errors.New("not a regular file")}
	}
	return n, err
}

func (v *chainView) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	n, err := v.regular("open", name)
	if err != nil {
		return nil, err
	}
	open := v.layers.openContent
	if f := v.foreign[n.Layer]; f != nil {
		open = f.Open
	}
	f, err := open(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return f, nil
}

// maxStreams is how many files are read by decompressing a layer up to them before its tree is worth making.
const maxStreams = 4

// openContent opens a file in the tree of its layer, in the plain tar, or in a compressed one.
func (l *Layers) openContent(ctx context.Context, n *index.Node) (io.ReadCloser, error) {
	if n.Entry.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	f, err := l.openInTree(n)
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrDamaged) {
		return f, err
	}
	blobs, blobsErr := l.blobs(n.Layer)
	if blobsErr != nil {
		return nil, blobsErr
	}
	if len(blobs) == 0 && errors.Is(err, store.ErrDamaged) {
		return nil, err
	}
	if holds(blobs, n.Layer) {
		blob, err := l.store.OpenBlob(n.Layer)
		if err != nil {
			return nil, fail(n.Layer, err)
		}
		if n.Place.Sparse {
			return sparseContent(io.NewSectionReader(blob, n.Place.Offset, 1<<62), blob)
		}
		return section{io.NewSectionReader(blob, n.Place.Offset, n.Entry.Size), blob}, nil
	}
	if !l.stream(n.Layer) {
		if _, err := l.Tree(ctx, n.Layer); err != nil {
			return nil, err
		}
		return l.openInTree(n)
	}
	return l.streamContent(ctx, n)
}

func (l *Layers) openInTree(n *index.Node) (io.ReadCloser, error) {
	f, err := os.OpenFile(l.path(n.Layer, tree.DirectoryName, n.Entry.Path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	image, err := l.image(n.Layer)
	if err != nil {
		return nil, fail(n.Layer, err)
	}
	in, err := image.Open(n.Entry.Path)
	if err != nil {
		return nil, fail(n.Layer, err)
	}
	return in, nil
}

// image returns a layer's tree that is an image. It stays open: a caller that reads one file of it reads more.
func (l *Layers) image(id digest.Digest) (tree.Tree, error) {
	if t, ok := l.opened.Load(id); ok {
		return t.(tree.Tree), nil
	}
	t, err := l.trees.OpenImage(l.path(id, tree.ImageName))
	if err != nil {
		return nil, err
	}
	if first, ok := l.opened.LoadOrStore(id, t); ok {
		t.Close()
		return first.(tree.Tree), nil
	}
	return t, nil
}

// stream counts the files read from a layer's compressed blob, and reports whether one more may be.
func (l *Layers) stream(id digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[id]++
	return l.streams[id] <= maxStreams
}

func (l *Layers) streamContent(ctx context.Context, n *index.Node) (io.ReadCloser, error) {
	tar, err := l.OpenTar(ctx, n.Layer)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, tar, n.Place.Offset); err != nil {
		return nil, errors.Join(err, tar.Close())
	}
	if n.Place.Sparse {
		return sparseContent(tar, tar)
	}
	return section{io.LimitReader(tar, n.Entry.Size), tar}, nil
}

// section reads a part of what Close closes.
type section struct {
	io.Reader
	io.Closer
}

// sparseContent reads the content of the sparse file that r begins with.
func sparseContent(r io.Reader, c io.Closer) (io.ReadCloser, error) {
	content, err := tarstream.OpenSparse(r)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return section{content, c}, nil
}
