package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// storedTree is a tree that is read. It is safe for concurrent use.
type storedTree interface {
	// walk returns the entries sorted by path, the root not among them. Nothing is opened.
	walk(ctx context.Context) ([]*view.Entry, error)
	// open opens a regular file: fs.ErrNotExist. No symlink is followed.
	open(name string) (io.ReadCloser, error)
	// lstat describes a file whose directory is there: fs.ErrNotExist. Of its attributes only a directory's are read.
	lstat(name string) (*view.Entry, error)
	// unchanged reports whether type, mode, size and time of every file are as its entry says.
	unchanged(entries []*view.Entry) bool
	close()
}

// treePath returns the path of a layer's tree in the store, "" for none. Where there are two, they hold the same.
func (l *Layers) treePath(id digest.Digest) string {
	for _, name := range []string{treeDir, treeErofs} {
		path := l.path(id, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func (l *Layers) unpacked(id digest.Digest) bool { return l.treePath(id) != "" }

// openTree opens a layer's tree, as it is now on the disk: fs.ErrNotExist. The caller closes it.
func (l *Layers) openTree(id digest.Digest) (storedTree, error) {
	folder, err := openFolder(l.path(id, treeDir), l.host())
	if err == nil {
		return folder, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := openErofs(l.path(id, treeErofs), l.host())
	if err != nil {
		return nil, err
	}
	return file, nil
}

// sortWalk sorts what was found. The first of the names of a file is the one with the content.
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

// entryOf is what stat(2) says of a tree's file: a device 0:0 is a whiteout.
func entryOf(name string, st *unix.Stat_t) *view.Entry {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return &view.Entry{Path: name, Type: view.TypeWhiteout}
	}
	e := view.StatEntry(st)
	e.Path = name
	return e
}

// takeXattrs gives an entry the attributes that are the file's own. Overlayfs's redirects and metadata-only copies are refused:
// a layer with them would mean nothing outside of the mount that made it.
func (h hostRules) takeXattrs(e *view.Entry, attrs map[string]string) error {
	for name, value := range attrs {
		if !view.OverlayXattr(name) {
			continue
		}
		switch name {
		case h.overlayXattr("opaque"):
			e.Opaque = e.IsDir() && value == "y"
		case h.overlayXattr("redirect"), h.overlayXattr("metacopy"):
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
