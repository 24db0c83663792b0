package view

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// DirOptions select what of a host directory is seen: LLB's attributes of a local source, with BuildKit's meaning.
type DirOptions struct {
	Include, Exclude []string // patterns as in .dockerignore
	Follow           []string // only these paths, and what symlinks on the way to them point at
	Memory           *Memory  // nil: every digest is computed
	// Anonymous makes root the owner of every file and leaves extended attributes out, as BuildKit does with the files of
	// a build context: what a host adds to its files says nothing about an image.
	Anonymous bool
}

// Dir is a view of a host directory as it is now. No symlink is followed in reading it.
func Dir(dir string, opt DirOptions) (View, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, cause(err))
	}
	include := opt.Include
	if len(opt.Follow) > 0 {
		followed, err := followPaths(root, opt.Follow)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", dir, err), root.Close())
		}
		if followed != nil {
			include = append(slices.Clone(include), followed...)
		}
	}
	f, err := newFilter(include, opt.Exclude)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	w := &dirWalk{dir: dir, filter: f, opt: opt}
	w.group.SetLimit(walkers)
	if err := w.run(root); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", dir, err), root.Close())
	}
	return w.index(root), nil
}

// walkers is how many folders are read at once.
const walkers = 8

// cause is the reason in an error that names a path which the caller names itself.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// dirWalk reads folders in parallel.
type dirWalk struct {
	dir    string
	filter *filter
	opt    DirOptions
	group  errgroup.Group

	mu    sync.Mutex
	found []hostFile
}

// hostFile is one file found; seen is false for a directory that is there only if something below it is.
type hostFile struct {
	entry *Entry
	key   fileKey
	links uint64
	seen  bool
}

func (w *dirWalk) run(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return cause(err)
	}
	err = w.folder(d, ".", &verdict{})
	return errors.Join(err, w.group.Wait())
}

// folder reads one open folder, and closes it.
func (w *dirWalk) folder(d *os.File, name string, up *verdict) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	// The folder stays open until the last of those below it, which are opened relative to it, is done with.
	fd := int(d.Fd())
	found := make([]hostFile, 0, len(names))
	for _, base := range names {
		full := Join(name, base)
		f, err := w.file(fd, base, full)
		if errors.Is(err, unix.ENOENT) { // gone since the folder was read
			continue
		}
		if err != nil {
			return errors.Join(&os.PathError{Op: "read", Path: full, Err: err}, d.Close())
		}
		v, err := w.filter.judge(full, f.entry.IsDir(), up)
		if err != nil {
			return errors.Join(err, d.Close())
		}
		f.seen = v.seen
		if f.entry.IsDir() && v.descend {
			if err := w.enter(fd, base, full, v); err != nil {
				return errors.Join(err, d.Close())
			}
		}
		if v.seen || f.entry.IsDir() && v.descend {
			found = append(found, f)
		}
	}
	w.mu.Lock()
	w.found = append(w.found, found...)
	w.mu.Unlock()
	return d.Close()
}

// enter reads a subfolder, in a goroutine of its own if one is free.
func (w *dirWalk) enter(fd int, base, full string, v *verdict) error {
	sub, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if !v.seen && errors.Is(err, unix.EACCES) {
			return nil // what is ignored need not be readable
		}
		return &os.PathError{Op: "open", Path: full, Err: err}
	}
	d := os.NewFile(uintptr(sub), full)
	if !w.group.TryGo(func() error { return w.folder(d, full, v) }) {
		return w.folder(d, full, v)
	}
	return nil
}

// file reads the metadata of one name in an open folder.
func (w *dirWalk) file(fd int, base, full string) (hostFile, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return hostFile{}, err
	}
	e := statEntry(&st)
	e.Path = full
	if e.Type == TypeSocket {
		e.Type = TypeRegular // no layer can hold a socket: as in BuildKit, an empty file stands for it
	}
	if e.Type == TypeSymlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, base, buf)
		if err != nil {
			return hostFile{}, err
		}
		e.Linkname = string(buf[:n])
	}
	if w.opt.Anonymous {
		e.UID, e.GID = 0, 0
	} else {
		xattrs, err := ReadXattrs(filepath.Join(w.dir, full))
		if err != nil {
			return hostFile{}, err
		}
		e.Xattrs = xattrs
	}
	return hostFile{
		entry: e, links: uint64(st.Nlink), //nolint:unconvert // its width depends on the architecture
		key: fileKey{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()},
	}, nil
}

