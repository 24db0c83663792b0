package tree

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// Tree is a tree that is read. It is safe for concurrent use.
type Tree interface {
	// Walk returns the entries sorted by path, without the root. No file is opened.
	Walk(ctx context.Context) ([]*view.Entry, error)
	// Open opens a regular file: fs.ErrNotExist. No symlink is followed.
	Open(name string) (io.ReadCloser, error)
	// Lstat describes a file whose directory exists: fs.ErrNotExist. Of its attributes only a directory's are read.
	Lstat(name string) (*view.Entry, error)
	Close()

	// unchanged reports whether type, mode, size and time of every file match its entry.
	unchanged(entries []*view.Entry) bool
}

// sortWalk sorts the entries. The first of the names of a file is the one with the content.
func sortWalk[K comparable](entries []*view.Entry, names map[K][]*view.Entry) []*view.Entry {
	byPath := func(a, b *view.Entry) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(entries, byPath)
	for _, same := range names {
		slices.SortFunc(same, byPath)
		for _, e := range same[1:] {
			e.Hardlink = same[0].Path
		}
	}
	return entries
}

// entryOf returns the entry of a tree's file by its stat(2): a device 0:0 is a whiteout.
func entryOf(name string, st *unix.Stat_t) *view.Entry {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return &view.Entry{Path: name, Type: view.TypeWhiteout}
	}
	e := view.StatEntry(st)
	e.Path = name
	return e
}

// takeXattrs gives an entry the attributes of its file, without overlayfs's. Redirects and metadata-only copies of overlayfs are refused:
// a layer with them would have no meaning outside the mount that made it.
func (h *Host) takeXattrs(e *view.Entry, attrs map[string]string) error {
	for name, value := range attrs {
		if !view.OverlayXattr(name) {
			continue
		}
		switch name {
		case h.OverlayXattr("opaque"):
			e.Opaque = e.IsDir() && value == "y"
		case h.OverlayXattr("redirect"), h.OverlayXattr("metacopy"):
			return fmt.Errorf("%q was written through an overlay mount with redirect_dir or metacopy", e.Path)
		}
		delete(attrs, name)
	}
	if len(attrs) > 0 {
		e.Xattrs = attrs
	}
	return nil
}

// looksLike compares type, size, mode and time of a file with its entry.
func looksLike(st *unix.Stat_t, e *view.Entry) bool {
	have := view.StatEntry(st)
	if e.Type == view.TypeWhiteout {
		return have.Type == view.TypeChar && st.Rdev == 0
	}
	return have.Type == e.Type && have.Size == e.Size && (have.Mode == e.Mode || e.Type == view.TypeSymlink) &&
		sameTime(have.ModTime, e.ModTime)
}

// The years that every filesystem can hold that trees may be on: ext4 has 1901 to 2446.
const minYear, maxYear = 1902, 2400

// Time returns a time as files have it. One that not every filesystem can hold becomes 1970, as Docker does with times that
// nanoseconds since then cannot express; others would be cut off at a year that differs from tree to tree.
func Time(t time.Time) time.Time {
	if year := t.UTC().Year(); year < minYear || year > maxYear {
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// sameTime compares a file's time with its entry's, as far as filesystems hold it: some have whole seconds only.
func sameTime(have, want time.Time) bool {
	year := want.Year()
	return want.IsZero() || year < minYear || year > maxYear || have.Equal(want) || have.Nanosecond() == 0 && have.Unix() == want.Unix()
}
