package layer

import (
	"fmt"
	"maps"
	"slices"

	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// links are the names of one file.
type links struct {
	names []*node
	order int // of the entry that has the content
}

// link makes n, a hardlink, another name of the file that its entry names.
func (x *index) link(n *node) error {
	e := n.entry
	first, err := x.target(e.Hardlink)
	if err != nil {
		return err
	}
	switch {
	case e.Hardlink == "." || first != nil && first.isDir():
		return fmt.Errorf("layer entry %q is a hard link to a directory, %q", e.Path, e.Hardlink)
	case first == nil || first.entry.Type == view.TypeWhiteout:
		return fmt.Errorf("layer entry %q is a hard link to %q, which is not in the layer before it", e.Path, e.Hardlink)
	case first.entry.Path == e.Path:
		return fmt.Errorf("layer entry %q is a hard link to itself", e.Path)
	}
	if first.links == nil {
		first.links = &links{names: []*node{first}, order: first.order}
		x.groups = append(x.groups, first.links)
	}
	x.revise(first, e)
	name := e.Path
	*e = *first.entry
	e.Path, e.Hardlink = name, first.entry.Path
	n.place, n.links = first.place, first.links
	n.links.names = append(n.links.names, n)
	return nil
}

// target finds the file that a hard link names, nil for none. A symlink in its last component is the file itself.
func (x *index) target(name string) (*node, error) {
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

// hide keeps a file that has no name of its own, only hard links: what AUFS had several names for stood in a directory
// beside the files. Docker finds it there, too.
func (x *index) hide(e *view.Entry, p toc.Place) error {
	n, err := x.node(e.Path, e)
	if err != nil {
		return err
	}
	n.layer, n.place, n.order, n.described = x.layer, p, x.count, true
	n.links = &links{order: n.order}
	x.groups = append(x.groups, n.links)
	if x.hidden == nil {
		x.hidden = make(map[string]*node)
	}
	x.hidden[e.Path] = n
	return nil
}

// revise gives a file what the header of a hard link to it says, as containerd does: it sets the owner, mode, time and
// attributes of what it has linked. Entries are shared and are copied.
func (x *index) revise(first *node, link *view.Entry) {
	said := first.entry.Clone()
	said.UID, said.GID, said.ModTime = link.UID, link.GID, link.ModTime
	if said.Type != view.TypeSymlink {
		said.Mode = link.Mode
	}
	said.Xattrs = linkedXattrs(first.entry, link)
	if equalMetadata(said, first.entry) {
		return
	}
	x.revised = true
	for _, n := range append([]*node{first}, first.links.names...) {
		e := said.Clone()
		e.Path, e.Hardlink = n.entry.Path, n.entry.Hardlink
		n.entry = e
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

// settle makes the first of the names, by this order, the one with the content, and the others hardlinks to it. Entries
// may be shared and are copied.
func (g *links) settle(order func(a, b *node) int) {
	slices.SortFunc(g.names, order)
	for i, n := range g.names {
		first := ""
		if i > 0 {
			first = g.names[0].entry.Path
		}
		if n.entry.Hardlink != first {
			n.entry = n.entry.Clone()
			n.entry.Hardlink = first
		}
	}
}

// replace puts a whiteout in the place of whatever the layer has of that name: a device 0:0 in a tar is one, for that is what
// Docker and containerd make of it, and what overlayfs takes it for.
func (x *index) replace(e *view.Entry) error {
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
	n.layer, n.order, n.described = x.layer, x.count, true
	if old := parent.child(base); old != nil {
		x.drop(old)
		*old = *n
		return nil
	}
	parent.attach(n)
	return nil
}