// statEntry is what stat(2) says of a file. Path, Linkname and Xattrs are left to the caller.
func statEntry(st *unix.Stat_t) *Entry {
	e := &Entry{
		Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()).UTC(),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = TypeRegular, st.Size
	case unix.S_IFDIR:
		e.Type = TypeDir
	case unix.S_IFLNK:
		e.Type, e.Mode = TypeSymlink, 0o777
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = TypeChar, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = TypeBlock, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		e.Type = TypeFifo
	case unix.S_IFSOCK:
		e.Type = TypeSocket
	}
	return e
}

// StatEntry is statEntry for other packages that read trees.
func StatEntry(st *unix.Stat_t) *Entry { return statEntry(st) }

// index makes the view of what was found: hardlinks named after their first name, folders only where they are wanted.
func (w *dirWalk) index(root *os.Root) View {
	slices.SortFunc(w.found, func(a, b hostFile) int { return Compare(a.entry.Path, b.entry.Path) })
	content := &hostContent{root: root, memory: w.opt.Memory}
	x := NewIndex(content, len(w.found))
	dirs := map[string]hostFile{}
	first := map[[2]uint64]string{}
	for _, f := range w.found {
		if !f.seen {
			dirs[f.entry.Path] = f
			continue
		}
		w.addParents(x, dirs, path.Dir(f.entry.Path))
		if f.entry.Type == TypeRegular && f.links > 1 {
			id := [2]uint64{f.key.Dev, f.key.Ino}
			if name, ok := first[id]; ok {
				f.entry.Hardlink = name
			} else {
				first[id] = f.entry.Path
			}
		}
		x.Put(f.entry, len(content.keys))
		content.keys = append(content.keys, f.key)
	}
	return x.Freeze()
}

// addParents adds the folders on the way to a file that do not match themselves.
func (w *dirWalk) addParents(x *Index, dirs map[string]hostFile, dir string) {
	f, ok := dirs[dir]
	if !ok {
		return
	}
	delete(dirs, dir)
	w.addParents(x, dirs, path.Dir(dir))
	x.Put(f.entry, -1)
}

// hostContent reads files below a folder of the host.
type hostContent struct {
	root   *os.Root
	memory *Memory
	keys   []fileKey // by tag
}

// Open fails if the file is not the one that was found in its folder.
func (c *hostContent) Open(_ context.Context, e *Entry, tag int) (io.ReadCloser, error) {
	f, err := c.root.OpenFile(e.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) && e.Size == 0 {
		return io.NopCloser(strings.NewReader("")), nil // a socket
	}
	if err != nil {
		return nil, err
	}
	h := &hostFileReader{f, e.Path, c.keys[tag]}
	if err := h.unchanged(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return h, nil
}

// hostFileReader reads a file as it was when its folder was read: what a cache key was made of is what is copied.
type hostFileReader struct {
	*os.File
	name string
	key  fileKey
}

// Read looks once more at the end whether the file is still the same.
func (h *hostFileReader) Read(p []byte) (int, error) {
	n, err := h.File.Read(p)
	if errors.Is(err, io.EOF) {
		if changed := h.unchanged(); changed != nil {
			return n, changed
		}
	}
	return n, err
}

// WriteTo keeps io.Copy from going around Read.
func (h *hostFileReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{h})
}

func (h *hostFileReader) unchanged() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return err
	}
	if (fileKey{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}) != h.key {
		return fmt.Errorf("%s changed while the build read it: build again", h.name)
	}
	return nil
}

// Digest reads the file unless its state is remembered.
func (c *hostContent) Digest(ctx context.Context, e *Entry, tag int) (digest.Digest, error) {
	if c.memory != nil {
		if d, ok := c.memory.lookup(c.keys[tag]); ok {
			return d, nil
		}
	}
	began := time.Now()
	f, err := c.Open(ctx, e, tag)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := digest.SHA256.Hash()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	d := digest.NewDigest(digest.SHA256, h)
	if c.memory != nil {
		c.memory.learn(c.keys[tag], d, began)
	}
	return d, nil
}

func hexBytes(d digest.Digest) ([]byte, error) { return hex.DecodeString(d.Encoded()) }
