// Package filetree has the files of an image, each with every version that a layer has of it. From the versions follow what a
// layer changed, what is left of it in the image, and what no longer is.
package filetree

import (
	"maps"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// Tree is the files of the layers that were added to it. It is safe for concurrent reading while none is added.
type Tree struct {
	Root   *Node
	Layers int // how many were added
	Count  int // of nodes; their IDs are smaller
	// Undigested: the digests of the files of a layer are not known.
	Undigested bool

	lists    []toc.List          // of the layers
	links    map[linkKey][]*Node // the later names of files with several
	unsorted map[*Node]map[string]*Node
	nodes    []Node // room for more
	versions []Version
}

// linkKey is a file with several names: its layer and its first name there.
type linkKey struct {
	layer int
	path  string
}

// Node is a path that at least one layer has.
type Node struct {
	ID       int       // from 0
	Name     string    // the last component; "" of the root
	Parent   *Node     // nil of the root
	Children []*Node   // sorted by name
	Versions []Version // by layer, bottom first; of the root too, which is there before the first layer
}

// Version is what one layer makes of a path. There is one for each file of an image, so it has no more than what is asked for often:
// the rest is in Tree.Entry.
type Version struct {
	Layer int   // its number, 0 for the bottom; -1 for a directory that is there before the first
	size  int64 // of a regular file, or what a whiteout removes
	entry int32 // its number in the table of contents; implied for a directory that the layer has no entry for
	// Type is that of the layer's own entry, 0 if the path is removed with a directory above it, or by what replaced that directory.
	Type view.Type
	// Inner: the layer has other paths beneath this one.
	Inner bool
	link  bool // the content is that of another name in the layer
}

const implied = -1

// Present reports whether the path exists once the layer is applied.
func (v *Version) Present() bool { return v.Type != 0 && v.Type != view.TypeWhiteout }

// IsDir reports whether the path is a directory once the layer is applied.
func (v *Version) IsDir() bool { return v.Type == view.TypeDir }

// IsLink reports whether the content is that of another name in the layer.
func (v *Version) IsLink() bool { return v.link }

// Size is the size of a regular file, whatever other names it has.
func (v *Version) Size() int64 {
	if v.Type != view.TypeRegular {
		return 0
	}
	return v.size
}

// Bytes is how much of the layer is the version's content. Of a file with several names the first has it.
func (v *Version) Bytes() int64 {
	if v.link {
		return 0
	}
	return v.Size()
}

// Removed is the size of the files that a whiteout removes beneath the path, as the sum of their sizes.
func (v *Version) Removed() int64 {
	if v.Type != view.TypeWhiteout {
		return 0
	}
	return v.size
}

// New returns a tree with nothing but the root.
func New() *Tree {
	t := &Tree{links: map[linkKey][]*Node{}, unsorted: map[*Node]map[string]*Node{}}
	t.Root = t.node(nil, "")
	t.Root.Versions = t.version(Version{Layer: -1, Type: view.TypeDir, entry: implied})
	return t
}

// Add applies a layer, by its table of contents, on top of those that were added before.
func (t *Tree) Add(table toc.List) {
	layer := t.Layers
	t.Layers++
	t.lists = append(t.lists, table)
	t.Undigested = t.Undigested || table.Info().Undigested
	var e view.Entry
	for i := range table.Len() { // what hides files of the layers below comes first, whatever the order of the tar
		if layer == 0 {
			break
		}
		if table.Read(i, &e); e.Type != view.TypeDir || e.Opaque {
			t.hide(layer, i, &e)
		}
	}
	at := cursor{tree: t, layer: layer, dir: t.Root, path: "."}
	for i := range table.Len() {
		if implied := table.Read(i, &e); implied || e.Type == view.TypeWhiteout {
			continue
		}
		at.put(i, &e)
	}
	t.sort()
}

// LayerSize is the size of a layer, as Docker counts it.
func (t *Tree) LayerSize(layer int) int64 { return t.lists[layer].Info().Size }

// Replace returns the tree with other tables of contents of its layers, which have digests. The two share their nodes. ok is false
// if the tables do not have the same files.
func (t *Tree) Replace(tables []toc.List) (replaced *Tree, ok bool) {
	if len(tables) != len(t.lists) {
		return nil, false
	}
	r := *t
	r.lists, r.Undigested = tables, false
	var was, now view.Entry
	for layer, table := range tables {
		if table.Len() != t.lists[layer].Len() {
			return nil, false
		}
		r.Undigested = r.Undigested || table.Info().Undigested
		for i := range table.Len() {
			t.lists[layer].Read(i, &was)
			if table.Read(i, &now); was.Path != now.Path || was.Type != now.Type || was.Size != now.Size {
				return nil, false
			}
		}
	}
	return &r, true
}

// hide removes what the layers below have at, or beneath, the path of the entry with the number i.
func (t *Tree) hide(layer, i int, e *view.Entry) {
	n := t.Find(e.Path)
	if n == nil || len(n.Versions) == 0 {
		return
	}
	last := n.last()
	if !last.Present() || last.Layer == layer {
		return
	}
	var removed int64
	if last.IsDir() {
		for _, kid := range n.Children {
			removed += kid.remove(t, layer)
		}
	}
	if e.Type == view.TypeWhiteout {
		n.append(t, Version{Layer: layer, Type: e.Type, entry: int32(i), size: removed})
	}
}

// remove ends the versions of a node, and of those beneath it, and returns their size.
func (n *Node) remove(t *Tree, layer int) (removed int64) {
	last := n.last()
	if last == nil || !last.Present() || last.Layer == layer {
		return 0
	}
	removed = last.Bytes()
	for _, kid := range n.Children {
		removed += kid.remove(t, layer)
	}
	n.append(t, Version{Layer: layer})
	return removed
}

// cursor adds the entries of a layer. They come directory by directory, mostly.
type cursor struct {
	tree  *Tree
	layer int
	dir   *Node
	path  string
}

func (c *cursor) put(i int, e *view.Entry) {
	v := Version{Layer: c.layer, Type: e.Type, entry: int32(i), size: e.Size, link: e.Hardlink != ""}
	if e.Path == "." {
		c.tree.Root.set(c.tree, v)
		return
	}
	dir, name := view.Split(e.Path)
	if dir != c.path {
		c.dir, c.path = c.enter(dir), dir
	}
	n := c.tree.child(c.dir, name)
	if n == nil {
		n = c.tree.node(c.dir, name)
		c.tree.attach(c.dir, n)
	}
	n.set(c.tree, v)
	if e.Hardlink != "" {
		key := linkKey{c.layer, e.Hardlink}
		c.tree.links[key] = append(c.tree.links[key], n)
	}
	for p := c.dir; p != nil && p.mark(c.layer); p = p.Parent {
		continue
	}
}

// enter returns the node of a directory. One that no layer describes is implied by the names beneath it.
func (c *cursor) enter(path string) *Node {
	n := c.tree.Root
	for rest, more := path, path != "."; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		kid := c.tree.child(n, name)
		if kid == nil {
			kid = c.tree.node(n, name)
			c.tree.attach(n, kid)
		}
		if last := kid.last(); last == nil || !last.IsDir() {
			kid.set(c.tree, Version{Layer: c.layer, Type: view.TypeDir, entry: implied})
		}
		n = kid
	}
	return n
}

