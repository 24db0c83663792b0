package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/sparse"
	"github.com/micabuild/mica/internal/view"
)

// imageWriter makes a tree that is an image.
type imageWriter struct {
	file *os.File
	w    *erofs.Writer
	host *Host
}

func (h *Host) createImage(path string) (*imageWriter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &imageWriter{f, erofs.NewWriter(f, bootID()), h}, nil
}

func (t *imageWriter) Path() string { return t.file.Name() }

func (t *imageWriter) Close() { _ = t.file.Close() } // for the second time after Finish

func (t *imageWriter) Files() Files { return imageFiles{t} }

type imageFiles struct{ t *imageWriter }

func (imageFiles) Close() {}

// MakeDir does nothing: Finish makes the directories.
func (imageFiles) MakeDir(string) error { return nil }

func (f imageFiles) Create(e *view.Entry) (File, error) { return f.t.create(e, e.Size) }

func (t *imageWriter) create(e *view.Entry, size int64) (*imageFile, error) {
	n := t.node(e)
	n.Size = size
	f, err := t.w.Create(e.Path, n)
	if err != nil {
		return nil, writeError(e.Path, err)
	}
	return &imageFile{file: f, path: e.Path}, nil
}

// writeError names the file in the image, not the image.
func writeError(path string, err error) error {
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.Is(err, erofs.ErrUnsupported):
		err = fmt.Errorf("%w; with MICA_TREES=directories trees are directories", err)
	}
	return &fs.PathError{Op: "write", Path: path, Err: err}
}

// imageFile is a file being written. Long runs of zeros become holes.
type imageFile struct {
	file *erofs.File
	path string
	runs sparse.Runs
}

func (f *imageFile) Write(p []byte) (int, error) {
	if err := f.runs.Write(f, p); err != nil {
		return 0, writeError(f.path, err)
	}
	return len(p), nil
}

// Data is for sparse.Runs.
func (f *imageFile) Data(p []byte) error {
	_, err := f.file.Write(p)
	return err
}

// Hole is for sparse.Runs.
func (f *imageFile) Hole(n int64) error { return f.file.Skip(n) }

func (f *imageFile) Clone(fd uintptr) bool { return f.file.Clone(fd) }

func (f *imageFile) Close() error {
	err := f.runs.End(f)
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return writeError(f.path, err)
	}
	return nil
}

// fileTypes are the types of st_mode.
var fileTypes = map[view.Type]uint32{
	view.TypeRegular: unix.S_IFREG, view.TypeDir: unix.S_IFDIR, view.TypeSymlink: unix.S_IFLNK, view.TypeChar: unix.S_IFCHR,
	view.TypeBlock: unix.S_IFBLK, view.TypeFifo: unix.S_IFIFO,
}

// node is what the filesystem keeps of an entry.
func (t *imageWriter) node(e *view.Entry) erofs.Node {
	if e.Type == view.TypeWhiteout {
		return erofs.Node{Mode: unix.S_IFCHR} // device 0:0
	}
	n := erofs.Node{
		Mode: fileTypes[e.Type] | e.Mode, UID: uint32(e.UID), GID: uint32(e.GID), Xattrs: t.xattrs(e),
	}
	switch e.Type {
	case view.TypeSymlink:
		n.Mode = unix.S_IFLNK | 0o777
	case view.TypeChar, view.TypeBlock:
		n.Device = unix.Mkdev(uint32(e.Major), uint32(e.Minor))
	}
	if !e.ModTime.IsZero() {
		n.Seconds, n.Nanoseconds = e.ModTime.Unix(), uint32(e.ModTime.Nanosecond())
	}
	return n
}

// xattrs returns an entry's attributes, with overlayfs's own. Those that an image cannot hold are left out, and noted.
func (t *imageWriter) xattrs(e *view.Entry) map[string]string {
	kept := maps.Clone(e.Xattrs)
	maps.DeleteFunc(kept, func(name, value string) bool {
		if erofs.Keeps(name, value) {
			return false
		}
		t.host.note(leftOutXattr(name))
		return true
	})
	if e.Opaque {
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[t.host.OverlayXattr("opaque")] = "y"
	}
	return kept
}

// Finish implements Writer.
func (t *imageWriter) Finish(entries, dirEntries []*view.Entry) error {
	var links []erofs.Link
	for _, e := range entries {
		switch {
		case e.Hardlink != "":
			links = append(links, erofs.Link{Name: e.Path, Of: e.Hardlink})
		case e.IsDir() || e.Type == view.TypeRegular:
		default:
			if err := t.special(e); err != nil {
				return err
			}
		}
	}
	dirs := make([]erofs.Dir, len(dirEntries))
	for i, e := range dirEntries {
		dirs[i] = erofs.Dir{Path: e.Path, Node: t.node(e)}
	}
	if err := errors.Join(t.w.Finish(dirs, links), t.file.Close()); err != nil {
		return writeError("directories", err)
	}
	return nil
}

// special makes a symlink, a device, a pipe or a whiteout.
func (t *imageWriter) special(e *view.Entry) error {
	f, err := t.create(e, int64(len(e.Linkname)))
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(e.Linkname))
	return CloseFile(f, err)
}
