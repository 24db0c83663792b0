package view

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
)

// unpack extracts an archive into dest, as ADD does. done is false when src is no archive: then it is to be copied.
// It follows BuildKit's unpack, which is Docker's Untar inside a chroot: what the archive names, links included, is
// found inside dest, a directory is merged with one that is there, and anything else replaces what is in its place.
func (o *Overlay) unpack(ctx context.Context, from View, src, dest string, opt CopyOptions) (done bool, err error) {
	real, err := Resolve(ctx, from, src, true)
	if err != nil {
		return false, err
	}
	if e, err := from.Lstat(ctx, real); err != nil || e.Type != TypeRegular {
		return false, err
	}
	f, err := from.Open(ctx, real)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in, _, err := compression.NewReader(f)
	if err != nil {
		return false, nil
	}
	defer func() { _ = in.Close() }()
	tr := tar.NewReader(in)
	first, err := tr.Next()
	if err != nil {
		return false, nil
	}
	root, err := Resolve(ctx, o, dest, true)
	if err != nil {
		return false, err
	}
	if err := o.mkdirAll(ctx, root, 0o755, opt.Owner, opt.ModTime); err != nil {
		return false, err
	}
	u := &unpacker{o: o, ctx: ctx, root: root, owner: opt.Owner}
	if err := u.spool(opt.TempDir); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	for h := first; ; {
		if err := u.entry(h, tr); err != nil {
			return false, fmt.Errorf("extract %s: %w", path.Join("/", src), err)
		}
		if h, err = tr.Next(); errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return false, fmt.Errorf("extract %s: %w", path.Join("/", src), err)
		}
	}
}

// unpacker puts an archive's entries into an Overlay. Contents are written one after another to a spool file, from
// which the layer is made later.
type unpacker struct {
	o     *Overlay
	ctx   context.Context
	root  string
	owner *Chown
	out   *os.File
	files *Index
	where *spooled
}

// spooled reads files from the spool, by their place in it.
type spooled struct {
	path    string
	offsets []int64
}

func (s *spooled) Open(_ context.Context, e *Entry, tag int) (io.ReadCloser, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, s.offsets[tag], e.Size), f}, nil
}

func (s *spooled) Digest(_ context.Context, e *Entry, _ int) (digest.Digest, error) {
	return e.Digest, nil
}

func (u *unpacker) spool(dir string) (err error) {
	if u.out, err = os.CreateTemp(dir, "archive-"); err != nil {
		return fmt.Errorf("extract archive: %w", err)
	}
	u.where = &spooled{path: u.out.Name()}
	u.files = NewIndex(u.where, 0)
	return nil
}

func (u *unpacker) close() error { return u.out.Close() }

// entry extracts one member of the archive.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean(h.Name)
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("member %q is outside of the archive", h.Name)
	}
	target, err := u.place(name)
	if err != nil {
		return err
	}
	old, err := u.o.Lstat(u.ctx, target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case old.IsDir() && Clean(name) == ".":
		return nil
	case !old.IsDir() || h.Typeflag != tar.TypeDir:
		u.o.remove(target)
	}
	return u.put(h, target, content)
}

// place finds where a member goes: symlinks in its folder are followed inside the root, missing folders are made.
func (u *unpacker) place(name string) (string, error) {
	if Clean(name) == "." {
		return u.root, nil
	}
	dir, err := resolveBelow(u.ctx, u.o, u.root, path.Dir(path.Clean("/"+name)), true)
	if err != nil {
		return "", err
	}
	if err := u.o.mkdirAll(u.ctx, dir, 0o755, nil, nil); err != nil {
		return "", err
	}
	return Join(dir, path.Base(name)), nil
}

var tarTypes = map[byte]Type{
	tar.TypeReg: TypeRegular, tar.TypeDir: TypeDir, tar.TypeSymlink: TypeSymlink,
	tar.TypeChar: TypeChar, tar.TypeBlock: TypeBlock, tar.TypeFifo: TypeFifo, tar.TypeGNUSparse: TypeRegular,
}

func (u *unpacker) put(h *tar.Header, target string, content io.Reader) error {
	if h.Typeflag == tar.TypeLink {
		return u.link(h, target)
	}
	t, ok := tarTypes[h.Typeflag]
	if !ok {
		return fmt.Errorf("member %q has the unknown type %q", h.Name, h.Typeflag)
	}
	e := TarEntry(h)
	e.Type = t
	if u.owner != nil {
		e.UID, e.GID = u.owner.UID, u.owner.GID
	}
	f := &file{entry: *e}
	if t == TypeRegular {
		var err error
		if f.source, f.sourcePath, err = u.store(&f.entry, content); err != nil {
			return err
		}
	}
	u.o.put(target, f)
	return nil
}

// TarEntry is a tar header as an entry. Path and Type are left to the caller.
func TarEntry(h *tar.Header) *Entry {
	e := &Entry{Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.UTC()}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Size = h.Size
	case tar.TypeSymlink:
		e.Linkname, e.Mode = h.Linkname, 0o777
	case tar.TypeChar, tar.TypeBlock:
		e.Major, e.Minor = h.Devmajor, h.Devminor
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && !OverlayXattr(name) {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = v
		}
	}
	return e
}

// store writes a member's content to the spool.
func (u *unpacker) store(e *Entry, content io.Reader) (View, string, error) {
	at, err := u.out.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, "", err
	}
	h := digest.SHA256.Hash()
	n, err := io.Copy(io.MultiWriter(u.out, h), content)
	if err != nil {
		return nil, "", err
	}
	e.Size = n
	tag := len(u.where.offsets)
	u.where.offsets = append(u.where.offsets, at)
	name := strconv.Itoa(tag)
	u.files.Put(&Entry{Path: name, Type: TypeRegular, Size: n, Digest: digest.NewDigest(digest.SHA256, h)}, tag)
	return u.files, name, nil
}

// link makes a member another name of one that is there.
func (u *unpacker) link(h *tar.Header, target string) error {
	to, err := resolveBelow(u.ctx, u.o, u.root, h.Linkname, false)
	if err != nil {
		return err
	}
	f, err := u.o.share(u.ctx, to)
	if err != nil {
		return fmt.Errorf("member %q is a link to %q: %w", h.Name, h.Linkname, err)
	}
	u.o.put(target, f)
	return nil
}

// share returns the file that name is, so that another name can be given to it. A file of the base becomes a change.
func (o *Overlay) share(ctx context.Context, name string) (*file, error) {
	e, err := o.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	if e.IsDir() {
		return nil, fs.ErrPermission
	}
	c := o.touch(name)
	if c.file == nil {
		f := &file{entry: *e}
		if e.Type == TypeRegular {
			f.source, f.sourcePath = o.base, name
		}
		c.file = f
	}
	return c.file, nil
}
