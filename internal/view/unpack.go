package view

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/sparse"
)

// unpack extracts an archive into dest, as ADD does. done is false when src is no archive: then it is to be copied.
// It follows BuildKit's unpack, which is Docker's Untar (github.com/moby/go-archive) inside a chroot: what the archive
// names, links included, is found inside dest, a directory is merged with one that is there, and anything else replaces
// what is in its place.
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
	in, algorithm, err := compression.NewReader(f)
	if err != nil {
		return false, nil
	}
	defer func() { _ = in.Close() }()
	limit, err := quota.New()
	if err != nil {
		return false, err
	}
	plain := limit.Reader(in)
	tr := tar.NewReader(plain)
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
	u := &unpacker{o: o, ctx: ctx, root: root, owner: opt.Owner, quota: limit}
	if err := u.spool(opt.TempDir); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, u.close()) }()
	err = u.members(first, tr)
	if err == nil && algorithm != compression.None {
		err = u.checkEnd(plain)
	}
	if err != nil {
		return false, fmt.Errorf("extract %s: %w", path.Join("/", src), err)
	}
	return true, nil
}

// checkEnd reads on to where the checksums of compressed data are, behind the end of the archive in it. Other data after a
// gzip stream is ignored, as gzip(1) does.
func (u *unpacker) checkEnd(in io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		_, err := in.Read(buf)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, gzip.ErrHeader):
			return nil
		case err != nil:
			return err
		case u.ctx.Err() != nil:
			return u.ctx.Err()
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
	quota *quota.Quota
	dirs  []*tar.Header // those that were extracted
	out   *os.File
	size  int64 // of it
	buf   []byte
	files *Index
	where *spooled
}

// contextReader ends with its context: to read the zeros that a sparse file declares takes long.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
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
	u.where, u.buf = &spooled{path: u.out.Name()}, make([]byte, 128<<10)
	u.files = NewIndex(u.where, 0)
	return nil
}

func (u *unpacker) close() error { return u.out.Close() }

// members extracts all that the archive holds.
func (u *unpacker) members(first *tar.Header, tr *tar.Reader) (err error) {
	for h := first; err == nil; h, err = tr.Next() {
		if err := u.entry(h, tr); err != nil {
			return err
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return u.setDirTimes()
}

// entry extracts one member of the archive.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := u.quota.Entry(h); err != nil {
		return err
	}
	target, err := u.place(h.Name)
	if err != nil {
		return fmt.Errorf("member %q: %w", h.Name, err)
	}
	old, err := u.o.Lstat(u.ctx, target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return err
	case old.IsDir() && path.Clean(h.Name) == ".":
		return nil
	case old.IsDir() && h.Typeflag == tar.TypeDir:
	case target == u.root:
		return fmt.Errorf("member %q cannot replace the directory that the archive is extracted to", h.Name)
	default:
		u.o.remove(target)
		old = nil
	}
	return u.put(h, target, old, content)
}

// place finds where a member goes. The destination is the root of all its names, also of those that climb.
func (u *unpacker) place(name string) (string, error) {
	if name = Clean(name); name == "." {
		return u.root, nil
	}
	dir, err := u.directory(path.Dir(name))
	return Join(dir, path.Base(name)), err
}

