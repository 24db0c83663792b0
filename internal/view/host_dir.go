package view

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/digestcache"
)

// hostDir is the View of a host's directory. That its files are as they were in an earlier build is known from their states
// alone; the index of their names is made when somebody asks for one.
type hostDir struct {
	state   digestcache.Sum // of all that is seen, if settled
	settled bool
	digests *digestcache.Cache

	index func() *Index
}

func newHostDir(root *os.Root, w *dirWalk) *hostDir {
	slices.SortFunc(w.directories, func(a, b dirListing) int { return strings.Compare(a.name, b.name) })
	d := &hostDir{settled: !w.unsettled, digests: w.opt.Digests}
	h := sha256.New()
	if w.opt.Anonymous {
		h.Write([]byte{1})
	}
	for _, f := range w.directories {
		h.Write(f.state[:])
		h.Write([]byte(f.name))
		h.Write([]byte{0})
	}
	h.Sum(d.state[:0])
	d.index = sync.OnceValue(func() *Index { return w.index(root) })
	return d
}

// Stated is a view of files whose state is known: what steps select of them has a digest in the cache, if there is one, by that state. The index
// has the digests of all files, and is made when somebody asks for a file.
func Stated(state digestcache.Sum, digests *digestcache.Cache, index func() *Index) View {
	return &hostDir{state: state, settled: true, digests: digests, index: index}
}

// Lstat implements View.
func (d *hostDir) Lstat(ctx context.Context, name string) (*Entry, error) {
	return d.index().Lstat(ctx, name)
}

// ReadDir implements View.
func (d *hostDir) ReadDir(ctx context.Context, name string) ([]*Entry, error) {
	return d.index().ReadDir(ctx, name)
}

// Open implements View.
func (d *hostDir) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return d.index().Open(ctx, name)
}

// Digest implements View.
func (d *hostDir) Digest(ctx context.Context, name string) (digest.Digest, error) {
	return d.index().Digest(ctx, name)
}

// KnownDigest implements Known.
func (d *hostDir) KnownDigest(_ context.Context, name string) (digest.Digest, bool) {
	x := d.index()
	n, err := x.regular("read", name)
	if err != nil {
		return "", false
	}
	if n.entry.Digest != "" {
		return n.entry.Digest, true
	}
	content, ok := x.content.(*hostContent)
	if !ok {
		return "", false
	}
	return content.known(n.tag)
}

// index makes the view of what was found: hardlinks named after their first name, directories only where they are wanted.
func (w *dirWalk) index(root *os.Root) *Index {
	var found []hostFile
	for _, f := range w.directories {
		found = append(found, f.files...)
	}
	w.directories = nil // the index has what they had
	slices.SortFunc(found, func(a, b hostFile) int { return Compare(a.entry.Path, b.entry.Path) })
	content := newHostContent(root, w.opt.Digests)
	x := NewIndex(content, len(found))
	dirs := map[string]hostFile{}
	first := map[[2]uint64]string{}
	for _, f := range found {
		if !f.seen {
			dirs[f.entry.Path] = f
			continue
		}
		w.addParents(x, dirs, path.Dir(f.entry.Path))
		if f.entry.Type == TypeRegular && f.links > 1 {
			id := [2]uint64{f.key.Dev, f.key.Ino}
			if name, ok := first[id]; ok {
				f.entry.Hardlink = name
			} else {
				first[id] = f.entry.Path
			}
		}
		x.Put(f.entry, len(content.keys))
		content.keys = append(content.keys, f.key)
	}
	x = x.Freeze()
	content.digestLive(x, found)
	return x
}

// addParents adds the directories on the way to a file that do not match themselves.
func (w *dirWalk) addParents(x *Index, dirs map[string]hostFile, dir string) {
	f, ok := dirs[dir]
	if !ok {
		return
	}
	delete(dirs, dir)
	w.addParents(x, dirs, path.Dir(dir))
	x.Put(f.entry, -1)
}
