package tree

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// OpenUpper opens the upper directory of an overlay mount of base, which nothing writes to any more, as a layer's tree. Like BuildKit, it
// removes what does not change base: files that were copied up and are as before, and directories with nothing else in them. A
// directory that was made again gets a whiteout for each name that base has in it. An opaque one would also hide what it is merged with.
func (h *Host) OpenUpper(ctx context.Context, path string, base view.View) (Tree, error) {
	opened, err := h.OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	t := opened.(*directory)
	u := &upper{ctx: ctx, tree: t, base: base, dirs: newDirs(t.root), both: map[string]bool{}, keep: map[string]bool{}, touched: map[string]bool{}}
	defer u.dirs.close()
	if err := u.reduce(); err != nil {
		t.Close()
		return nil, err
	}
	return &walked{t, u.entries}, nil
}

// walked is a tree whose entries are known.
type walked struct {
	*directory
	entries []*view.Entry
}

func (t *walked) Walk(context.Context) ([]*view.Entry, error) { return t.entries, nil }

// upper is an upper directory whose entries are compared with those of base.
type upper struct {
	ctx     context.Context
	tree    *directory
	base    view.View
	dirs    *dirs
	entries []*view.Entry
	old     []*view.Entry   // what base has of the names, nil for nothing
	both    map[string]bool // directories that both have
	keep    map[string]bool // directories in which something is kept
	touched map[string]bool // directories that have lost their time
}

func (u *upper) reduce() (err error) {
	if u.entries, err = u.tree.Walk(u.ctx); err != nil {
		return err
	}
	u.both["."] = true
	u.old = make([]*view.Entry, len(u.entries))
	for i, e := range u.entries {
		if u.old[i], err = u.beneath(e); err != nil {
			return err
		}
	}
	removed, err := u.transparent()
	if err != nil {
		return err
	}
	if err := u.drop(); err != nil {
		return err
	}
	u.entries = append(u.entries, removed...)
	slices.SortFunc(u.entries, func(a, b *view.Entry) int { return strings.Compare(a.Path, b.Path) })
	return u.resetTimes()
}

