// Package index finds the files of a layer, or of a chain of layers, by their paths. An index is built from the entries of a tar in
// their order, or from a table of contents, and those of a chain are merged as overlayfs shows its layers.
package index

import (
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// Node is a file of one layer, or of several that are merged. It never changes once its index is built, so that the indexes of
// chains share what they have in common.
type Node struct {
	Entry    *view.Entry
	Children []*Node       // sorted by name
	Layer    digest.Digest // that has the file
	Place    toc.Place
	// Described: the layer has an entry for it. A directory that only the names of others imply has an entry of ImpliedDir.
	Described bool

	name  string // last component
	links *links // of a file with several names
	hides bool   // there is a whiteout or an opaque directory here or beneath

	byName map[string]*Node // the children, while they arrive unsorted
	order  int              // of its entry in the tar
}

// Name is the last component of the path.
func (n *Node) Name() string { return n.name }

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.Entry.Type == view.TypeDir }

// child returns the child called name, or nil.
func (n *Node) child(name string) *Node {
	if n.byName != nil {
		return n.byName[name]
	}
	if i, ok := n.search(name); ok {
		return n.Children[i]
	}
	return nil
}

// Descend returns the node of a path below n, or nil.
func (n *Node) Descend(path string) *Node {
	for rest, more := path, path != "."; more && n != nil; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		n = n.child(part)
	}
	return n
}

func (n *Node) search(name string) (int, bool) { return search(n.Children, name) }

// search finds a name in a sorted list, or where it belongs.
func search(sorted []*Node, name string) (int, bool) {
	if k := len(sorted); k == 0 || sorted[k-1].name < name {
		return k, false // names mostly arrive sorted
	}
	return slices.BinarySearchFunc(sorted, name, func(kid *Node, name string) int {
		return strings.Compare(kid.name, name)
	})
}

// attach adds a child whose name is not there yet.
func (n *Node) attach(kid *Node) {
	const small = 32 // below this, moving the rest is cheaper than a map
	i, _ := n.search(kid.name)
	switch {
	case n.byName != nil:
		n.byName[kid.name] = kid
		n.Children = append(n.Children, kid)
	case i == len(n.Children) || len(n.Children) < small:
		n.Children = slices.Insert(n.Children, i, kid)
	default:
		n.byName = make(map[string]*Node, 2*len(n.Children))
		for _, k := range n.Children {
			n.byName[k.name] = k
		}
		n.byName[kid.name] = kid
		n.Children = append(n.Children, kid)
	}
}

// Names returns the nodes of all names of the file; nil where it has one.
func (n *Node) Names() []*Node {
	if n.links == nil {
		return nil
	}
	return n.links.names
}

// SameFile reports whether two names that have others are of one file.
func (n *Node) SameFile(other *Node) bool { return n.links == other.links }

// SameMetadata compares everything but type, size and content.
func SameMetadata(a, b *view.Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.ModTime.Equal(b.ModTime) &&
		a.Linkname == b.Linkname && a.Hardlink == b.Hardlink && a.Major == b.Major && a.Minor == b.Minor &&
		maps.Equal(a.Xattrs, b.Xattrs)
}
