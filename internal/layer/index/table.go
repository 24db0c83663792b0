package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/layer/toc"
)

// FromTable returns the root of the index of a table of contents: toc.ErrDamaged.
func FromTable(t *toc.Table) (*Node, error) {
	x := NewBuilder(t.DiffID, len(t.Entries))
	for i, e := range t.Entries {
		if err := x.Add(e, t.Places[i]); err != nil {
			return nil, toc.ErrDamaged
		}
	}
	root := x.Root()
	for _, g := range x.groups {
		g.sortNames(func(a, b *Node) int { return strings.Compare(a.Entry.Path, b.Entry.Path) })
	}
	return root, nil
}

// Table returns the table of contents of what was added, in tar order. A file with several names has the position of its
// content, and the first of the names that are left.
func (x *Builder) Table() *toc.Encoder {
	var nodes []*Node
	var collect func(n *Node)
	collect = func(n *Node) {
		if n.Described || n.Entry.Opaque || n.IsDir() && len(n.Children) == 0 && n != x.root {
			nodes = append(nodes, n)
		}
		for _, kid := range n.Children {
			collect(kid)
		}
	}
	collect(x.Root())
	for _, g := range x.groups {
		if len(g.names) == 0 {
			continue
		}
		g.sortNames(func(a, b *Node) int { return cmp.Compare(a.order, b.order) })
		g.names[0].order = g.order
	}
	slices.SortFunc(nodes, func(a, b *Node) int { return cmp.Compare(a.order, b.order) })
	t := &toc.Encoder{}
	number := make(map[*Node]int)
	for i, n := range nodes {
		first := 0
		if n.links != nil {
			number[n] = i
			first = number[n.links.names[0]]
		}
		n.Place.Implied = !n.Described
		t.Add(n.Entry, n.Place, first)
	}
	return t
}
