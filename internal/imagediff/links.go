package imagediff

import (
	"slices"

	"github.com/micabuild/mica/internal/layer/index"
)

// tree has the files of one image, and which of their names are of one file.
type tree struct {
	root   *index.Node
	groups map[*index.Node][]string // the names that are left of a file, sorted, by the first node that the layer has of it
}

func newTree(root *index.Node) *tree { return &tree{root, map[*index.Node][]string{}} }

// names returns the names that a file has in the image, sorted; nil if it has one. An upper layer may have replaced some of the names
// that a layer gives it.
func (t *tree) names(n *index.Node) []string {
	all := n.Names()
	if all == nil {
		return nil
	}
	if known, ok := t.groups[all[0]]; ok {
		return known
	}
	var left []string
	for _, name := range all {
		if here := t.root.Descend(name.Entry.Path); here != nil && here.SameFile(n) {
			left = append(left, name.Entry.Path)
		}
	}
	slices.Sort(left)
	if len(left) < 2 {
		left = nil
	}
	t.groups[all[0]] = left
	return left
}

// first returns the first name of the file n, "" if that is its own.
func (t *tree) first(n *index.Node) string {
	if names := t.names(n); names != nil && names[0] != n.Entry.Path {
		return names[0]
	}
	return ""
}

// linked finds the names that are of one file in one image, and of two in the other.
type linked struct {
	a, b    *tree
	suspect map[string]bool // names of files that the images do not share
	seen    map[linkedFile]bool
	first   map[linkedFile]string // of the names in both images
}

// linkedFile is a file of several names in one of the images, by the first node that the layer has of it.
type linkedFile struct {
	tree *tree
	node *index.Node
}

// visit looks at a file of one image that is not shared with the other.
func (l *linked) visit(t *tree, n *index.Node) {
	all := n.Names()
	if all == nil || l.seen[linkedFile{t, all[0]}] {
		return
	}
	l.seen[linkedFile{t, all[0]}] = true
	for _, name := range t.names(n) {
		l.suspect[name] = true
	}
}

// firstCommon returns the first name of a file that is in both images: where it is the same for all names, the names are linked in the same way.
func (l *linked) firstCommon(t *tree, n *index.Node) string {
	names := t.names(n)
	if names == nil {
		return n.Entry.Path
	}
	key := linkedFile{t, n.Names()[0]}
	first, ok := l.first[key]
	if !ok {
		first = names[slices.IndexFunc(names, l.common)]
		l.first[key] = first
	}
	return first
}

// common reports whether both images have a file of a name that is not a directory.
func (l *linked) common(name string) bool {
	a, b := l.a.root.Descend(name), l.b.root.Descend(name)
	return a != nil && b != nil && !a.IsDir() && !b.IsDir()
}

// changed returns the names that are linked in another way, sorted.
func (l *linked) changed() (list []string) {
	for name := range l.suspect {
		if !l.common(name) {
			continue
		}
		if l.firstCommon(l.a, l.a.root.Descend(name)) != l.firstCommon(l.b, l.b.root.Descend(name)) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
