package containers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"
)

// Archive calls begin with the description of a file or directory of the container, and then writes it as a tar to the writer that begin
// returns.
func (c *Container) Archive(ctx context.Context, name string, begin func(*container.PathStat) io.Writer) error {
	f, err := c.files(ctx, reading)
	if err != nil {
		return err
	}
	defer f.close()
	stat, err := f.stat(name)
	if err != nil {
		return err
	}
	at, info, err := f.find(name)
	if err != nil {
		return err
	}
	defer func() { _ = at.Close() }()
	base := path.Base(path.Clean("/" + name))
	if name == "." || strings.HasSuffix(name, "/.") {
		base = "."
	}
	w := &archiver{ctx: ctx, tar: tar.NewWriter(begin(stat)), links: map[[2]uint64]string{}}
	if err := w.write(at, info, base); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	c.copyEvent(events.ActionArchivePath, name)
	return w.tar.Close()
}

// openRoot opens the directory of a descriptor again.
func openRoot(dir *os.File) (*os.Root, error) {
	return os.OpenRoot(procPath(dir))
}

// Export writes the root filesystem as a tar, without what is mounted in it.
func (c *Container) Export(ctx context.Context, begin func() io.Writer) error {
	rootfs, release, err := c.rootfs(ctx)
	if err != nil {
		return err
	}
	defer release()
	root, err := openRoot(rootfs)
	_ = rootfs.Close()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	w := &archiver{ctx: ctx, tar: tar.NewWriter(begin()), links: map[[2]uint64]string{}}
	if err := w.children(root, ".", ""); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	c.event(events.ActionExport)
	return w.tar.Close()
}

// archiver writes files into a tar. Processes may change them meanwhile: no link is followed.
type archiver struct {
	ctx   context.Context
	tar   *tar.Writer
	links map[[2]uint64]string
}

// write writes what a descriptor (O_PATH) refers to, under a name.
func (w *archiver) write(at *os.File, info fs.FileInfo, name string) error {
	switch {
	case info.IsDir():
		root, err := openRoot(at)
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }()
		if err := w.header(info, name, ""); err != nil {
			return err
		}
		return w.children(root, ".", name)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := readlink(at)
		if err != nil {
			return err
		}
		return w.header(info, name, target)
	}
	if !info.Mode().IsRegular() {
		return w.header(info, name, "")
	}
	f, err := os.Open(procPath(at))
	if err != nil {
		return err
	}
	return w.content(f, name)
}

func (w *archiver) children(root *os.Root, dir, name string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	_ = d.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return context.Cause(w.ctx)
		}
		if err := w.child(root, path.Join(dir, e.Name()), join(name, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// join keeps a directory that is called ".": docker cp replaces it by another name.
func join(dir, base string) string {
	switch dir {
	case "":
		return base
	case "/":
		return dir + base
	}
	return dir + "/" + base
}

func (w *archiver) child(root *os.Root, at, name string) error {
	info, err := root.Lstat(at)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		if err := w.header(info, name, ""); err != nil {
			return err
		}
		return w.children(root, at, name)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(at)
		if err != nil {
			return err
		}
		return w.header(info, name, target)
	case info.Mode()&fs.ModeSocket != 0: // which no tar has
		return nil
	case !info.Mode().IsRegular():
		return w.header(info, name, "")
	}
	f, err := openRegular(root, at)
	if err != nil || f == nil {
		return err
	}
	return w.content(f, name)
}

// openRegular opens a regular file. It returns nil for what a process has put in its place: to open a device can change it.
func openRegular(root *os.Root, name string) (*os.File, error) {
	at, err := root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = at.Close() }()
	if info, err := at.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return os.Open(procPath(at))
}

// content writes a regular file, and closes it.
func (w *archiver) content(f *os.File, name string) error {
	defer func() { _ = f.Close() }()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := now.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := w.links[id]; ok {
			h, err := tar.FileInfoHeader(now, "")
			if err != nil {
				return err
			}
			h.Name, h.Typeflag, h.Linkname, h.Size = name, tar.TypeLink, first, 0
			owner(h, now)
			return w.tar.WriteHeader(h)
		}
		w.links[id] = name
	}
	h, err := newHeader(now, name, "")
	if err == nil {
		err = addCapability(h, f)
	}
	if err == nil {
		err = w.tar.WriteHeader(h)
	}
	if err != nil {
		return err
	}
	n, err := io.Copy(w.tar, io.LimitReader(f, now.Size()))
	if err == nil && n < now.Size() { // it has become shorter
		_, err = io.CopyN(w.tar, zeros{}, now.Size()-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w *archiver) header(info fs.FileInfo, name, target string) error {
	h, err := newHeader(info, name, target)
	if err != nil {
		return err
	}
	return w.tar.WriteHeader(h)
}

func newHeader(info fs.FileInfo, name, target string) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	h.Name = name
	if info.IsDir() && name != "/" {
		h.Name += "/"
	}
	owner(h, info)
	return h, nil
}

// owner sets the owner by numbers alone: names are those of the host.
func owner(h *tar.Header, info fs.FileInfo) {
	h.Uname, h.Gname, h.Format = "", "", tar.FormatPAX
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	}
}
