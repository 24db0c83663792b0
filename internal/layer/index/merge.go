package index

import (
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// Merge puts the files of a layer over those beneath it (nil for none), as overlayfs does, and returns nil for a
// removal. Neither side is changed; directories that only one side has are shared. behind returns the directory that a name leads to
// through the symlinks of a layer.
func Merge(lower, upper *Node, behind func(layer digest.Digest, name string) *view.Entry) *Node {
	if upper.Entry.Type == view.TypeWhiteout {
		return nil
	}
	if lower == nil || !lower.IsDir() || !upper.IsDir() {
		out := bare(upper)
		if lower != nil && lower.Entry.Type == view.TypeSymlink {
			out = out.overLink(func(name string) *view.Entry { return behind(lower.Layer, name) })
		}
		return out
	}
	if upper.Entry.Opaque {
		out := bare(upper)
		if !upper.Described {
			out.Entry, out.Layer = lower.Entry, lower.Layer
		}
		return out
	}
	out := &Node{name: upper.name, Entry: upper.Entry, Layer: upper.Layer, Described: true}
	if !upper.Described {
		out.Entry, out.Layer = lower.Entry, lower.Layer
	}
	out.Children = make([]*Node, 0, len(lower.Children)+len(upper.Children))
	rest := lower.Children
	for _, kid := range upper.Children {
		i, there := search(rest, kid.name)
		out.Children = append(out.Children, rest[:i]...)
		rest = rest[i:]
		if there {
			out.keep(Merge(rest[0], kid, behind))
			rest = rest[1:]
		} else {
			out.keep(Merge(nil, kid, nil))
		}
	}
	out.Children = append(out.Children, rest...)
	return out
}

// overLink returns what replaces a symlink of a layer below. Directories without entries of their own get the metadata of those
// that the link leads to, as in containerd (mkparent).
func (n *Node) overLink(behind func(name string) *view.Entry) *Node {
	if !n.IsDir() {
		return n
	}
	out := *n
	if e := behind(n.Entry.Path); e != nil && !n.Described {
		out.Entry = e.Clone()
		out.Entry.Path = n.Entry.Path
	}
	out.Children = make([]*Node, len(n.Children))
	for i, kid := range n.Children {
		out.Children[i] = kid.overLink(behind)
	}
	return &out
}

func (n *Node) keep(kid *Node) {
	if kid != nil {
		n.Children = append(n.Children, kid)
	}
}

// bare is a layer's file or directory with nothing beneath it to be hidden: whiteouts and opaque marks fall away.
func bare(n *Node) *Node {
	if !n.hides {
		return n
	}
	out := *n
	out.hides = false
	if n.Entry.Opaque {
		out.Entry = n.Entry.Clone()
		out.Entry.Opaque = false
	}
	out.Children = make([]*Node, 0, len(n.Children))
	for _, kid := range n.Children {
		out.keep(Merge(nil, kid, nil))
	}
	return &out
}