// beneath finds what base has of an entry's name.
func (u *upper) beneath(e *view.Entry) (*view.Entry, error) {
	dir, _ := view.Split(e.Path)
	if !u.both[dir] {
		return nil, nil
	}
	old, err := u.base.Lstat(u.ctx, e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && old.IsDir() && e.IsDir() {
		u.both[e.Path] = true
	}
	return old, err
}

// transparent replaces opaque marks by whiteouts, and returns these.
func (u *upper) transparent() ([]*view.Entry, error) {
	var removed []*view.Entry
	opaque := map[string]bool{}
	var names map[string]bool
	for _, e := range u.entries {
		dir, _ := view.Split(e.Path)
		if !e.IsDir() || !e.Opaque && !opaque[dir] {
			continue
		}
		if u.both[e.Path] {
			opaque[e.Path] = true
			if names == nil {
				names = u.names()
			}
			gone, err := u.whiteouts(e.Path, names)
			if err != nil {
				return nil, err
			}
			removed = append(removed, gone...)
		}
		if err := u.unmark(e); err != nil {
			return nil, err
		}
	}
	return removed, nil
}

func (u *upper) names() map[string]bool {
	names := make(map[string]bool, len(u.entries))
	for _, e := range u.entries {
		names[e.Path] = true
	}
	return names
}

// whiteouts removes what base alone has in a directory.
func (u *upper) whiteouts(dir string, names map[string]bool) ([]*view.Entry, error) {
	hidden, err := u.base.ReadDir(u.ctx, dir)
	if err != nil {
		return nil, err
	}
	var removed []*view.Entry
	for _, old := range hidden {
		if names[old.Path] {
			continue
		}
		at, base, err := u.dirs.parent(old.Path)
		if err != nil {
			return nil, err
		}
		if err := unix.Mknodat(at, base, unix.S_IFCHR, 0); err != nil {
			return nil, &fs.PathError{Op: "make whiteout", Path: old.Path, Err: err}
		}
		u.keep[dir], u.touched[dir] = true, true
		removed = append(removed, &view.Entry{Path: old.Path, Type: view.TypeWhiteout})
	}
	return removed, nil
}

// unmark makes a directory one that is merged with those beneath.
func (u *upper) unmark(e *view.Entry) error {
	if !e.Opaque {
		return nil
	}
	at, base, err := u.dirs.parent(e.Path)
	if err != nil {
		return err
	}
	if err := unix.Lremovexattr(procPath(at, base), u.tree.host.OverlayXattr("opaque")); err != nil {
		return &fs.PathError{Op: "remove attribute", Path: e.Path, Err: err}
	}
	e.Opaque = false
	return nil
}

// drop removes the entries that change nothing, the files of a directory before it.
func (u *upper) drop() error {
	linked := map[string]bool{}
	for _, e := range u.entries {
		if e.Hardlink != "" {
			linked[e.Path], linked[e.Hardlink] = true, true
		}
	}
	var kept []*view.Entry
	for i, e := range slices.Backward(u.entries) {
		dir, _ := view.Split(e.Path)
		same := !u.keep[e.Path] && !linked[e.Path]
		if same {
			var err error
			if same, err = u.same(e, u.old[i]); err != nil {
				return err
			}
		}
		if !same {
			u.keep[dir] = true
			kept = append(kept, e)
			continue
		}
		if err := u.remove(e); err != nil {
			return err
		}
		u.touched[dir] = true
	}
	u.entries = kept
	return nil
}

func (u *upper) remove(e *view.Entry) error {
	at, base, err := u.dirs.parent(e.Path)
	if err != nil {
		return err
	}
	flags := 0
	if e.IsDir() {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(at, base, flags); err != nil {
		return &fs.PathError{Op: "remove", Path: e.Path, Err: err}
	}
	return nil
}

// same reports whether base has the same file.
func (u *upper) same(e, old *view.Entry) (bool, error) {
	if old == nil || e.Type == view.TypeWhiteout {
		return old == nil && e.Type == view.TypeWhiteout, nil
	}
	if !SameMetadata(e, old) {
		return false, nil
	}
	if e.Type != view.TypeRegular || e.Size == 0 {
		return true, nil
	}
	return u.sameContent(e, old)
}

// SameMetadata reports whether two files of one name have the same metadata and, unless they are regular files, the same content. The time of a
// directory is not compared: moving a file there and back changes it.
func SameMetadata(e, old *view.Entry) bool {
	return e.Type == old.Type && e.UID == old.UID && e.GID == old.GID && e.Size == old.Size && e.Linkname == old.Linkname &&
		e.Major == old.Major && e.Minor == old.Minor && (e.Mode == old.Mode || e.Type == view.TypeSymlink) &&
		(e.IsDir() || sameTime(e.ModTime, old.ModTime)) && maps.Equal(e.Xattrs, old.Xattrs)
}

func (u *upper) sameContent(e, old *view.Entry) (bool, error) {
	want := old.Digest
	if want == "" {
		var err error
		if want, err = u.base.Digest(u.ctx, old.Path); err != nil {
			return false, err
		}
	}
	f, err := u.tree.Open(e.Path)
	if err != nil {
		return false, err
	}
	have, err := digest.SHA256.FromReader(f)
	return have == want, cmp.Or(err, f.Close())
}

// resetTimes gives directories in which something was made or removed their times again.
func (u *upper) resetTimes() error {
	for _, e := range u.entries {
		if !u.touched[e.Path] {
			continue
		}
		at, base, err := u.dirs.parent(e.Path)
		if err != nil {
			return err
		}
		if err := setTimes(at, base, e); err != nil {
			return err
		}
	}
	return nil
}
