package index

import (
	"fmt"
	"maps"
	"slices"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// links are the names of one file.
type links struct {
	names []*Node
	order int // of the entry that has the content
}

// link makes n, a hardlink, another name of the file that its entry names.
func (x *Builder) link(n *Node) error {
	e := n.Entry
	first, err := x.target(e.Hardlink)
	if err != nil {
		return err
	}
	switch {
	case e.Hardlink == "." || first != nil && first.IsDir():
		return fmt.Errorf("layer entry %q is a hard link to a directory, %q", e.Path, e.Hardlink)
	case first == nil || first.Entry.Type == view.TypeWhiteout:
		return fmt.Errorf("layer entry %q is a hard link to %q, which is not in the layer before it", e.Path, e.Hardlink)
	case first.Entry.Path == e.Path:
		return fmt.Errorf("layer entry %q is a hard link to itself", e.Path)
	}
	if first.links == nil {
		first.links = &links{names: []*Node{first}, order: first.order}
		x.groups = append(x.groups, first.links)
	}
	x.revise(first, e)
	name := e.Path
	*e = *first.Entry
	e.Path, e.Hardlink = name, first.Entry.Path
	n.Place, n.links = first.Place, first.links
	n.links.names = append(n.links.names, n)
	return nil
}

// target finds the file that a hard link names, nil for none. A symlink in its last component is the file itself.
func (x *Builder) target(name string) (*Node, error) {
	if n := x.hidden[name]; n != nil {
		return n, nil
	}
	dir, base := view.Split(name)
	parent, _, err := x.walk(dir, false)
	if err != nil || parent == nil {
		return nil, err
	}
	return parent.child(base), nil
}

// AddNameless adds a file that only hard links name: AUFS kept files with several names in a directory of its own. Docker finds them
// there, too.
func (x *Builder) AddNameless(e *view.Entry, p toc.Place) error {
	n, err := x.node(e.Path, e)
	if err != nil {
		return err
	}
	n.Layer, n.Place, n.order, n.Described = x.layer, p, x.count, true
	n.links = &links{order: n.order}
	x.groups = append(x.groups, n.links)
	if x.hidden == nil {
		x.hidden = make(map[string]*Node)
	}
	x.hidden[e.Path] = n
	return nil
}

// revise gives a file the owner, mode, time and attributes of a hard link to it, as containerd does. Entries are shared and are
// copied.
func (x *Builder) revise(first *Node, link *view.Entry) {
	revised := first.Entry.Clone()
	revised.UID, revised.GID, revised.ModTime = link.UID, link.GID, link.ModTime
	if revised.Type != view.TypeSymlink {
		revised.Mode = link.Mode
	}
	revised.Xattrs = linkedXattrs(first.Entry, link)
	if SameMetadata(revised, first.Entry) {
		return
	}
	x.revised = true
	for _, n := range append([]*Node{first}, first.links.names...) {
		e := revised.Clone()
		e.Path, e.Hardlink = n.Entry.Path, n.Entry.Hardlink
		n.Entry = e
	}
}

// linkedXattrs are a file's attributes after those of a link are added. Setting the owner has removed its capabilities (chown(2)).
func linkedXattrs(file, link *view.Entry) map[string]string {
	attrs := maps.Clone(file.Xattrs)
	if file.Type == view.TypeRegular {
		delete(attrs, "security.capability")
	}
	for name, value := range link.Xattrs {
		if view.TakesXattr(file.Type, name) {
			if attrs == nil {
				attrs = make(map[string]string)
			}
			attrs[name] = value
		}
	}
	return attrs
}

// sortNames makes the first of the names, by this order, the one with the content, and the others hardlinks to it. Entries
// may be shared and are copied.
func (g *links) sortNames(order func(a, b *Node) int) {
	slices.SortFunc(g.names, order)
	for i, n := range g.names {
		first := ""
		if i > 0 {
			first = g.names[0].Entry.Path
		}
		if n.Entry.Hardlink != first {
			n.Entry = n.Entry.Clone()
			n.Entry.Hardlink = first
		}
	}
}

// Replace puts a whiteout in the place of any file that the layer has of that name. A device 0:0 in a tar is such a whiteout: Docker
// and containerd create the device, which overlayfs takes for a whiteout.
func (x *Builder) Replace(e *view.Entry) error {
	dir, base := view.Split(e.Path)
	parent, real, err := x.dir(dir)
	if err != nil {
		return err
	}
	e.Path = view.Join(real, base)
	n, err := x.node(base, e)
	if err != nil {
		return err
	}
	n.Layer, n.order, n.Described = x.layer, x.count, true
	if old := parent.child(base); old != nil {
		x.drop(old)
		*old = *n
		return nil
	}
	parent.attach(n)
	return nil
}
