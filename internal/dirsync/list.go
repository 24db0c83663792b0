package dirsync

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// record is what is kept of one file.
type record struct {
	path, link   string // of a symlink its target, of a further name of a file the first
	mode         fs.FileMode
	size, mtime  int64 // as the client says
	major, minor int64
	content      content
}

// content is where the bytes of a regular file are.
type content struct {
	file           uint32 // its number; 0 for no bytes
	offset, length int64
	sum            [32]byte
}

// regular reports whether a file has content of its own.
func (r *record) regular() bool { return r.mode.IsRegular() && r.link == "" }

// same reports whether a file is as another, as far as metadata says.
func (r *record) same(o *record) bool {
	return r.mode == o.mode && r.size == o.size && r.mtime == o.mtime && r.link == o.link && r.major == o.major && r.minor == o.minor
}

// list compares what the client has with what is kept, in the order of their paths.
type list struct {
	rest    []record // of what is kept, that which may follow
	files   []record
	open    []string // the directories on the way to the last file
	changed bool
}

func newList(kept []record) *list { return &list{rest: kept, files: make([]record, 0, len(kept))} }

// differs reports whether the client has something else than what is kept.
func (l *list) differs() bool { return l.changed || len(l.rest) > 0 }

// add takes the metadata of the next file, and reports whether its content is to be sent.
func (l *list) add(st *types.Stat, again bool) (wanted bool, err error) {
	f := record{
		path: st.Path, link: st.Linkname, mode: fs.FileMode(st.Mode), size: st.Size, mtime: st.ModTime, major: st.Devmajor, minor: st.Devminor,
	}
	if err := l.check(&f); err != nil {
		return false, err
	}
	old := l.advance(f.path)
	same := old != nil && f.same(old)
	if same && f.regular() {
		f.content = old.content
	}
	wanted = f.regular() && (!same || again)
	l.changed = l.changed || !same || wanted
	l.files = append(l.files, f)
	return wanted, nil
}

// advance returns what is kept of a path; nil for nothing.
func (l *list) advance(name string) *record {
	for len(l.rest) > 0 {
		switch c := fsutil.ComparePath(l.rest[0].path, name); {
		case c > 0:
			return nil
		case c == 0:
			old := &l.rest[0]
			l.rest = l.rest[1:]
			return old
		}
		l.rest, l.changed = l.rest[1:], true
	}
	return nil
}

// What the kernel has as limits of a path, and of a name in it.
const maxPath, maxName = 4095, 255

// check returns an error for a file that no directory can have: it is in a directory that the client has described, and comes after the file
// before it.
func (l *list) check(f *record) error {
	dir, base := path.Split(f.path)
	dir = strings.TrimSuffix(dir, "/")
	if !filepath.IsLocal(f.path) || f.path != path.Clean(f.path) || f.path == "." || len(f.path) > maxPath || len(base) > maxName ||
		len(f.link) > maxPath || strings.Contains(f.path, "\x00") || strings.Contains(f.link, "\x00") {
		return fmt.Errorf("the client sends a file with the path %q", f.path)
	}
	if n := len(l.files); n > 0 && fsutil.ComparePath(l.files[n-1].path, f.path) >= 0 {
		return fmt.Errorf("the client sends %q after %q", f.path, l.files[n-1].path)
	}
	for len(l.open) > 0 && l.open[len(l.open)-1] != dir {
		l.open = l.open[:len(l.open)-1]
	}
	if len(l.open) == 0 && dir != "" {
		return fmt.Errorf("the client sends %q, but not its directory", f.path)
	}
	switch {
	case f.mode.IsDir():
		l.open = append(l.open, f.path)
		f.size = 0
	case f.mode&^(fs.ModeSymlink|fs.ModeDevice|fs.ModeCharDevice|fs.ModeNamedPipe)&fs.ModeType != 0:
		return fmt.Errorf("the client sends %q, a file of an unknown type", f.path)
	case f.mode.IsRegular() && f.link != "":
		if target := find(l.files, f.link); target == nil || !target.regular() {
			return fmt.Errorf("the client sends %q, a link to %q, which is not among its files", f.path, f.link)
		}
	}
	return nil
}

// find returns the file with a path; nil for none.
func find(files []record, name string) *record {
	i, ok := slices.BinarySearchFunc(files, name, func(f record, name string) int { return fsutil.ComparePath(f.path, name) })
	if !ok {
		return nil
	}
	return &files[i]
}
