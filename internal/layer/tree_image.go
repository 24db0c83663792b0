package layer

import (
	"errors"
	"fmt"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/view"
)

// imageMaker makes a tree that is one file, an EROFS filesystem. It is its own hand: any number of goroutines may use it.
type imageMaker struct {
	file  *os.File
	w     *erofs.Writer
	rules hostRules
	note  func(string)
}

func (l *Layers) newImageMaker(path string) (*imageMaker, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &imageMaker{f, erofs.NewWriter(f), l.host(), l.note}, nil
}

func (t *imageMaker) path() string { return t.file.Name() }

func (t *imageMaker) close() { _ = t.file.Close() }

// Directories are made in the end.
func (t *imageMaker) makeDirs([]*view.Entry, map[string]bool) error { return nil }

func (t *imageMaker) hand() treeHand { return imageHand{t} }

type imageHand struct{ *imageMaker }

func (imageHand) close() {}

func (imageHand) makeDir(string) error { return nil }

func (t imageHand) writeFile(e *view.Entry, content []byte) error {
	return t.failed(e, t.w.Add(e.Path, t.node(e), content))
}

func (t imageHand) create(e *view.Entry) (treeFile, error) {
	f, err := t.w.Create(e.Path, t.node(e))
	if err != nil {
		return nil, t.failed(e, err)
	}
	return &imageFile{f, t.imageMaker, e}, nil
}

func (t *imageMaker) failed(e *view.Entry, err error) error {
	if err == nil {
		return nil
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the name of a temporary file says nothing
	}
	return fmt.Errorf("unpack %q: %w", e.Path, err)
}

// imageFile is a regular file being written. Long runs of zeros become holes.
type imageFile struct {
	*erofs.File
	t     *imageMaker
	entry *view.Entry
}

func (f *imageFile) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), len(zeroHole))
		var err error
		if isHole(p[:n]) {
			err = f.Skip(int64(n))
		} else {
			_, err = f.File.Write(p[:n])
		}
		if err != nil {
			return written, f.t.failed(f.entry, err)
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

func (f *imageFile) clone(fd uintptr) bool { return f.Clone(fd) }

func (f *imageFile) close() error { return f.t.failed(f.entry, f.Close()) }

// fileTypes are the bits of st_mode that stand for types.
var fileTypes = map[view.Type]uint32{
	view.TypeRegular: unix.S_IFREG, view.TypeDir: unix.S_IFDIR, view.TypeSymlink: unix.S_IFLNK, view.TypeChar: unix.S_IFCHR,
	view.TypeBlock: unix.S_IFBLK, view.TypeFifo: unix.S_IFIFO,
}

// node is what the filesystem keeps of an entry.
func (t *imageMaker) node(e *view.Entry) erofs.Node {
	if e.Type == view.TypeWhiteout {
		return erofs.Node{Mode: unix.S_IFCHR} // device 0:0
	}
	n := erofs.Node{
		Mode: fileTypes[e.Type] | e.Mode, UID: uint32(e.UID), GID: uint32(e.GID), Size: e.Size, Xattrs: t.xattrs(e),
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

// xattrs are an entry's attributes, with overlayfs's own; what cannot be kept is left out, and noted.
func (t *imageMaker) xattrs(e *view.Entry) map[string]string {
	kept := e.Xattrs
	for name, value := range e.Xattrs {
		if erofs.Keeps(name, value) != nil {
			t.note(fmt.Sprintf("extended attribute %s cannot be set here and is left out of root filesystems", name))
			kept = without(kept, name)
		}
	}
	if e.Opaque {
		kept = without(kept, "")
		kept[t.rules.overlayXattr("opaque")] = "y"
	}
	return kept
}

// without returns a copy that lacks a key.
func without(m map[string]string, key string) map[string]string {
	c := make(map[string]string, len(m)+1)
	maps.Copy(c, m)
	delete(c, key)
	return c
}

func (t *imageMaker) finish(entries, dirEntries []*view.Entry) error {
	var links []erofs.Link
	for _, e := range entries {
		switch {
		case e.Hardlink != "":
			links = append(links, erofs.Link{Name: e.Path, Of: e.Hardlink})
		case e.IsDir() || e.Type == view.TypeRegular:
		default:
			if err := t.failed(e, t.w.Add(e.Path, t.node(e), []byte(e.Linkname))); err != nil {
				return err
			}
		}
	}
	dirs := make([]erofs.Dir, len(dirEntries))
	for i, e := range dirEntries {
		dirs[i] = erofs.Dir{Path: e.Path, Node: t.node(e)}
	}
	return t.w.Finish(dirs, links)
}
