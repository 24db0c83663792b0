package view

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/digestcache"
)

// DirOptions select what of a host directory is seen: LLB's attributes of a local source, with BuildKit's meaning.
type DirOptions struct {
	Include, Exclude []string           // patterns as in .dockerignore
	Follow           []string           // only these paths, and what symlinks on the way to them point at
	Digests          *digestcache.Cache // nil: every digest is computed
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
	w := &dirWalk{filter: f, opt: opt, began: time.Now()}
	w.group.SetLimit(walkers)
	if err := w.run(root); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", dir, err), root.Close())
	}
	return newHostDir(root, w), nil
}

// walkers is how many directories are read at once.
const walkers = 8

// cause is the reason in an error that names a path which the caller names itself.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// dirWalk reads directories in parallel.
type dirWalk struct {
	filter *filter
	opt    DirOptions
	group  errgroup.Group
	began  time.Time

	mu          sync.Mutex
	directories []dirListing
	unsettled   bool // some file changed so lately that its state cannot be told from the next
}

// dirListing is what is seen of one directory, sorted by name, and a hash of the states of its files.
type dirListing struct {
	name  string
	files []hostFile
	state digestcache.Sum
}

// hostFile is one file found; seen is false for a directory that is there only if something below it is.
type hostFile struct {
	entry *Entry
	key   digestcache.FileState
	links uint64
	seen  bool
}

func (w *dirWalk) run(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return cause(err)
	}
	err = w.directory(d, ".", &verdict{})
	return errors.Join(err, w.group.Wait())
}

// directory reads one open directory, and closes it.
func (w *dirWalk) directory(d *os.File, name string, up *verdict) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	slices.Sort(names)
	// The directory stays open until the last of those below it, which are opened relative to it, is done with.
	fd := int(d.Fd())
	found := make([]hostFile, 0, len(names))
	entries := make([]Entry, len(names))
	for i, base := range names {
		f := hostFile{entry: &entries[i]}
		full := Join(name, base)
		err := w.file(fd, base, full, &f)
		if errors.Is(err, unix.ENOENT) { // gone since the directory was read
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
	w.add(name, found)
	return d.Close()
}

// add keeps what was found in a directory.
func (w *dirWalk) add(name string, found []hostFile) {
	directory := dirListing{name: name, files: found}
	unsettled := false
	h := sha256.New()
	var buf []byte
	for _, f := range found {
		buf = append(buf[:0], byte(f.entry.Type), 0)
		if f.seen {
			buf[1] = 1
		}
		// Names are part of the state themselves: other files that come and go in a directory change only its times.
		if w.opt.Anonymous && f.entry.IsDir() {
			buf = binary.BigEndian.AppendUint32(buf, f.entry.Mode)
		} else {
			buf = f.key.Append(buf)
			unsettled = unsettled || !f.key.Settled(w.began)
		}
		buf = append(append(buf, path.Base(f.entry.Path)...), 0)
		h.Write(buf)
	}
	h.Sum(directory.state[:0])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.directories = append(w.directories, directory)
	w.unsettled = w.unsettled || unsettled
}

// enter reads a subdirectory, in a goroutine of its own if one is free.
func (w *dirWalk) enter(fd int, base, full string, v *verdict) error {
	sub, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if !v.seen && errors.Is(err, unix.EACCES) {
			return nil // what is ignored need not be readable
		}
		return &os.PathError{Op: "open", Path: full, Err: err}
	}
	d := os.NewFile(uintptr(sub), full)
	if !w.group.TryGo(func() error { return w.directory(d, full, v) }) {
		return w.directory(d, full, v)
	}
	return nil
}

// file reads the metadata of one name in an open directory.
func (w *dirWalk) file(fd int, base, full string, f *hostFile) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e := f.entry
	e.fromStat(&st)
	e.Path = full
	if e.Type == TypeSocket {
		e.Type = TypeRegular // no layer can hold a socket: as in BuildKit, an empty file stands for it
	}
	if e.Type == TypeSymlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, base, buf)
		if err != nil {
			return err
		}
		e.Linkname = string(buf[:n])
	}
	if w.opt.Anonymous {
		e.UID, e.GID = 0, 0
	} else {
		// By the directory's descriptor: what its path leads to may change meanwhile.
		xattrs, err := ReadXattrs(fmt.Sprintf("/proc/self/fd/%d/%s", fd, base))
		if errors.Is(err, unix.ENOENT) {
			if _, noProc := os.Stat("/proc/self/fd"); noProc != nil {
				return fmt.Errorf("extended attributes: %w: is /proc mounted?", unix.ENOTSUP)
			}
		}
		if err != nil {
			return err
		}
		e.Xattrs = xattrs
	}
	f.links = uint64(st.Nlink) //nolint:unconvert // its width depends on the architecture
	f.key = digestcache.StateOf(&st)
	return nil
}

// StatEntry is what stat(2) says of a file. Path, Linkname and Xattrs are left to the caller.
func StatEntry(st *unix.Stat_t) *Entry {
	e := &Entry{}
	e.fromStat(st)
	return e
}

func (e *Entry) fromStat(st *unix.Stat_t) {
	e.Mode, e.UID, e.GID = st.Mode&0o7777, int(st.Uid), int(st.Gid)
	e.ModTime = time.Unix(st.Mtim.Unix()).UTC()
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
}
