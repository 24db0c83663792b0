package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The names of trees tell their kinds.
const (
	DirectoryName = "tree"
	ImageName     = "tree.erofs"
)

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

// Create begins a tree in a directory: an image where images can be mounted, which are written and removed in a fraction of the
// time, else a directory.
func (h *Host) Create(in string) (Writer, error) {
	if h.images() {
		return h.createImage(filepath.Join(in, ImageName))
	}
	return h.CreateDirectory(filepath.Join(in, DirectoryName))
}
