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

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/inroot"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/sandbox"
)

// ExtractOptions say how files are written into a container.
type ExtractOptions struct {
	KeepDirectories bool // no directory is replaced by something else, and the reverse
	OwnUser         bool // files belong to the container's user
}

// Extract writes the files of a tar into a directory of the container.
func (c *Container) Extract(ctx context.Context, name string, from io.Reader, o ExtractOptions) error {
	f, err := c.files(ctx, writing)
	if err != nil {
		return err
	}
	defer f.close()
	dir, err := f.destination(name)
	if err != nil {
		return err
	}
	x := &extractor{ctx: ctx, o: o, root: int(f.tree.Root().Fd()), dir: dir, mounts: f.tree.Mounts()}
	if x.quota, err = quota.New(); err != nil {
		return err
	}
	if o.OwnUser {
		ids, err := account.Lookup(fmt.Sprintf("/proc/self/fd/%d", x.root), c.config.User, nil)
		if err != nil {
			return invalid(err)
		}
		x.uid, x.gid = int(ids.UID), int(ids.GID)
	}
	if err := x.all(tar.NewReader(x.quota.Reader(from))); err != nil {
		return fmt.Errorf("copy to %s: %w", name, err)
	}
	c.copyEvent(events.ActionExtractToDir, name)
	return nil
}

// destination is the path of a directory to write to, after links.
func (f *files) destination(name string) (dir string, err error) {
	at, err := f.open(name, true)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fail(NotFound, "Could not find the file %s in container %s", name, f.c.Name())
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = at.Close() }()
	if isFile(at) {
		return "", fail(Invalid, "extraction point is not a directory")
	}
	if dir, err = f.path(at); err != nil {
		return "", err
	}
	return dir, f.checkWritable(dir)
}

// checkWritable refuses a path where nothing can be written, in Docker's words.
func (f *files) checkWritable(dir string) error {
	at, readOnly := -1, false
	for _, m := range f.tree.Mounts() {
		if within(dir, m.Path) && len(m.Path) >= at { // one on the same path covers it
			at, readOnly = len(m.Path), m.ReadOnly
		}
	}
	switch {
	case readOnly:
		return fail(Invalid, "mounted volume is marked read-only")
	case at < 0 && f.c.process.ReadOnlyRoot:
		return fail(Invalid, "container rootfs is marked read-only")
	}
	return nil
}

// within reports whether a path is dir or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// extractor writes files below a directory. Links lead as for a process whose root is root, and nowhere else, whatever processes put there
// meanwhile.
type extractor struct {
	ctx      context.Context
	o        ExtractOptions
	root     int    // a descriptor
	dir      string // in root
	quota    *quota.Quota
	mounts   []sandbox.Mounted
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
		if err := x.one(h, from); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func (x *extractor) one(h *tar.Header, content io.Reader) error {
	p, err := x.parent(h.Name, true)
	if err != nil {
		return err
	}
	defer p.close()
	now, err := p.Lstat(p.base)
	if err == nil {
		isDir := h.Typeflag == tar.TypeDir
		switch {
		case now.IsDir() && isDir:
		case x.o.KeepDirectories && now.IsDir() && !isDir:
			return fail(Invalid, "cannot overwrite directory %q with non-directory", h.Name)
		case x.o.KeepDirectories && !now.IsDir() && isDir:
			return fail(Invalid, "cannot overwrite non-directory %q with directory", h.Name)
		default:
			if err := x.remove(p); err != nil {
				return err
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := x.create(p, h, content); err != nil {
		return err
	}
	return x.metadata(p, h)
}

// remove removes what an entry replaces, but not the files of a volume.
func (x *extractor) remove(p *parent) error {
	if dir, err := inroot.Path(x.root, int(p.at.Fd())); err == nil {
		for _, m := range x.mounts {
			if within(m.Path, path.Join(dir, p.base)) {
				return fail(Invalid, "cannot replace %s: something is mounted on it in the container", m.Path)
			}
		}
	}
	return p.RemoveAll(p.base)
}

func (x *extractor) create(p *parent, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		err := p.Mkdir(p.base, 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	case tar.TypeReg, 0:
		return x.regular(p, h, content)
	case tar.TypeSymlink:
		return p.Symlink(h.Linkname, p.base)
	case tar.TypeLink:
		return x.link(p, h)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return p.node(h)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fail(Invalid, "entries of type %q are not supported", string(h.Typeflag))
}

// link makes a hard link, whose target is in the directory of the tar.
func (x *extractor) link(p *parent, h *tar.Header) error {
	to, err := x.parent(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), false)
	if err != nil {
		return err
	}
	defer to.close()
	if err := unix.Linkat(int(to.at.Fd()), to.base, int(p.at.Fd()), p.base, 0); err != nil {
		return &os.LinkError{Op: "link", Old: h.Linkname, New: h.Name, Err: err}
	}
	return nil
}

// regular makes a regular file. Owner, mode and attributes are set by its descriptor: a process may have replaced it by another. A change of the
// owner removes capabilities.
func (x *extractor) regular(p *parent, h *tar.Header, content io.Reader) error {
	f, err := p.OpenFile(p.base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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

func (x *extractor) metadata(p *parent, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, 0:
		return p.Chtimes(p.base, h.ModTime, h.ModTime)
	}
	uid, gid := x.owner(h)
	if err := p.Lchown(p.base, uid, gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := p.Chmod(p.base, permissions(h)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		x.dirs = append(x.dirs, h)
		return nil
	}
	return p.Chtimes(p.base, h.ModTime, h.ModTime)
}

func (x *extractor) times() error {
	for _, h := range x.dirs {
		if err := x.time(h); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (x *extractor) time(h *tar.Header) error {
	p, err := x.parent(h.Name, false)
	if err != nil {
		return err
	}
	defer p.close()
	return p.Chtimes(p.base, h.ModTime, h.ModTime)
}
