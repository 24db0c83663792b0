package explore

import (
	"cmp"
	"slices"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/view"
)

// forest is the files to show: those of one image with the changes of a range of layers, or those of two images with what differs.
// Nodes have numbers; that of a directory is smaller than those of the paths in it. 0 is the root.
type forest struct {
	trees  []*filetree.Tree // of the images
	nodes  []node
	states []state
	// from and to are the range of layers of one image; of two, the last layer of each.
	from, to int
	shared   int // how many of the lowest layers two images have in common
}

// node is a path. The paths in a directory have consecutive numbers, sorted by name.
type node struct {
	files                [2]*filetree.Node // in the images
	parent, first, count int32             // count paths from the number first on are in it
}

// state is what follows from the versions of a path.
type state struct {
	size   int64 // of the content and of all beneath: after the changes, or before them of what is removed
	change filetree.Change
	within uint8 // the changes of the path and of all beneath it, a bit each
	exists bool  // before or after
	match  bool  // the filter matches it, or something beneath
}

// newForest returns the files of one image, or the union of those of two.
func newForest(trees ...*filetree.Tree) *forest {
	f := &forest{trees: trees}
	count, root := 0, node{parent: -1}
	for i, t := range trees {
		count, root.files[i] = max(count, t.Count), t.Root
	}
	f.nodes = append(make([]node, 0, count), root)
	id := 0
	for id < len(f.nodes) { // which grow
		f.expand(id)
		id++
	}
	return f
}

// expand appends the paths in a directory.
func (f *forest) expand(id int) {
	var kids [2][]*filetree.Node
	for i, n := range f.nodes[id].files {
		if n != nil {
			kids[i] = n.Children
		}
	}
	first := len(f.nodes)
	for a, b := kids[0], kids[1]; len(a)+len(b) > 0; {
		n := node{parent: int32(id)}
		if len(b) == 0 || len(a) > 0 && a[0].Name <= b[0].Name {
			n.files[0], a = a[0], a[1:]
		}
		if len(b) > 0 && (n.files[0] == nil || n.files[0].Name == b[0].Name) {
			n.files[1], b = b[0], b[1:]
		}
		f.nodes = append(f.nodes, n)
	}
	f.nodes[id].first, f.nodes[id].count = int32(first), int32(len(f.nodes)-first)
}

// children are the numbers of the paths in a directory: from first up to end.
func (f *forest) children(id int) (first, end int) {
	n := &f.nodes[id]
	return int(n.first), int(n.first + n.count)
}

func (f *forest) parent(id int) int { return int(f.nodes[id].parent) }

func (f *forest) name(id int) string {
	if n := f.nodes[id].files[0]; n != nil {
		return n.Name
	}
	return f.nodes[id].files[1].Name
}

// compares reports whether there are two images.
func (f *forest) compares() bool { return len(f.trees) == 2 }

// versions returns what stands at a path before and after the changes, nil for nothing.
func (f *forest) versions(id int) (before, after *filetree.Version) {
	files := &f.nodes[id].files
	if !f.compares() {
		if f.from > 0 {
			before = files[0].PresentAt(f.from - 1)
		}
		return before, files[0].PresentAt(f.to)
	}
	if files[0] != nil {
		before = files[0].PresentAt(f.from)
	}
	if files[1] != nil {
		after = files[1].PresentAt(f.to)
	}
	return before, after
}

// entries are the entries of versions.
func (f *forest) entries(id int) (before, after *view.Entry) {
	a, b := f.versions(id)
	files, last := &f.nodes[id].files, len(f.trees)-1
	return f.trees[0].Entry(files[0], a), f.trees[last].Entry(files[last], b)
}

// layers shows the changes of a range of layers of the first image, both ends included.
func (f *forest) layers(from, to int) {
	f.from, f.to = from, to
	f.update()
}

// images shows what differs between the images, whose numbers of layers are given. They have the lowest layers in common.
func (f *forest) images(layers [2]int, shared int) {
	f.from, f.to, f.shared = layers[0]-1, layers[1]-1, shared
	f.update()
}

// changed is the change of a path; ok is false for one that exists neither before nor after.
func (f *forest) changed(id int) (c filetree.Change, ok bool) {
	if !f.compares() {
		return f.trees[0].Changed(f.nodes[id].files[0], f.from, f.to)
	}
	switch a, b := f.versions(id); {
	case a == nil && b == nil:
		return filetree.Unmodified, id == 0
	case a == nil:
		return filetree.Added, true
	case b == nil:
		return filetree.Removed, true
	case a.Layer == b.Layer && a.Layer < f.shared:
		return filetree.Unmodified, true
	case a.Type != b.Type || a.Size() != b.Size():
		return filetree.Modified, true
	}
	if a, b := f.entries(id); !filetree.Same(a, b) {
		return filetree.Modified, true
	}
	return filetree.Unmodified, true
}

