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
	nodes []node
	// versions returns what stands at a path before and after the changes, nil for nothing.
	versions func(id int) (before, after *view.Entry)
	states   []state
}

type node struct {
	name     string
	parent   int
	children []int // sorted by name
	files    [2]*filetree.Node
}

// state is what follows from the versions of a path.
type state struct {
	change filetree.Change
	exists bool  // before or after
	within uint8 // the changes of the path and of all beneath it, a bit each
	size   int64 // of the content and of all beneath: after the changes, or before them of what is removed
	match  bool  // the filter matches it, or something beneath
}

// newForest returns the files of one image, or the union of those of two.
func newForest(trees ...*filetree.Tree) *forest {
	f := &forest{nodes: make([]node, 1, trees[0].Count)}
	f.nodes[0] = node{parent: -1}
	for i, t := range trees {
		f.add(0, i, t.Root)
	}
	return f
}

// add gives the path id the files of image i beneath n.
func (f *forest) add(id, i int, n *filetree.Node) {
	f.nodes[id].files[i] = n
	old := f.nodes[id].children // sorted, as those of n
	children, k := make([]int, 0, len(n.Children)), 0
	for _, c := range n.Children {
		for k < len(old) && f.nodes[old[k]].name < c.Name {
			children, k = append(children, old[k]), k+1
		}
		child := len(f.nodes)
		if k < len(old) && f.nodes[old[k]].name == c.Name {
			child, k = old[k], k+1
		} else {
			f.nodes = append(f.nodes, node{name: c.Name, parent: id})
		}
		children = append(children, child)
		f.add(child, i, c)
	}
	children = append(children, old[k:]...)
	f.nodes[id].children = children
}

// layers shows the changes of a range of layers of the first image, both ends included.
func (f *forest) layers(from, to int) {
	f.versions = func(id int) (before, after *view.Entry) {
		n := f.nodes[id].files[0]
		if from > 0 {
			before = n.EntryAt(from - 1)
		}
		return before, n.EntryAt(to)
	}
	f.update(func(id int) (filetree.Change, bool) { return f.nodes[id].files[0].Changed(from, to) })
}

// images shows what differs between the images, whose numbers of layers are given.
func (f *forest) images(layers [2]int) {
	f.versions = func(id int) (before, after *view.Entry) {
		if n := f.nodes[id].files[0]; n != nil {
			before = n.EntryAt(layers[0] - 1)
		}
		if n := f.nodes[id].files[1]; n != nil {
			after = n.EntryAt(layers[1] - 1)
		}
		return before, after
	}
	f.update(func(id int) (filetree.Change, bool) {
		switch a, b := f.versions(id); {
		case a == nil && b == nil:
			return filetree.Unmodified, id == 0
		case a == nil:
			return filetree.Added, true
		case b == nil:
			return filetree.Removed, true
		case !filetree.Same(a, b):
			return filetree.Modified, true
		}
		return filetree.Unmodified, true
	})
}

// update computes the states of all paths.
func (f *forest) update(changed func(id int) (filetree.Change, bool)) {
	f.states = make([]state, len(f.nodes))
	for id := len(f.nodes) - 1; id >= 0; id-- { // what is beneath a path comes first
		s := &f.states[id]
		s.change, s.exists = changed(id)
		if !s.exists {
			continue
		}
		s.within |= 1 << s.change
		if e := f.entry(id); e != nil && e.Type == view.TypeRegular {
			s.size += e.Size
		}
		if id == 0 {
			continue
		}
		parent := &f.states[f.nodes[id].parent]
		parent.within |= s.within
		if s.change != filetree.Removed || changeOf(f, id) == filetree.Removed {
			parent.size += s.size
		}
	}
}

// changeOf is the change of the directory that a path is in. Its own state is not known yet.
func changeOf(f *forest, id int) filetree.Change {
	parent := f.nodes[id].parent
	if _, after := f.versions(parent); after == nil && parent != 0 {
		return filetree.Removed
	}
	return filetree.Unmodified
}

// entry is the version of a path that is shown: that after the changes, or the removed one. It may be nil.
func (f *forest) entry(id int) *view.Entry {
	before, after := f.versions(id)
	return cmp.Or(after, before)
}

func (f *forest) isDir(id int) bool {
	if e := f.entry(id); e != nil {
		return e.IsDir()
	}
	return len(f.nodes[id].children) > 0
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
	for ; id > 0; id = f.nodes[id].parent {
		names = append(names, f.nodes[id].name)
	}
	slices.Reverse(names)
	path := ""
	for _, n := range names {
		path += "/" + n
	}
	return path
}

// filter marks the paths that match, and the directories that they are in. It returns how many match.
func (f *forest) filter(match func(path string) bool) (count int) {
	for i := range f.states {
		f.states[i].match = match == nil
	}
	if match == nil {
		return len(f.states)
	}
	var walk func(id int, path string) bool
	walk = func(id int, path string) bool {
		found := id != 0 && match(path)
		if found && f.states[id].exists {
			count++
		}
		for _, c := range f.nodes[id].children {
			if walk(c, path+"/"+f.nodes[c].name) {
				found = true
			}
		}
		f.states[id].match = found
		return found
	}
	walk(0, "")
	return count
}

// row is a line of the tree.
type row struct{ id, depth int }

// rows returns the lines of the tree in the order in which they are shown.
func (f *forest) rows(open func(id int) bool, shown uint8, bySize bool) []row {
	var list []row
	var walk func(id, depth int)
	walk = func(id, depth int) {
		children := f.nodes[id].children
		if bySize {
			children = slices.Clone(children)
			slices.SortStableFunc(children, func(a, b int) int { return cmp.Compare(f.states[b].size, f.states[a].size) })
		}
		for _, c := range children {
			s := &f.states[c]
			if !s.exists || !s.match || s.within&shown == 0 {
				continue
			}
			list = append(list, row{c, depth})
			if open(c) {
				walk(c, depth+1)
			}
		}
	}
	if len(f.states) > 0 {
		walk(0, 0)
	}
	return list
}
