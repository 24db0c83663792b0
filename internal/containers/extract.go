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
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/quota"
)

// ExtractOptions say how files are written into a container.
type ExtractOptions struct {
	KeepDirectories bool // no directory is replaced by something else, and the reverse
	OwnUser         bool // files belong to the container's user
}

// Extract writes the files of a tar into a directory of the container.
func (c *Container) Extract(ctx context.Context, name string, from io.Reader, o ExtractOptions) error {
	f, err := c.files(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	clean := path.Clean("/" + name)
	if _, _, readOnly := f.root(clean); readOnly {
		return fail(Invalid, "container rootfs is marked read-only")
	}
	at, err := f.open(name, true)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(NotFound, "Could not find the file %s in container %s", name, c.Name())
	}
	if err != nil {
		return err
	}
	defer func() { _ = at.Close() }()
	if isFile(at) {
		return fail(Invalid, "extraction point is not a directory")
	}
	x := &extractor{ctx: ctx, o: o, mounts: f.mountsBelow(clean)}
	if x.quota, err = quota.New(); err != nil {
		return err
	}
	if o.OwnUser {
		ids, err := account.Lookup(fmt.Sprintf("/proc/self/fd/%d", f.rootfs.Fd()), c.config.User, nil)
		if err != nil {
			return invalid(err)
		}
		x.uid, x.gid = int(ids.UID), int(ids.GID)
	}
	if x.root, err = os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", at.Fd())); err != nil {
		return err
	}
	defer func() { _ = x.root.Close() }()
	if err := x.all(tar.NewReader(x.quota.Reader(from))); err != nil {
		return fmt.Errorf("copy to %s: %w", name, err)
	}
	c.copyEvent(events.ActionExtractToDir, name)
	return nil
}

// extractor writes files below a directory, which links do not leave.
type extractor struct {
	ctx      context.Context
	o        ExtractOptions
	root     *os.Root
	quota    *quota.Quota
	mounts   []string // in which nothing can be written, relative to root
	uid, gid int
	dirs     []*tar.Header // whose times are set at the end
}

func (x *extractor) all(from *tar.Reader) error {
	for {
		h, err := from.Next()
		switch {
		case err == io.EOF:
			return x.times()
		case err != nil:
			return invalid(fmt.Errorf("read tar: %w", err))
		case x.ctx.Err() != nil:
			return context.Cause(x.ctx)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue // the directory itself stays as it is
		}
		h.Name = name
		if err := errors.Join(x.quota.Entry(h), x.quota.Content(h.Size)); err != nil {
			return invalid(err)
		}
		if err := x.checkMounts(h); err != nil {
			return err
		}
		if err := x.one(h, from); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// mountsBelow are the places below a directory where something is mounted, relative to it.
func (f *files) mountsBelow(dir string) (list []string) {
	for _, m := range f.c.process.Mounts {
		if rest, ok := strings.CutPrefix(path.Clean("/"+m.Target), strings.TrimSuffix(dir, "/")+"/"); ok && rest != "" {
			list = append(list, rest)
		}
	}
	return list
}

// checkMounts refuses a file that a mount would hide from the container's processes.
func (x *extractor) checkMounts(h *tar.Header) error {
	for _, m := range x.mounts {
		if strings.HasPrefix(h.Name, m+"/") || h.Name == m && h.Typeflag != tar.TypeDir {
			return fail(Unsupported, "something is mounted on %s in the container: copy into that directory itself", m)
		}
	}
	return nil
}

func (x *extractor) one(h *tar.Header, content io.Reader) error {
	if dir := path.Dir(h.Name); dir != "." {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	now, err := x.root.Lstat(h.Name)
	if err == nil {
		isDir := h.Typeflag == tar.TypeDir
		switch {
		case now.IsDir() && isDir:
		case x.o.KeepDirectories && now.IsDir() && !isDir:
			return fail(Invalid, "cannot overwrite directory %q with non-directory", h.Name)
		case x.o.KeepDirectories && !now.IsDir() && isDir:
			return fail(Invalid, "cannot overwrite non-directory %q with directory", h.Name)
		default:
			if err := x.root.RemoveAll(h.Name); err != nil {
				return err
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := x.create(h, content); err != nil {
		return err
	}
	return x.metadata(h)
}

func (x *extractor) create(h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		err := x.root.Mkdir(h.Name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	case tar.TypeReg, 0:
		return x.regular(h, content)
	case tar.TypeSymlink:
		return x.root.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		return x.root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), h.Name)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return x.node(h)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fail(Invalid, "entries of type %q are not supported", string(h.Typeflag))
}

// regular makes a regular file. Owner, mode and attributes are set by its descriptor: a process may have replaced it by another. A change of the
// owner removes capabilities.
func (x *extractor) regular(h *tar.Header, content io.Reader) error {
	f, err := x.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Chown(x.owner(h))
	}
	if err == nil {
		err = f.Chmod(permissions(h))
	}
	if err == nil {
		err = setAttributes(h, f)
	}
	return errors.Join(err, f.Close())
}

func (x *extractor) owner(h *tar.Header) (uid, gid int) {
	if x.o.OwnUser {
		return x.uid, x.gid
	}
	return h.Uid, h.Gid
}

func permissions(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// node makes a device or a pipe.
func (x *extractor) node(h *tar.Header) error {
	dir, err := x.root.Open(path.Dir(h.Name))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
	err = unix.Mknodat(int(dir.Fd()), path.Base(h.Name), kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if errors.Is(err, syscall.EPERM) && h.Typeflag != tar.TypeFifo {
		return fmt.Errorf("make device: %w", err)
	}
	return err
}

func (x *extractor) metadata(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, 0:
		return x.root.Chtimes(h.Name, h.ModTime, h.ModTime)
	}
	uid, gid := x.owner(h)
	if err := x.root.Lchown(h.Name, uid, gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := x.root.Chmod(h.Name, permissions(h)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		x.dirs = append(x.dirs, h)
		return nil
	}
	return x.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func (x *extractor) times() error {
	for _, h := range x.dirs {
		if err := x.root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