// update computes the states of all paths.
func (f *forest) update() {
	if f.states == nil {
		f.states = make([]state, len(f.nodes))
	}
	clear(f.states)
	linked := map[hardLink]bool{}
	for id := len(f.nodes) - 1; id >= 0; id-- { // what is beneath a path comes first
		s := &f.states[id]
		s.change, s.exists = f.changed(id)
		if !s.exists {
			continue
		}
		s.within |= 1 << s.change
		bytes := s.size // once for all names of a file
		if v := f.version(id); v != nil {
			s.size += v.Size()
			bytes += f.bytes(id, v, linked)
		}
		if id == 0 {
			continue
		}
		parent := &f.states[f.parent(id)]
		parent.within |= s.within
		if s.change != filetree.Removed || f.isRemoved(f.parent(id)) {
			parent.size += bytes
		}
	}
}

// hardLink is a file of a layer of an image with several names, by the first of them.
type hardLink struct {
	image, layer int
	first        string
}

// bytes is what a version adds to the size of the directory that it is in. Of a file with several names, the first that is left has
// the content.
func (f *forest) bytes(id int, v *filetree.Version, linked map[hardLink]bool) int64 {
	if !v.IsLink() {
		return v.Bytes()
	}
	image, at := len(f.trees)-1, f.to
	if f.isRemoved(id) {
		if image, at = 0, f.from; !f.compares() {
			at--
		}
	}
	link := hardLink{image, v.Layer, f.entry(id).Hardlink}
	if first := f.trees[image].Find(link.first); first != nil {
		if now := first.PresentAt(at); now != nil && now.Layer == v.Layer {
			return 0
		}
	}
	if linked[link] {
		return 0
	}
	linked[link] = true
	return v.Size()
}

// isRemoved reports whether the changes remove a path. Its state need not be known.
func (f *forest) isRemoved(id int) bool {
	_, after := f.versions(id)
	return after == nil && id != 0
}

// version is the version of a path that is shown: that after the changes, or the removed one. It may be nil.
func (f *forest) version(id int) *filetree.Version {
	before, after := f.versions(id)
	return cmp.Or(after, before)
}

// entry is the entry of the version of a path that is shown. It may be nil.
func (f *forest) entry(id int) *view.Entry {
	before, after := f.entries(id)
	return cmp.Or(after, before)
}

func (f *forest) isDir(id int) bool {
	if v := f.version(id); v != nil {
		return v.IsDir()
	}
	return f.nodes[id].count > 0
}

// shownChange is the change that a path is marked with. A directory in which something changed is modified.
func (f *forest) shownChange(id int) filetree.Change {
	s := f.states[id]
	if s.change == filetree.Unmodified && s.within&^(1<<filetree.Unmodified) != 0 {
		return filetree.Modified
	}
	return s.change
}

// path is the absolute path of a node.
func (f *forest) path(id int) string {
	if id <= 0 {
		return "/"
	}
	var names []string
	for ; id > 0; id = f.parent(id) {
		names = append(names, f.name(id))
	}
	slices.Reverse(names)
	path := ""
	for _, n := range names {
		path += "/" + n
	}
	return path
}

// filter marks the paths that match, and the directories that they are in. It returns how many match.
func (f *forest) filter(match func(path []byte) bool) (count int) {
	for i := range f.states {
		f.states[i].match = match == nil
	}
	if match == nil {
		return len(f.states)
	}
	var walk func(id int, path []byte) bool
	walk = func(id int, path []byte) bool {
		found := id != 0 && match(path)
		if found && f.states[id].exists {
			count++
		}
		for c, end := f.children(id); c < end; c++ {
			if walk(c, append(append(path, '/'), f.name(c)...)) { // in the room of path, which is large enough mostly
				found = true
			}
		}
		f.states[id].match = found
		return found
	}
	walk(0, make([]byte, 0, 4096))
	return count
}

// row is a line of the tree.
type row struct{ id, depth int }

// rows appends the lines of the tree to a list, in the order in which they are shown.
func (f *forest) rows(list []row, open func(id int) bool, shown uint8, bySize bool) []row {
	var walk func(id, depth int)
	walk = func(id, depth int) {
		for _, c := range f.sorted(id, bySize) {
			s := &f.states[c]
			if !s.exists || !s.match || s.within&shown == 0 {
				continue
			}
			list = append(list, row{int(c), depth})
			if f.nodes[c].count > 0 && open(int(c)) {
				walk(int(c), depth+1)
			}
		}
	}
	if len(f.states) > 0 {
		walk(0, 0)
	}
	return list
}

// sorted lists the paths in a directory.
func (f *forest) sorted(id int, bySize bool) []int32 {
	first, end := f.children(id)
	list := make([]int32, 0, end-first)
	for c := first; c < end; c++ {
		list = append(list, int32(c))
	}
	if bySize {
		slices.SortStableFunc(list, func(a, b int32) int { return cmp.Compare(f.states[b].size, f.states[a].size) })
	}
	return list
}
