package layer

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

// node is one file of a layer's index, or of several layers' merged. A finished node never changes, so that the indexes
// of chains share what they have in common.
type node struct {
	name  string // last component
	entry *view.Entry
	kids  []*node // sorted by name when finished

	layer digest.Digest // whose file this is
	place toc.Place
	// described: an entry says what this is. Directories that only other names imply have made-up entries.
	described bool
	links     *links // for files with several names
	hides     bool   // there is a whiteout or an opaque directory here or beneath

	byName map[string]*node // of kids, while they arrive unsorted
	order  int              // of its entry in the tar
}

func (n *node) isDir() bool { return n.entry.Type == view.TypeDir }

// child returns the entry called name, or nil.
func (n *node) child(name string) *node {
	if n.byName != nil {
		return n.byName[name]
	}
	if i, ok := n.search(name); ok {
		return n.kids[i]
	}
	return nil
}

// descend returns the node of a path below n, or nil.
func (n *node) descend(path string) *node {
	for rest, more := path, path != "."; more && n != nil; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		n = n.child(part)
	}
	return n
}

func (n *node) search(name string) (int, bool) { return search(n.kids, name) }

// search finds a name in a sorted list, or where it belongs.
func search(sorted []*node, name string) (int, bool) {
	if k := len(sorted); k == 0 || sorted[k-1].name < name {
		return k, false // names mostly arrive sorted
	}
	return slices.BinarySearchFunc(sorted, name, func(kid *node, name string) int {
		return strings.Compare(kid.name, name)
	})
}

// attach adds a child whose name is not there yet.
func (n *node) attach(kid *node) {
	const small = 32 // below this, moving the rest is cheaper than a map
	i, _ := n.search(kid.name)
	switch {
	case n.byName != nil:
		n.byName[kid.name] = kid
		n.kids = append(n.kids, kid)
	case i == len(n.kids) || len(n.kids) < small:
		n.kids = slices.Insert(n.kids, i, kid)
	default:
		n.byName = make(map[string]*node, 2*len(n.kids))
		for _, k := range n.kids {
			n.byName[k.name] = k
		}
		n.byName[kid.name] = kid
		n.kids = append(n.kids, kid)
	}
}

// index builds the files of one layer out of its entries as they come, with tar's rules: the last entry of a name
// counts, a directory over a directory keeps what is in it, and names lead through the layer's own symlinks, which are
// resolved inside the layer.
type index struct {
	root    *node
	layer   digest.Digest
	spare   []node
	count   int
	groups  []*links
	names   int              // bytes of the names of implied directories
	hidden  map[string]*node // files that only hard links name
	revised bool             // a hard link changed what its file had been said to be
	lastDir string           // and its node: neighbours in a tar mostly share their directory
	last    *node
}

// impliedDir is a directory that no entry describes.
func impliedDir(name string) *view.Entry {
	return &view.Entry{Path: name, Type: view.TypeDir, Mode: 0o755}
}

func newIndex(layer digest.Digest, size int) *index {
	x := &index{layer: layer, spare: make([]node, 0, size+1)}
	x.root, _ = x.node(".", impliedDir("."))
	x.lastDir, x.last = ".", x.root
	return x
}

func (x *index) node(name string, e *view.Entry) (*node, error) {
	if x.count++; x.count > maxFiles {
		return nil, fmt.Errorf("layer has more than %d files", maxFiles)
	}
	if len(x.spare) == cap(x.spare) {
		x.spare = make([]node, 0, min(max(64, x.count), 8192))
	}
	x.spare = append(x.spare, node{name: name, entry: e})
	return &x.spare[len(x.spare)-1], nil
}