// directory finds a member's directory, through symlinks, and makes what is missing. As for the kernel, a symlink to what is
// missing leads nowhere.
func (u *unpacker) directory(name string) (string, error) {
	dir, err := resolveExisting(u.ctx, u.o, u.root, name, true)
	if err == nil {
		return dir, u.o.mkdirAll(u.ctx, dir, 0o755, nil, nil)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	parent, err := u.directory(path.Dir(name))
	if err != nil {
		return "", err
	}
	dir = Join(parent, path.Base(name))
	if e, err := u.o.Lstat(u.ctx, dir); err == nil {
		return "", fmt.Errorf("%s is a symlink to %s, which does not exist: %w", name, e.Linkname, fs.ErrNotExist)
	}
	return dir, u.o.mkdirAll(u.ctx, dir, 0o755, nil, nil)
}

// setDirTimes sets the times of directories after the last file was put in them. As in Docker's Untar it is done by name: what has
// taken the place of a directory since has its time.
func (u *unpacker) setDirTimes() error {
	for _, h := range u.dirs {
		real, err := resolveExisting(u.ctx, u.o, u.root, h.Name, true)
		if err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
		f, err := u.o.claim(u.ctx, real)
		if err != nil {
			return err
		}
		f.entry.ModTime = archivedTime(h)
	}
	return nil
}

var tarTypes = map[byte]Type{
	tar.TypeReg: TypeRegular, tar.TypeDir: TypeDir, tar.TypeSymlink: TypeSymlink,
	tar.TypeChar: TypeChar, tar.TypeBlock: TypeBlock, tar.TypeFifo: TypeFifo,
}

// put makes target what a member says; old is the directory that it is merged with, if any.
func (u *unpacker) put(h *tar.Header, target string, old *Entry, content io.Reader) error {
	if h.Typeflag == tar.TypeLink {
		return u.link(h, target)
	}
	t, ok := tarTypes[h.Typeflag]
	switch {
	case h.Typeflag == tar.TypeGNUSparse:
		return fmt.Errorf("member %q is a sparse file in GNU tar's own format, which ADD does not extract: archive it with tar --format=pax", h.Name)
	case !ok:
		return fmt.Errorf("member %q has the unknown type %q", h.Name, h.Typeflag)
	}
	f := &file{entry: Entry{Type: t, Mode: uint32(h.Mode) & 0o7777, ModTime: archivedTime(h)}}
	e := &f.entry
	switch t {
	case TypeRegular:
		var err error
		if f.source, f.sourcePath, err = u.store(e, h.Size, content); err != nil {
			return err
		}
	case TypeDir:
		u.dirs = append(u.dirs, h)
		if old != nil {
			e.Xattrs = old.Xattrs
		}
	case TypeSymlink:
		e.Linkname, e.Mode = h.Linkname, 0o777
	case TypeChar, TypeBlock:
		e.Major, e.Minor = h.Devmajor, h.Devminor
	}
	u.describe(e, h)
	u.o.put(target, f)
	return nil
}

// describe gives a file the owner and the attributes of a member.
func (u *unpacker) describe(e *Entry, h *tar.Header) {
	e.UID, e.GID = h.Uid, h.Gid
	if u.owner != nil {
		e.UID, e.GID = u.owner.UID, u.owner.GID
	}
	attrs := map[string]string{}
	maps.Copy(attrs, e.Xattrs)
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && TakesXattr(e.Type, name) {
			attrs[name] = v
		}
	}
	if len(attrs) > 0 {
		e.Xattrs = attrs
	}
}

// TakesXattr reports whether a file of type t can have an attribute (xattr(7)); others in an archive are passed over.
func TakesXattr(t Type, name string) bool {
	space, _, _ := strings.Cut(name, ".")
	switch space {
	case "user", "system":
		return (t == TypeRegular || t == TypeDir) && !OverlayXattr(name)
	case "trusted", "security":
		return !OverlayXattr(name)
	}
	return false
}

// archivedTime is a member's time. Docker's Untar takes those that nanoseconds since 1970 cannot say for 1970.
func archivedTime(h *tar.Header) time.Time {
	epoch := time.Unix(0, 0).UTC()
	if t := h.ModTime.UTC(); !t.Before(epoch) && !t.After(time.Unix(0, math.MaxInt64)) {
		return t
	}
	return epoch
}

// store writes a member's content to the spool.
func (u *unpacker) store(e *Entry, size int64, content io.Reader) (View, string, error) {
	if err := u.quota.Content(size); err != nil {
		return nil, "", err
	}
	at := u.size
	h := digest.SHA256.Hash()
	out := sparse.NewWriter(u.out, at)
	n, err := io.CopyBuffer(io.MultiWriter(out, h), contextReader{u.ctx, content}, u.buf)
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return nil, "", err
	}
	e.Size, u.size = n, at+n
	tag := len(u.where.offsets)
	u.where.offsets = append(u.where.offsets, at)
	name := strconv.Itoa(tag)
	u.files.Put(&Entry{Path: name, Type: TypeRegular, Size: n, Digest: digest.NewDigest(digest.SHA256, h)}, tag)
	return u.files, name, nil
}

// link makes a member another name of a file that is there, which gets the member's owner, and its mode and time unless it
// is a symlink.
func (u *unpacker) link(h *tar.Header, target string) error {
	to, err := resolveExisting(u.ctx, u.o, u.root, h.Linkname, false)
	var f *file
	if err == nil {
		f, err = u.o.claim(u.ctx, to)
	}
	if err == nil && f.entry.IsDir() {
		err = fs.ErrPermission
	}
	if err != nil {
		return fmt.Errorf("member %q is a link to %q: %w", h.Name, h.Linkname, err)
	}
	if f.entry.Type == TypeRegular {
		f.entry.dropPrivileges()
	}
	u.describe(&f.entry, h)
	if f.entry.Type != TypeSymlink {
		f.entry.Mode, f.entry.ModTime = uint32(h.Mode)&0o7777, archivedTime(h)
	}
	u.o.put(target, f)
	return nil
}

// dropPrivileges takes a file's capabilities, as the kernel does when its owner is set (chown(2)).
func (e *Entry) dropPrivileges() {
	e.Xattrs = maps.Clone(e.Xattrs)
	delete(e.Xattrs, "security.capability")
}

// claim returns the file that name is, to be changed or given another name. A file of the base becomes a change.
func (o *Overlay) claim(ctx context.Context, name string) (*file, error) {
	e, err := o.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	c := o.touch(name)
	if c.file == nil {
		f := &file{entry: *e, names: 1}
		if e.Type == TypeRegular {
			f.source, f.sourcePath = o.base, name
		}
		c.file = f
	}
	return c.file, nil
}
