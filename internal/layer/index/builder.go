package index

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/view"
)

// Bounds on what one layer may make us keep in memory, far beyond what real layers have.
const (
	maxFiles = 4_000_000
	maxLinks = 40 // symlinks followed in one name, as in the kernel
)

// Builder builds the index of one layer from its entries, in their order, with tar's rules: the last entry of a name
// counts, a directory over a directory keeps its files, and names lead through the layer's own symlinks, which are
// resolved inside the layer.
type Builder struct {
	root    *Node
	layer   digest.Digest
	spare   []Node
	count   int
	groups  []*links
	names   int              // bytes of the names of implied directories
	hidden  map[string]*Node // files that only hard links name
	revised bool             // see Revised
	lastDir string           // and its node: neighbours in a tar mostly share their directory
	last    *Node
}

// ImpliedDir is the entry of a directory that a layer has no entry for.
func ImpliedDir(name string) *view.Entry {
	return &view.Entry{Path: name, Type: view.TypeDir, Mode: 0o755}
}

// NewBuilder returns the Builder of a layer with about size entries.
func NewBuilder(layer digest.Digest, size int) *Builder {
	x := &Builder{layer: layer, spare: make([]Node, 0, size+1)}
	x.root, _ = x.node(".", ImpliedDir("."))
	x.lastDir, x.last = ".", x.root
	return x
}

func (x *Builder) node(name string, e *view.Entry) (*Node, error) {
	if x.count++; x.count > maxFiles {
		return nil, fmt.Errorf("layer has more than %d files", maxFiles)
	}
	if len(x.spare) == cap(x.spare) {
		x.spare = make([]Node, 0, min(max(64, x.count), 8192))
	}
	x.spare = append(x.spare, Node{name: name, Entry: e})
	return &x.spare[len(x.spare)-1], nil
}

// Add puts e where its path leads; e.Path becomes the real one. e.Hardlink is the name of an earlier entry: e gets its
// file.
func (x *Builder) Add(e *view.Entry, p toc.Place) error {
	if e.Path == "." {
		if !e.IsDir() {
			return errors.New("layer's root is not a directory")
		}
		// Docker and containerd ignore the root's entry, too.
		if e.Opaque {
			x.root.setOpaque()
		}
		return nil
	}
	dir, base := view.Split(e.Path)
	parent, real, err := x.dir(dir)
	if err != nil {
		return err
	}
	if real != dir {
		e.Path = view.Join(real, base)
	}
	n, err := x.node(base, e)
	if err != nil {
		return err
	}
	n.Layer, n.Place, n.order, n.Described = x.layer, p, x.count, !p.Implied
	if e.Hardlink != "" {
		if err := x.link(n); err != nil {
			return err
		}
	}
	x.put(parent, n)
	return nil
}

// put attaches n to parent, replacing what has its name.
func (x *Builder) put(parent, n *Node) {
	old := parent.child(n.name)
	switch {
	case old == nil:
		parent.attach(n)
	case n.Entry.Type == view.TypeWhiteout:
		// A whiteout is about lower layers only (OCI image-spec, layer.md): what this layer has itself stays.
		if old.IsDir() {
			old.renew()
		}
	case old.Entry.Type == view.TypeWhiteout && n.IsDir():
		*old = *n
		old.renew()
	case old.IsDir() && n.IsDir():
		opaque := old.Entry.Opaque
		old.Entry, old.order, old.Described = n.Entry, n.order, n.Described || old.Described
		if opaque {
			old.setOpaque()
		}
	default:
		x.drop(old)
		*old = *n
		if n.links != nil {
			n.links.names[len(n.links.names)-1] = old
		}
	}
}

// drop takes a file, or a directory with all in it, out of the index. The node itself is used again.
func (x *Builder) drop(n *Node) {
	if n.links != nil {
		n.links.names = slices.DeleteFunc(n.links.names, func(m *Node) bool { return m == n })
	}
	for _, kid := range n.Children {
		x.drop(kid)
	}
	x.lastDir, x.last = ".", x.root
}

// renew makes a directory one that is removed and made again by the same layer: it has nothing of the one below it.
func (n *Node) renew() {
	n.setOpaque()
	n.Described = true
}

