package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// coverDir is the name of a cover.
const coverDir = "cover"

// Lowers returns the lower directories of the overlay mount that shows a chain, bottom first: the trees of its layers, unpacked
// where need be (see Tree), the lowest joined in one where they are too many, and, if those alone would show something else than the chain's View, a cover above them. It is a
// directory that Lowers makes in dir, which belongs to the caller, as overlayfs takes a directory from the uppermost layer:
//
//   - A layer's tar need not mention the directories that its files are in. In the chain they are as the layer below has them
//     (containerd's mkparent does the same), but the layer's tree, which other chains share, cannot know how that is.
//   - Overlayfs looks for whiteouts only where it merges directories. In a directory that one layer alone has it lists them.
func (l *Layers) Lowers(ctx context.Context, chain []digest.Digest, dir string) ([]string, error) {
	chain, odd, err := l.survey(ctx, topmost(chain))
	if err != nil {
		return nil, err
	}
	if chain, odd, err = l.flattened(ctx, chain, odd); err != nil {
		return nil, err
	}
	trees, err := l.Trees(ctx, chain)
	if err != nil || odd == nil {
		return trees, err
	}
	dirs, err := l.covered(ctx, chain, odd)
	if err != nil || len(dirs) == 0 {
		return trees, err
	}
	cover := filepath.Join(dir, coverDir)
	if err := l.makeCover(cover, dirs); err != nil {
		return nil, fmt.Errorf("prepare root filesystem: %w", err)
	}
	return append(trees, cover), nil
}

// topmost leaves of layers that are in a chain several times the highest: what the others do, it does again.
func topmost(chain []digest.Digest) []digest.Digest {
	seen := make(map[digest.Digest]bool, len(chain))
	var kept []digest.Digest
	for _, id := range slices.Backward(chain) {
		if !seen[id] {
			seen[id] = true
			kept = append(kept, id)
		}
	}
	slices.Reverse(kept)
	return kept
}

// oddities are the directories of a layer for which its tree alone may not do.
type oddities struct {
	implied map[string]bool // without an entry of their own
	holes   map[string]bool // with a whiteout in them, which in a user namespace replaces a device, too
	userns  bool
}

// survey returns the part of a chain that shows, from its highest opaque root on, which overlayfs would pass over, and the
// oddities of its layers; nil where none has any.
func (l *Layers) survey(ctx context.Context, chain []digest.Digest) ([]digest.Digest, []*oddities, error) {
	var odd []*oddities
	for i, id := range slices.Backward(chain) {
		s, err := l.summary(id)
		if err == nil && s.Plain && (!s.Devices || !l.trees.Nested()) {
			continue
		}
		if err != nil && !errors.Is(err, toc.ErrDamaged) {
			return nil, nil, err
		}
		root, err := l.indexOf(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if odd == nil {
			odd = make([]*oddities, len(chain))
		}
		odd[i] = &oddities{implied: map[string]bool{}, holes: map[string]bool{}, userns: l.trees.Nested()}
		for _, kid := range root.Children {
			odd[i].note(root, kid)
		}
		if root.Entry.Opaque {
			return chain[i:], odd[i:], nil
		}
	}
	return chain, odd, nil
}

// note looks at n, which is in dir, and at all in it.
func (o *oddities) note(dir, n *index.Node) {
	switch {
	case n.Entry.Type == view.TypeWhiteout || o.userns && toc.IsDevice(n.Entry):
		o.holes[dir.Entry.Path] = true
	case n.IsDir() && !n.Described:
		o.implied[n.Entry.Path] = true
	}
	for _, kid := range n.Children {
		o.note(n, kid)
	}
}

// covered returns the directories that need a cover, and those above them, as they are in the chain; parents first.
func (l *Layers) covered(ctx context.Context, chain []digest.Digest, odd []*oddities) ([]*view.Entry, error) {
	s := &stack{trees: make([]tree.Tree, len(chain)), odd: odd, dirs: map[string]*mergedDir{".": {entry: index.ImpliedDir("."), link: -1}}}
	s.behind = func(layer int, name string) *view.Entry { return l.behind(ctx, chain[layer], name) }
	for i, id := range slices.Backward(chain) {
		t, err := l.trees.Open(l.path(id))
		if err != nil {
			return nil, fail(id, err)
		}
		defer t.Close()
		s.trees[i] = t
		s.dirs["."].from = append(s.dirs["."].from, i)
	}
	cover := map[string]*view.Entry{}
	for _, o := range odd {
		if o == nil {
			continue
		}
		for _, names := range []map[string]bool{o.implied, o.holes} {
			for name := range names {
				if err := s.cover(cover, name); err != nil {
					return nil, err
				}
			}
		}
	}
	return sortedEntries(cover), nil
}

func sortedEntries(byPath map[string]*view.Entry) []*view.Entry {
	entries := make([]*view.Entry, 0, len(byPath))
	for _, e := range byPath {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *view.Entry) int { return view.Compare(a.Path, b.Path) })
	return entries
}

// makeCover makes a tree of directories alone.
func (l *Layers) makeCover(path string, dirs []*view.Entry) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	w, err := l.trees.CreateDirectory(path)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := tree.MakeDirs(w, dirs, nil); err != nil {
		return err
	}
	return w.Finish(nil, dirs)
}