// mark notes that a layer has paths beneath n, and reports whether that is new.
func (n *Node) mark(layer int) bool {
	last := n.last()
	if last == nil || last.Layer != layer || last.Inner {
		return false
	}
	last.Inner = true
	return true
}

// set adds a version, or replaces the one that the layer has.
func (n *Node) set(t *Tree, v Version) {
	if last := n.last(); last != nil && last.Layer == v.Layer {
		v.Inner = last.Inner
		*last = v
		return
	}
	n.append(t, v)
}

func (n *Node) append(t *Tree, v Version) {
	if n.Versions == nil {
		n.Versions = t.version(v)
		return
	}
	n.Versions = append(n.Versions, v)
}

func (n *Node) last() *Version {
	if len(n.Versions) == 0 {
		return nil
	}
	return &n.Versions[len(n.Versions)-1]
}

// block is how many nodes and versions are allocated at once.
const block = 1024

func (t *Tree) node(parent *Node, name string) *Node {
	if len(t.nodes) == 0 {
		t.nodes = make([]Node, block)
	}
	n := &t.nodes[0]
	t.nodes = t.nodes[1:]
	n.ID, n.Name, n.Parent = t.Count, name, parent
	t.Count++
	return n
}

// version is a list with one version.
func (t *Tree) version(v Version) []Version {
	if len(t.versions) == 0 {
		t.versions = make([]Version, block)
	}
	list := t.versions[:1:1]
	t.versions = t.versions[1:]
	list[0] = v
	return list
}

// child returns the child of n called name, or nil.
func (t *Tree) child(n *Node, name string) *Node {
	if len(t.unsorted) > 0 {
		if byName := t.unsorted[n]; byName != nil {
			return byName[name]
		}
	}
	if k := len(n.Children); k == 0 || n.Children[k-1].Name < name {
		return nil
	}
	if i, ok := slices.BinarySearchFunc(n.Children, name, func(kid *Node, name string) int { return strings.Compare(kid.Name, name) }); ok {
		return n.Children[i]
	}
	return nil
}

// attach adds a child whose name is not there yet.
func (t *Tree) attach(n, kid *Node) {
	k := len(n.Children)
	if byName := t.unsorted[n]; byName != nil {
		byName[kid.Name] = kid
	} else if k > 0 && n.Children[k-1].Name > kid.Name {
		byName = make(map[string]*Node, k+1)
		for _, other := range n.Children {
			byName[other.Name] = other
		}
		byName[kid.Name] = kid
		t.unsorted[n] = byName
	}
	n.Children = append(n.Children, kid)
}

