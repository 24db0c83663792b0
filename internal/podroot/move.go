package podroot

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
)

// move moves the files of a directory to another of the same filesystem, but for what stays in the root directory.
type move struct {
	from, to string
	stay     *staying
	owners   tree.Owners // nil for none
	// times are those of the directories in which something stays, when the files have come to them; nil if nobody wants them.
	times map[string]dirTimes
	// before are the times of the move to the root directory that this one reverses.
	before map[string]dirTimes
}

// dirTimes are times of modification.
type dirTimes struct {
	origin unix.Timespec // of the directory that a directory's files came from
	here   unix.Timespec // of the directory itself, when all had come
}

// all moves all files. The root directory of the container keeps its own mode and times, but is pretended to be the other.
func (m *move) all() error {
	if err := m.dir("."); err != nil {
		return err
	}
	return m.copyOwner(m.from, m.to)
}

func (m *move) dir(dir string) error {
	list, err := os.ReadDir(filepath.Join(m.from, dir))
	if err != nil {
		return err
	}
	for _, item := range list {
		at := path.Join(dir, item.Name())
		switch m.stay.kinds[at] {
		case stays:
			err = nil
		case around:
			err = m.around(at, item.IsDir())
		default:
			err = m.file(at, item.IsDir())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file moves a file, or a directory with all in it.
func (m *move) file(at string, isDir bool) error {
	from, to := filepath.Join(m.from, at), filepath.Join(m.to, at)
	err := unix.Rename(from, to)
	if errors.Is(err, unix.EACCES) && isDir {
		err = renameClosed(from, to)
	}
	switch {
	case err == nil:
		return nil
	case !isDir || !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EACCES):
		return &os.LinkError{Op: "move", Old: from, New: to, Err: err}
	}
	// Overlayfs does not move directories of lower layers, and only who may write to a directory moves it: an empty one of another user is made
	// again.
	if err := m.around(at, true); err != nil {
		return err
	}
	return os.Remove(from)
}

// renameClosed moves a directory that its owner may not write to: the name of its parent is in it.
func renameClosed(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if err := unix.Chmod(from, st.Mode&0o7777|0o700); err != nil {
		return unix.EACCES
	}
	if err := unix.Rename(from, to); err != nil {
		return err
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// around moves what is in a directory.
func (m *move) around(at string, isDir bool) error {
	from, to := filepath.Join(m.from, at), filepath.Join(m.to, at)
	if !isDir {
		return notDirectory(at)
	}
	var source, target unix.Stat_t
	if err := unix.Lstat(from, &source); err != nil {
		return &fs.PathError{Op: "stat", Path: from, Err: err}
	}
	err := unix.Lstat(to, &target)
	made := errors.Is(err, unix.ENOENT)
	switch {
	case made:
		err = os.Mkdir(to, 0o700)
	case err == nil && target.Mode&unix.S_IFMT != unix.S_IFDIR: // never through a link
		err = unix.ENOTDIR
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: to, Err: err}
	}
	if err := m.dir(at); err != nil {
		return err
	}
	if made && m.stay.kinds[at] == around && isEmpty(to) {
		return os.Remove(to) // only what stays needs it
	}
	return m.copyMetadata(at, from, to, &source, &target)
}

func isEmpty(dir string) bool {
	list, err := os.ReadDir(dir)
	return err == nil && len(list) == 0
}

// copyMetadata gives a directory the metadata of the one that its files came from.
func (m *move) copyMetadata(at, from, to string, source, target *unix.Stat_t) error {
	// Without more rights than those of its user, mica cannot change the mode and times of a directory of another: owners keep the mode.
	if err := unix.Chmod(to, source.Mode&0o7777); err != nil && !errors.Is(err, unix.EPERM) {
		return &fs.PathError{Op: "chmod", Path: to, Err: err}
	}
	if err := m.copyOwner(from, to); err != nil {
		return err
	}
	mtime := source.Mtim
	if was, ok := m.before[at]; ok && was.here == mtime {
		mtime = was.origin // nothing was made or removed here
	}
	times := []unix.Timespec{mtime, mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil && !errors.Is(err, unix.EPERM) {
		return &fs.PathError{Op: "set times", Path: to, Err: err}
	}
	if m.times == nil {
		return nil
	}
	if err := unix.Lstat(to, target); err != nil {
		return &fs.PathError{Op: "stat", Path: to, Err: err}
	}
	m.times[at] = dirTimes{origin: source.Mtim, here: target.Mtim}
	return nil
}

func (m *move) copyOwner(from, to string) error {
	if m.owners == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: from, Err: err}
	}
	meta, err := m.owners.Get(from, &st)
	if err != nil {
		return err
	}
	return m.owners.Set(to, meta)
}
