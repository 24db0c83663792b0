package analyze

import (
	"cmp"
	"slices"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/view"
)

// Dive has the numbers of github.com/wagoodman/dive (dive/filetree/efficiency.go, dive/image/analysis.go). A path that several
// layers have counts with every size that they give it, the smallest of which is what it needs; a removal has the size 0, and that of
// a directory the size of the files in it.
type Dive struct {
	Efficiency        float64 `json:"efficiencyScore"` // the sizes that are needed, as a part of all: 1 if nothing is wasted
	InefficientBytes  int64   `json:"inefficientBytes"`
	UserWastedPercent float64 `json:"userWastedPercent"` // the inefficient bytes as a part of the layers above the lowest: 1 for 100 %
}

// diveScore computes the numbers of dive.
func diveScore(tree *filetree.Tree) Dive {
	var d Dive
	var least, all, user int64
	tree.Walk(func(n *filetree.Node) bool {
		paths, total, smallest := 0, int64(0), int64(-1)
		for i := range n.Versions {
			v := &n.Versions[i]
			if v.Layer > 0 {
				user += v.Bytes()
			}
			size, leaf := diveSize(v)
			if !leaf || n == tree.Root {
				continue
			}
			paths++
			total += size
			if smallest < 0 || size < smallest {
				smallest = size
			}
		}
		all += total
		least += max(smallest, 0)
		if paths > 1 {
			d.InefficientBytes += total
		}
		return true
	})
	d.Efficiency = 1
	if all > 0 {
		d.Efficiency = float64(least) / float64(all)
	}
	if user > 0 {
		d.UserWastedPercent = float64(d.InefficientBytes) / float64(user)
	}
	return d
}

// diveSize is the size of a version as dive counts it. Only leaves count: what a layer has nothing beneath.
func diveSize(v *filetree.Version) (size int64, leaf bool) {
	switch {
	case v.Layer < 0 || v.Type == 0 || v.Inner:
		return 0, false
	case v.Type == view.TypeWhiteout:
		return v.Removed(), true
	}
	return v.Bytes(), true
}

// How says why bytes of a layer are not in the image.
type How string

// The ways to waste bytes.
const (
	Overwritten How = "overwritten" // by a file, or something else, of a later layer
	Rewritten   How = "rewritten"   // by the same content: a later step changed the mode, the owner or the time
	Removed     How = "removed"     // by a later layer
)

// Waste is a path of which a layer has bytes that are not in the image. What is removed with a directory is one Waste.
type Waste struct {
	Path  string `json:"path"`
	How   How    `json:"how"`
	Bytes int64  `json:"bytes"`
	Files int    `json:"files"`
	Step  int    `json:"step"`   // that wrote them
	By    int    `json:"byStep"` // that hid them
}

// wasteKey joins the files of one removal.
type wasteKey struct {
	node      *filetree.Node
	layer, by int
	how       How
}

// waste lists what is wasted, the largest first, and adds to the steps what they waste.
func (a *analysis) waste() []Waste {
	found := map[wasteKey]*Waste{}
	a.tree.Walk(func(n *filetree.Node) bool {
		for i := range n.Versions[:max(len(n.Versions)-1, 0)] {
			v, next := &n.Versions[i], &n.Versions[i+1]
			if v.Bytes() > 0 && !a.otherNameLeft(n, v) {
				a.addWaste(found, n, v, next)
			}
		}
		return true
	})
	list := make([]Waste, 0, len(found))
	for _, w := range found {
		list = append(list, *w)
	}
	slices.SortFunc(list, func(a, b Waste) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Step, b.Step))
	})
	return list
}

func (a *analysis) addWaste(found map[wasteKey]*Waste, n *filetree.Node, v, next *filetree.Version) {
	key := wasteKey{n, v.Layer, next.Layer, Overwritten}
	switch {
	case next.Type == 0:
		key.node, key.how = removedWith(n, next.Layer), Removed
	case next.Type == view.TypeWhiteout:
		key.how = Removed
	case next.Type == view.TypeRegular && filetree.SameContent(a.tree.Entry(n, v), a.tree.Entry(n, next)):
		key.how = Rewritten
	}
	w := found[key]
	if w == nil {
		w = &Waste{Path: key.node.Path(), How: key.how, Step: a.step(v.Layer), By: a.step(next.Layer)}
		found[key] = w
	}
	w.Bytes += v.Bytes()
	w.Files++
	a.report.Wasted.Bytes += v.Bytes()
	a.report.Wasted.Files++
	a.steps[a.step(v.Layer)-1].Wasted += v.Bytes()
}

// removedWith is the directory that a layer has removed, or replaced, with n beneath it.
func removedWith(n *filetree.Node, layer int) *filetree.Node {
	for n.Parent != nil {
		n = n.Parent
		if v := n.At(layer); v == nil || v.Layer != layer || v.Type != 0 {
			break
		}
	}
	return n
}

// otherNameLeft reports whether a file that a layer above hides is in the image by another of its names.
func (a *analysis) otherNameLeft(n *filetree.Node, v *filetree.Version) bool {
	for _, other := range a.tree.Names(n, v) {
		if now := other.At(a.tree.Layers); now != nil && now.Layer == v.Layer && now.Present() {
			return true
		}
	}
	return false
}