// sort sorts the directories that names were added to out of order.
func (t *Tree) sort() {
	for n := range t.unsorted {
		slices.SortFunc(n.Children, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	}
	clear(t.unsorted)
}

// Walk calls visit for each node, parents first, siblings by name. Beneath one for which it returns false it does not go.
func (t *Tree) Walk(visit func(*Node) bool) { t.Root.Walk(visit) }

// Walk is Tree.Walk beneath a node, with the node itself.
func (n *Node) Walk(visit func(*Node) bool) {
	if !visit(n) {
		return
	}
	for _, kid := range n.Children {
		kid.Walk(visit)
	}
}

// Find returns the node of a path, nil for none.
func (t *Tree) Find(path string) *Node {
	n := t.Root
	for rest, more := path, path != "."; more && n != nil; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		n = t.child(n, name)
	}
	return n
}

// Path is the path of a node, "." of the root.
func (n *Node) Path() string {
	if n.Parent == nil {
		return "."
	}
	var names []string
	for ; n.Parent != nil; n = n.Parent {
		names = append(names, n.Name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// At returns the version of a path once a layer is applied; nil if no layer up to it has the path.
func (n *Node) At(layer int) *Version {
	for i := len(n.Versions) - 1; i >= 0; i-- {
		if n.Versions[i].Layer <= layer {
			return &n.Versions[i]
		}
	}
	return nil
}

// PresentAt is At, nil for a path that does not exist.
func (n *Node) PresentAt(layer int) *Version {
	if v := n.At(layer); v != nil && v.Present() {
		return v
	}
	return nil
}

// Entry returns the entry that a layer has of a path, nil if it has none. v is nil or a version of n.
func (t *Tree) Entry(n *Node, v *Version) *view.Entry {
	switch {
	case v == nil || v.Type == 0:
		return nil
	case v.entry == implied:
		return index.ImpliedDir(n.Path())
	}
	return t.lists[v.Layer].Entry(int(v.entry))
}

// EntryAt returns the entry of a path once a layer is applied; nil if it does not exist.
func (t *Tree) EntryAt(n *Node, layer int) *view.Entry { return t.Entry(n, n.PresentAt(layer)) }

// Sum returns the sha256 of the content of a version that is not empty; ok is false if it is not known.
func (t *Tree) Sum(v *Version) (sum [32]byte, ok bool) {
	if v.Type != view.TypeRegular {
		return sum, false
	}
	return t.lists[v.Layer].Sum(int(v.entry))
}

// Names returns the other names that the file of a version has in its layer.
func (t *Tree) Names(n *Node, v *Version) []*Node {
	if v.Type == 0 || len(t.links) == 0 {
		return nil
	}
	first := n.Path()
	if v.link {
		first = t.Entry(n, v).Hardlink
	}
	names := slices.Clone(t.links[linkKey{v.Layer, first}])
	if v.link {
		if node := t.Find(first); node != nil {
			names = append(names, node)
		}
	}
	return slices.DeleteFunc(names, func(other *Node) bool { return other == n })
}

// Change is what a range of layers made of a path.
type Change uint8

// The changes of a path. A directory in which something changed is Modified.
const (
	Unmodified Change = iota
	Added
	Modified
	Removed
)

// String is a word for a change.
func (c Change) String() string { return [...]string{"unmodified", "added", "modified", "removed"}[c] }

// Changed compares a path before the layers from one to another, both included, with it after them. The content of a directory does
// not count. ok is false for a path that exists neither before nor after them.
func (t *Tree) Changed(n *Node, from, to int) (c Change, ok bool) {
	before, after := n.PresentAt(from-1), n.PresentAt(to)
	switch {
	case before == nil && after == nil:
		return Unmodified, false
	case before == nil:
		return Added, true
	case after == nil:
		return Removed, true
	case before != after && !Same(t.Entry(n, before), t.Entry(n, after)):
		return Modified, true
	}
	return Unmodified, true
}

// Same reports whether two entries of a path differ in nothing but the time. Files whose digests are not known are the same if their
// sizes and times are.
func Same(a, b *view.Entry) bool {
	if a.Type != b.Type || a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.Linkname != b.Linkname ||
		a.Major != b.Major || a.Minor != b.Minor || !maps.Equal(a.Xattrs, b.Xattrs) {
		return false
	}
	return a.Type != view.TypeRegular || SameContent(a, b)
}

// SameContent reports whether two files have the same content, as far as it is known.
func SameContent(a, b *view.Entry) bool {
	if a.Size != b.Size {
		return false
	}
	if a.Digest == "" || b.Digest == "" {
		return a.Size == 0 || a.ModTime.Equal(b.ModTime)
	}
	return a.Digest == b.Digest
}
