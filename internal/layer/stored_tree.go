package layer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

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
	// unchanged reports whether type, mode, size and time of every file are as its entry says.
	unchanged(entries []*view.Entry) bool
	close()
}

// standing returns the path of a layer's tree in the store, "" for none. Where there are two, they hold the same.
func (l *Layers) standing(id digest.Digest) string {
	for _, name := range []string{treeDir, treeImage} {
		path := l.path(id, name)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

func (l *Layers) unpacked(id digest.Digest) bool { return l.standing(id) != "" }

// openTree opens a layer's tree: fs.ErrNotExist. The caller closes it.
func (l *Layers) openTree(id digest.Digest) (storedTree, error) {
	tree, err := openFolder(l.path(id, treeDir), l.host())
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return tree, err
	}
	return openImage(l.path(id, treeImage), l.host())
}

// folderTree is a tree that is a folder.
type folderTree struct {
	fileOpener
	path  string
	rules hostRules
}

func openFolder(path string, rules hostRules) (storedTree, error) {
	root, err := openRoot(path)
	if err != nil {
		return nil, err
	}
	return &folderTree{fileOpener{root: root}, path, rules}, nil
}

func (t *folderTree) walk(ctx context.Context) ([]*view.Entry, error) {
	return (&treeWalk{path: t.path, rules: t.rules}).walk(ctx)
}

func (t *folderTree) open(name string) (io.ReadCloser, error) {
	f, err := t.fileOpener.open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (t *folderTree) unchanged(entries []*view.Entry) bool {
	d := newDirs(t.root)
	defer d.close()
	for _, e := range entries {
		if !d.unchanged(e, t.rules) {
			return false
		}
	}
	return true
}

func (t *folderTree) close() {
	t.fileOpener.close()
	_ = unix.Close(t.root)
}
