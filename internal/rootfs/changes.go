package rootfs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// Changes returns what leads from base, the view that the tree had when it was laid out or last compared, to what is in the directory now:
// the changes that overlayfs and [tree.Host.OpenUpper] would make of the same. No process may write to the directory any more. Files whose
// state is as before are not read. Afterwards the tree is one of base with the changes.
//
// A file with several names that is changed in its place changes under all of them, while overlayfs would change one.
func (t *Tree) Changes(ctx context.Context, base view.View) ([]view.Change, error) {
	d := &differ{t: t, ctx: ctx, base: base, seen: map[string]bool{}, both: map[string]bool{".": true}, keep: map[string]bool{}, links: map[uint64]*linked{}}
	w := &walk{ctx: ctx, path: t.path, states: map[string]state{}, found: d.found}
	if err := w.dir("."); err != nil {
		return nil, err
	}
	if err := d.removed("."); err != nil {
		return nil, err
	}
	if err := d.files(); err != nil {
		return nil, err
	}
	d.directories()
	t.states = w.states
	if err := awaitClock(ctx, w.newest); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b view.Change) int { return strings.Compare(a.Entry.Path, b.Entry.Path) })
	return d.changes, nil
}

// differ compares a tree with its base.
type differ struct {
	t       *Tree
	ctx     context.Context
	base    view.View
	seen    map[string]bool // the names in the tree
	both    map[string]bool // directories that both have
	dirs    []*pair         // parents first
	changed []*pair         // files whose state differs
	links   map[uint64]*linked
	keep    map[string]bool // directories in which something has changed
	changes []view.Change
}

// pair is a file of the tree, and what base has of its name; nil for nothing.
type pair struct {
	now, old *view.Entry
}

// linked are the names of a file that has several: those that it had before, and those that a process has made.
type linked struct{ before, made []*pair }

func (d *differ) found(name string, st *unix.Stat_t) error {
	d.seen[name] = true
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir && d.t.states[name] == stateOf(st) {
		return nil
	}
	p, err := d.pair(name, st)
	if err != nil {
		return err
	}
	if p.now.Type == view.TypeChar && p.now.Major == 0 && p.now.Minor == 0 { // a whiteout, as on overlayfs
		delete(d.seen, name)
		return nil
	}
	if isDir {
		d.both[name] = p.old != nil && p.old.IsDir()
		d.dirs = append(d.dirs, p)
		return nil
	}
	if st.Nlink > 1 {
		group := d.links[st.Ino]
		if group == nil {
			group = &linked{}
			d.links[st.Ino] = group
		}
		if before, ok := d.t.states[name]; ok && before.inode == st.Ino {
			group.before = append(group.before, p)
		} else {
			group.made = append(group.made, p)
		}
	}
	d.changed = append(d.changed, p)
	return nil
}

func (d *differ) pair(name string, st *unix.Stat_t) (*pair, error) {
	full := filepath.Join(d.t.path, name)
	e, err := d.t.entry(full, st)
	if err != nil {
		return nil, err
	}
	e.Path = name
	if e.Type == view.TypeSymlink {
		target, err := os.Readlink(full)
		if err != nil {
			return nil, err
		}
		e.Linkname = target
	}
	xattrs, err := view.ReadXattrs(full)
	if err != nil {
		return nil, &fs.PathError{Op: "read attributes", Path: name, Err: err}
	}
	if e.Xattrs == nil {
		e.Xattrs = xattrs
	} else {
		maps.Copy(e.Xattrs, xattrs)
	}
	p := &pair{now: e}
	if dir, _ := view.Split(name); d.both[dir] {
		p.old, err = d.base.Lstat(d.ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return p, nil
}

// entry describes a file.
func (t *Tree) entry(path string, st *unix.Stat_t) (*view.Entry, error) {
	if t.owners == nil {
		return view.StatEntry(st), nil
	}
	m, err := t.owners.Get(path, st)
	if err != nil {
		return nil, err
	}
	return tree.OwnedEntry(st, m), nil
}

// removed adds whiteouts for what base alone has in a directory and those below.
func (d *differ) removed(dir string) error {
	entries, err := d.base.ReadDir(d.ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case !d.seen[e.Path]:
			d.change(&view.Entry{Path: e.Path, Type: view.TypeWhiteout})
		case d.both[e.Path]:
			if err := d.removed(e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// files adds the files that have changed. The names that a process has made for a file are links in the layer, with one of those that it had.
func (d *differ) files() error {
	inGroup := map[*pair]bool{}
	for _, group := range d.links {
		if len(group.made) == 0 {
			continue
		}
		names := slices.Concat(group.before[:min(1, len(group.before))], group.made)
		slices.SortFunc(names, func(a, b *pair) int { return strings.Compare(a.now.Path, b.now.Path) })
		for i, p := range names {
			if inGroup[p] = true; i > 0 {
				p.now.Hardlink = names[0].now.Path
			}
			d.change(p.now)
		}
	}
	for _, p := range d.changed {
		if inGroup[p] {
			continue
		}
		same, err := d.same(p)
		if err != nil {
			return err
		}
		if !same {
			d.change(p.now)
		}
	}
	return nil
}

// directories adds those that have changed, but for their times, and those in which something has: a child comes before its parent.
func (d *differ) directories() {
	for _, p := range slices.Backward(d.dirs) {
		if d.keep[p.now.Path] || !d.both[p.now.Path] || !tree.SameMetadata(p.now, p.old) {
			d.change(p.now)
		}
	}
}

func (d *differ) change(e *view.Entry) {
	dir, _ := view.Split(e.Path)
	d.keep[dir] = true
	c := view.Change{Entry: e}
	if e.Type == view.TypeRegular && e.Hardlink == "" {
		c.Source, c.SourcePath = files{d.t.path}, e.Path
	}
	d.changes = append(d.changes, c)
}

// same reports whether base has the same file.
func (d *differ) same(p *pair) (bool, error) {
	if p.old == nil || !tree.SameMetadata(p.now, p.old) {
		return false, nil
	}
	if p.now.Type != view.TypeRegular || p.now.Size == 0 {
		return true, nil
	}
	want := p.old.Digest
	if want == "" {
		var err error
		if want, err = d.base.Digest(d.ctx, p.old.Path); err != nil {
			return false, err
		}
	}
	have, err := files{d.t.path}.Digest(d.ctx, p.now.Path)
	return have == want, err
}

// files is the content of regular files of a directory that nothing changes. Only changes name them.
type files struct{ path string }

var _ view.View = files{}

var errContentOnly = errors.New("the files of a tree are read for their contents alone")

func (f files) Lstat(context.Context, string) (*view.Entry, error) { return nil, errContentOnly }

func (f files) ReadDir(context.Context, string) ([]*view.Entry, error) { return nil, errContentOnly }

func (f files) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.OpenFile(filepath.Join(f.path, name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
}

func (f files) Digest(ctx context.Context, name string) (digest.Digest, error) {
	in, err := f.Open(ctx, name)
	if err != nil {
		return "", err
	}
	sum, err := digest.SHA256.FromReader(in)
	return sum, cmp.Or(err, in.Close())
}