// add puts e where its path leads; e.Path becomes the real one. e.Hardlink is the name of an earlier entry: e gets its
// file.
func (x *index) add(e *view.Entry, p toc.Place) error {
	if e.Path == "." {
		if !e.IsDir() {
			return errors.New("layer's root is not a directory")
		}
		// Docker and containerd pass over what a layer says of the root, too.
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
	n.layer, n.place, n.order, n.described = x.layer, p, x.count, !p.Implied
	if e.Hardlink != "" {
		if err := x.link(n); err != nil {
			return err
		}
	}
	x.put(parent, n)
	return nil
}

// put attaches n to parent, replacing what has its name.
func (x *index) put(parent, n *node) {
	old := parent.child(n.name)
	switch {
	case old == nil:
		parent.attach(n)
	case n.entry.Type == view.TypeWhiteout:
		// A whiteout is about lower layers only (OCI image-spec, layer.md): what this layer has itself stays.
		if old.isDir() {
			old.renew()
		}
	case old.entry.Type == view.TypeWhiteout && n.isDir():
		*old = *n
		old.renew()
	case old.isDir() && n.isDir():
		opaque := old.entry.Opaque
		old.entry, old.order, old.described = n.entry, n.order, n.described || old.described
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
func (x *index) drop(n *node) {
	if n.links != nil {
		n.links.names = slices.DeleteFunc(n.links.names, func(m *node) bool { return m == n })
	}
	for _, kid := range n.kids {
		x.drop(kid)
	}
	x.lastDir, x.last = ".", x.root
}

// renew makes a directory one that is removed and made again by the same layer: it has nothing of the one below it.
func (n *node) renew() {
	n.setOpaque()
	n.described = true
}

// setOpaque makes a directory opaque. The entry may be shared and is copied.
func (n *node) setOpaque() {
	if !n.entry.Opaque {
		n.entry = n.entry.Clone()
		n.entry.Opaque = true
	}
}

// dir returns the directory that name leads to and its real path; what is missing is made.
func (x *index) dir(name string) (*node, string, error) {
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
func (x *index) walk(name string, make bool) (*node, string, error) {
	at, real := []*node{x.root}, "."
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
		if next != nil && next.entry.Type == view.TypeSymlink {
			if followed++; followed > maxLinks {
				return nil, "", fmt.Errorf("layer entry beneath %q leads through too many symbolic links", name)
			}
			target := next.entry.Linkname
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
		case next == nil || next.entry.Type == view.TypeWhiteout:
			real = view.Join(real, part)
			if !make {
				return nil, real, nil
			}
			var err error
			if next, err = x.imply(here, part, real); err != nil {
				return nil, "", err
			}
		case !next.isDir():
			return nil, "", fmt.Errorf("layer entry beneath %q: %q is not a directory", name, next.entry.Path)
		default:
			real = next.entry.Path // not made up again: names may have thousands of components
		}
		at = append(at, next)
	}
	return at[len(at)-1], real, nil
}

// imply makes a directory that no entry describes. Names of thousands of components make many with long names of their own.
func (x *index) imply(parent *node, part, real string) (*node, error) {
	if x.names += len(real); x.names > quota.MaxMetadata {
		return nil, quota.Metadata()
	}
	made, err := x.node(part, impliedDir(real))
	if err != nil {
		return nil, err
	}
	made.order, made.layer = x.count, x.layer
	x.put(parent, made)
	return parent.child(part), nil
}

// opaque makes the directory called name opaque.
func (x *index) opaque(name string) error {
	n, _, err := x.dir(name)
	if err == nil {
		n.setOpaque()
	}
	return err
}

// finish sorts every directory and returns the root.
func (x *index) finish() *node {
	finish(x.root, false)
	return x.root
}

// finish of a node: alone says that nothing of lower layers shows in it. Whiteouts mean nothing there, and overlayfs would list
// them, for it looks for whiteouts only where directories are merged.
func finish(n *node, alone bool) {
	alone = alone || n.entry.Opaque
	if alone {
		n.kids = slices.DeleteFunc(n.kids, func(kid *node) bool { return kid.entry.Type == view.TypeWhiteout })
	}
	if n.byName != nil {
		n.byName = nil
		slices.SortFunc(n.kids, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	}
	n.hides = n.entry.Opaque || n.entry.Type == view.TypeWhiteout
	for _, kid := range n.kids {
		finish(kid, alone)
		n.hides = n.hides || kid.hides
	}
}
