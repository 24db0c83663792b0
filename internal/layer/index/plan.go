package index

import (
	"cmp"
	"slices"

	"github.com/micabuild/mica/internal/view"
)

// Plan lists what the tree of a layer holds, in the order in which it is made.
type Plan struct {
	Dirs  []*view.Entry // parents first, the root included
	Files []*Node       // with content, in the order of the tar; empty ones wherever
	Rest  []*view.Entry // hardlinks, symlinks, devices, whiteouts; a link after what it names
}

// NewPlan returns the plan of the layer whose root this is.
func NewPlan(root *Node) *Plan {
	p := &Plan{}
	var links []*view.Entry
	var add func(n *Node)
	add = func(n *Node) {
		switch e := n.Entry; {
		case e.IsDir():
			p.Dirs = append(p.Dirs, e)
		case e.Hardlink != "":
			links = append(links, e)
		case e.Type == view.TypeRegular:
			p.Files = append(p.Files, n)
		default:
			p.Rest = append(p.Rest, e)
		}
		for _, kid := range n.Children {
			add(kid)
		}
	}
	add(root)
	p.Rest = append(p.Rest, links...)
	slices.SortStableFunc(p.Files, func(a, b *Node) int { return cmp.Compare(a.Place.Offset, b.Place.Offset) })
	return p
}

// Entries returns all of the plan but the root, sorted by path.
func (p *Plan) Entries() []*view.Entry {
	all := slices.Clone(p.Rest)
	for _, n := range p.Files {
		all = append(all, n.Entry)
	}
	for _, e := range p.Dirs {
		if e.Path != "." {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *view.Entry) int { return cmp.Compare(a.Path, b.Path) })
	return all
}
