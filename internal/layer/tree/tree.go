package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// Find returns the path of the tree in a layer's directory, "" for none. Where there are two, they hold the same.
func Find(dir string) string {
	for _, name := range []string{DirectoryName, ImageName} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

// Mountable returns the path of the tree in a layer's directory if it can be mounted here, else "": it may have been made under another
// kernel.
func (h *Host) Mountable(dir string) string {
	path := Find(dir)
	if filepath.Base(path) == ImageName && !h.images() {
		return ""
	}
	return path
}

// Open opens the tree in a layer's directory: fs.ErrNotExist, store.ErrDamaged. The caller closes it.
func (h *Host) Open(dir string) (Tree, error) {
	d, err := h.OpenDirectory(filepath.Join(dir, DirectoryName))
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	return h.OpenImage(filepath.Join(dir, ImageName))
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
