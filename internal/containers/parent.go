package containers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/inroot"
)

// parent is the directory of an entry of a tar, opened once: base is a name in it.
type parent struct {
	*os.Root
	at   *os.File
	base string
}

// parent opens the directory of an entry, and makes it first if make is set.
func (x *extractor) parent(name string, make bool) (_ *parent, err error) {
	open := inroot.Open
	if make {
		open = func(root int, name string) (int, error) { return inroot.Make(root, name, true) }
	}
	head, rest := cut(path.Join(x.dir, path.Dir(name)))
	fd, err := open(x.root, head)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path.Dir(name), Err: err}
	}
	at := os.NewFile(uintptr(fd), head)
	root, err := openRoot(at)
	if err == nil && rest != "" {
		at, root, err = descend(at, root, rest, make)
	}
	if err != nil {
		return nil, errors.Join(err, at.Close())
	}
	return &parent{Root: root, at: at, base: path.Base(name)}, nil
}

// descend replaces an opened directory by one below it, whose path from there may have any length. Links lead nowhere else.
func descend(at *os.File, root *os.Root, name string, make bool) (*os.File, *os.Root, error) {
	defer func() { _ = root.Close() }()
	if make {
		if err := root.MkdirAll(name, 0o755); err != nil {
			return at, nil, err
		}
	}
	below, err := root.OpenRoot(name)
	if err != nil {
		return at, nil, err
	}
	dir, err := below.Open(".")
	if err != nil {
		return at, nil, errors.Join(err, below.Close())
	}
	return dir, below, at.Close()
}

// maxResolved is the length of a path that the kernel resolves at once.
const maxResolved = unix.PathMax - 1

// cut divides a path into one that the kernel resolves at once and the rest of it.
func cut(name string) (head, rest string) {
	if len(name) <= maxResolved {
		return name, ""
	}
	at := strings.LastIndexByte(name[:maxResolved], '/')
	return name[:at+1], name[at+1:]
}

func (p *parent) close() {
	_ = p.Close()
	_ = p.at.Close()
}

// node makes a device or a pipe.
func (p *parent) node(h *tar.Header) error {
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
	err := unix.Mknodat(int(p.at.Fd()), p.base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if errors.Is(err, unix.EPERM) && h.Typeflag != tar.TypeFifo {
		return fmt.Errorf("make device: %w", err)
	}
	return err
}