// setOpaque makes a directory opaque. The entry may be shared and is copied.
func (n *Node) setOpaque() {
	if !n.Entry.Opaque {
		n.Entry = n.Entry.Clone()
		n.Entry.Opaque = true
	}
}

// dir returns the directory that name leads to and its real path; what is missing is made.
func (x *Builder) dir(name string) (*Node, string, error) {
	if name == x.lastDir {
		return x.last, name, nil
	}
	n, real, err := x.walk(name, true)
	if err == nil && real == name {
		x.lastDir, x.last = name, n
	}
	return n, real, err
}

// walk follows name from the root through the layer's symlinks, never out of it. With make, missing directories are
// made; without, a missing one gives nil.
func (x *Builder) walk(name string, make bool) (*Node, string, error) {
	at, real := []*Node{x.root}, "."
	rest, followed := name, 0
	for rest != "" && rest != "." {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if len(at) > 1 {
				at, real = at[:len(at)-1], path.Dir(real)
			}
			continue
		}
		here := at[len(at)-1]
		next := here.child(part)
		if next != nil && next.Entry.Type == view.TypeSymlink {
			if followed++; followed > maxLinks {
				return nil, "", fmt.Errorf("layer entry beneath %q leads through too many symbolic links", name)
			}
			target := next.Entry.Linkname
			if strings.HasPrefix(target, "/") {
				at, real = at[:1], "."
			}
			rest = target + "/" + rest
			continue
		}
		if len(real)+len(part) >= unix.PathMax {
			return nil, "", fmt.Errorf("layer entry beneath %.80q… has too long a name", name)
		}
		switch {
		case next == nil || next.Entry.Type == view.TypeWhiteout:
			real = view.Join(real, part)
			if !make {
				return nil, real, nil
			}
			var err error
			if next, err = x.imply(here, part, real); err != nil {
				return nil, "", err
			}
		case !next.IsDir():
			return nil, "", fmt.Errorf("layer entry beneath %q: %q is not a directory", name, next.Entry.Path)
		default:
			real = next.Entry.Path // not made up again: names may have thousands of components
		}
		at = append(at, next)
	}
	return at[len(at)-1], real, nil
}

// imply makes a directory that no entry describes. Names of thousands of components make many with long names of their own.
func (x *Builder) imply(parent *Node, part, real string) (*Node, error) {
	if x.names += len(real); x.names > quota.MaxMetadata {
		return nil, quota.Metadata()
	}
	made, err := x.node(part, ImpliedDir(real))
	if err != nil {
		return nil, err
	}
	made.order, made.Layer = x.count, x.layer
	x.put(parent, made)
	return parent.child(part), nil
}

// Opaque makes the directory called name opaque.
func (x *Builder) Opaque(name string) error {
	n, _, err := x.dir(name)
	if err == nil {
		n.setOpaque()
	}
	return err
}

// Root sorts every directory and returns the root. Nothing may be added after that.
func (x *Builder) Root() *Node {
	finish(x.root, false)
	return x.root
}

// finish sorts a directory and those in it. alone: nothing of lower layers shows in it. Whiteouts mean nothing there, and overlayfs
// would list them: it looks for whiteouts only where it merges directories.
func finish(n *Node, alone bool) {
	alone = alone || n.Entry.Opaque
	if alone {
		n.Children = slices.DeleteFunc(n.Children, func(kid *Node) bool { return kid.Entry.Type == view.TypeWhiteout })
	}
	if n.byName != nil {
		n.byName = nil
		slices.SortFunc(n.Children, func(a, b *Node) int { return strings.Compare(a.name, b.name) })
	}
	n.hides = n.Entry.Opaque || n.Entry.Type == view.TypeWhiteout
	for _, kid := range n.Children {
		finish(kid, alone)
		n.hides = n.hides || kid.hides
	}
}

// Revised reports whether a hard link has changed the metadata of a file that was added before it.
func (x *Builder) Revised() bool { return x.revised }

// IsNew reports whether a name is new and leads through directories alone.
func (x *Builder) IsNew(name string) bool {
	dir, base := view.Split(name)
	if dir == x.lastDir {
		return x.last.child(base) == nil
	}
	n, rest := x.root, name
	for more := true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		next := n.child(part)
		if next == nil {
			return true
		}
		if !next.IsDir() {
			return false
		}
		n = next
	}
	return false
}
