package layer

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Trees never change, so that a file that one tree has can be a hard link in another: a copy out of a stage, or of a
// context of which a file has changed since the last build, writes next to nothing.

// twins finds files in the trees of the store that are, content and metadata alike, what a new tree is to hold.
type twins struct {
	layers  *Layers
	changes []view.Change
	like    *node // files of the layer that the new one resembles, or nil

	mu   sync.Mutex
	used map[inode]bool // a file with two names in one tree would be another layer
}

// newTwins is nil where there is nothing to link.
func (l *Layers) newTwins(ctx context.Context, changes []view.Change, like digest.Digest) *twins {
	t := &twins{layers: l, changes: changes, used: map[inode]bool{}}
	if like != "" && l.unpacked(like) {
		if root, err := l.indexOf(ctx, like); err == nil {
			t.like = root
		}
	}
	if t.like != nil {
		return t
	}
	for _, c := range changes {
		if _, ok := c.Source.(*chainView); ok {
			return t
		}
	}
	return nil
}

// candidates are the nodes that may be change i's twin.
func (t *twins) candidates(i int) []*node {
	var list []*node
	c := t.changes[i]
	if from, ok := c.Source.(*chainView); ok {
		if n, err := from.find("link", c.SourcePath); err == nil {
			list = append(list, n)
		}
	}
	if t.like != nil {
		if n := t.like.descend(c.Entry.Path); n != nil {
			list = append(list, n)
		}
	}
	return list
}

// linker makes the links of one goroutine, which keeps the directories open that it links from.
type linker struct {
	twins *twins
	trees map[digest.Digest]*dirs // nil for one that cannot be opened
}

func (t *twins) linker() *linker {
	if t == nil {
		return nil
	}
	return &linker{twins: t, trees: map[digest.Digest]*dirs{}}
}

func (k *linker) close() {
	if k == nil {
		return
	}
	for _, d := range k.trees {
		if d != nil {
			d.close()
			_ = unix.Close(d.root)
		}
	}
}

// link makes entry i, whose content has this digest, a link to its twin in another tree. It reports whether it has: where
// there is no twin, or the filesystem has given it all the names that it can, the file is to be written.
func (k *linker) link(to *dirs, i int, e *view.Entry, sum [sha256.Size]byte) bool {
	if k == nil || e.Size == 0 { // an empty file is made as fast
		return false
	}
	for _, n := range k.twins.candidates(i) {
		if n.links != nil || !sameFile(n.entry, e) || [sha256.Size]byte(rawDigest(k.twins.layers.computed(n))) != sum {
			continue
		}
		from := k.tree(n)
		if from == nil {
			continue
		}
		at, base, err := from.parent(n.entry.Path)
		if err != nil || !k.twins.take(at, base, e) {
			continue
		}
		newAt, newBase, err := to.parent(e.Path)
		if err == nil && unix.Linkat(at, base, newAt, newBase, 0) == nil {
			return true
		}
	}
	return false
}

// tree is the tree that a node's file is in, nil if the layer has none.
func (k *linker) tree(n *node) *dirs {
	if d, ok := k.trees[n.layer]; ok {
		return d
	}
	k.trees[n.layer] = nil
	if root, err := openRoot(k.twins.layers.path(n.layer, treeDir)); err == nil {
		k.trees[n.layer] = newDirs(root)
	}
	return k.trees[n.layer]
}

// sameFile reports whether two entries of regular files would be the same on disk, contents left out.
func sameFile(a, b *view.Entry) bool {
	return a.Type == view.TypeRegular && a.Hardlink == "" && b.Hardlink == "" && a.Size == b.Size && a.Mode == b.Mode &&
		a.UID == b.UID && a.GID == b.GID && timesOf(a) == timesOf(b) && maps.Equal(a.Xattrs, b.Xattrs)
}

// take reports whether a file of a tree still is what its entry says, as far as its metadata goes (as before a process runs
// on it), and has not been taken before.
func (t *twins) take(at int, base string, e *view.Entry) bool {
	var st unix.Stat_t
	if unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	have := view.StatEntry(&st)
	if have.Type != e.Type || have.Size != e.Size || have.Mode != e.Mode || !sameTime(have.ModTime, e.ModTime) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id := inode{st.Dev, st.Ino}
	if t.used[id] {
		return false
	}
	t.used[id] = true
	return true
}
