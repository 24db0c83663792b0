package layer

import (
	"errors"
	"io/fs"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// stack is the trees of a chain, bottom first, looked at as overlayfs does.
type stack struct {
	trees []tree.Tree
	odd   []*oddities // nil for none
	dirs  map[string]*mergedDir
	// behind is Layers.behind of one of the layers.
	behind func(layer int, name string) *view.Entry
}

// mergedDir is a directory of the chain.
type mergedDir struct {
	from  []int       // the layers that overlayfs merges, top first; none where the chain has no such directory
	entry *view.Entry // the directory as it is in the chain
	layer int         // that entry is of
	link  int         // the layer of the symlink that it is in the place of, or a directory above it; -1 for none
}

// dir returns the directory of a name.
func (s *stack) dir(name string) (*mergedDir, error) {
	if m := s.dirs[name]; m != nil {
		return m, nil
	}
	parent, _ := view.Split(name)
	in, err := s.dir(parent)
	if err != nil {
		return nil, err
	}
	m, found, alone := &mergedDir{link: -1}, false, false
	for _, i := range in.from {
		e, err := s.trees[i].Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if e.Type == view.TypeSymlink && len(m.from) > 0 {
			m.link = i
		}
		if !e.IsDir() || found && alone {
			break
		}
		if !alone {
			m.from = append(m.from, i)
		}
		implied := s.odd[i] != nil && s.odd[i].implied[name]
		if m.entry == nil || !found && !implied {
			m.entry, m.layer = e, i
		}
		// If the layer does not describe an opaque directory, it looks like the one it hides.
		found, alone = found || !implied, alone || e.Opaque
	}
	// Only in the layer that has replaced the link do directories look like those that the link leads to.
	if n := len(m.from); m.link < 0 && n > 0 && m.from[n-1] == in.from[len(in.from)-1] {
		m.link = in.link
	}
	if m.link >= 0 && !found && m.entry != nil {
		if e := s.behind(m.link, name); e != nil {
			m.entry, m.layer = e, m.link
		}
	}
	s.dirs[name] = m
	return m, nil
}

// cover adds a directory to the cover, and those above it, if it needs one.
func (s *stack) cover(cover map[string]*view.Entry, name string) error {
	m, err := s.dir(name)
	if err != nil || len(m.from) == 0 {
		return err
	}
	top := m.from[0]
	bare := len(m.from) == 1 && s.odd[top] != nil && s.odd[top].holes[name]
	if m.layer == top && !bare {
		return nil
	}
	for cover[name] == nil {
		m, err := s.dir(name)
		if err != nil {
			return err
		}
		cover[name] = m.entry.Clone()
		cover[name].Opaque = false
		name, _ = view.Split(name)
	}
	return nil
}
