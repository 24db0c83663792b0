package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// Cover puts files in places of a tree while a process runs, as mounts would, and takes them back.
type Cover struct {
	root    string
	holding string // a directory in the same filesystem that no process sees
	places  []*place
	// Linked has what cannot be moved, being in another filesystem, shown by a symlink: the process sees all files of this one.
	Linked bool
}

// place is a name in a directory of the tree. The directory is open: the process may move it.
type place struct {
	dir    int
	base   string
	held   string // what was there, "" for nothing
	source string // where what is there now was moved from, "" for what is removed
	isDir  bool   // of source
	made   []string
	times  [2]unix.Timespec
}

// NewCover returns the Cover of a root filesystem. It makes the directory holding.
func NewCover(root, holding string) (*Cover, error) {
	if err := os.Mkdir(holding, 0o700); err != nil {
		return nil, err
	}
	return &Cover{root: root, holding: holding}, nil
}

// Move moves source, a file or directory of the same filesystem, to a place of the tree. Uncover moves it back.
func (c *Cover) Move(source, target string) error { return c.put(source, source, target) }

// Show moves source to a place of the tree. Uncover removes it.
func (c *Cover) Show(source, target string) error { return c.put(source, "", target) }

func (c *Cover) put(source, back, target string) (err error) {
	full, err := securejoin.SecureJoin(c.root, target)
	if err != nil {
		return err
	}
	if full == c.root {
		return errors.New("the root directory cannot be covered")
	}
	var st unix.Stat_t
	if err := unix.Lstat(source, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: source, Err: err}
	}
	p := &place{base: filepath.Base(full), source: back, isDir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	if p.made, p.times, err = makeParents(filepath.Dir(full)); err != nil {
		return err
	}
	if p.dir, err = unix.Open(filepath.Dir(full), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	c.places = append(c.places, p)
	held := filepath.Join(c.holding, strconv.Itoa(len(c.places)))
	switch err := os.Rename(full, held); {
	case err == nil:
		p.held = held
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	err = os.Rename(source, full)
	if errors.Is(err, unix.EXDEV) && c.Linked && back != "" {
		p.source, err = "", os.Symlink(source, full)
	}
	if err != nil {
		return err
	}
	return p.setTimes()
}

// makeParents makes a directory and those above it that are missing, and returns them, the highest first, with the times of the one in which
// the first was made, or else of the directory.
func makeParents(dir string) (made []string, times [2]unix.Timespec, err error) {
	var st unix.Stat_t
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Lstat(at, &st)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOENT) {
			return nil, times, &fs.PathError{Op: "lstat", Path: at, Err: err}
		}
		made = append(made, at)
	}
	slices.Reverse(made)
	for _, at := range made {
		if err := os.Mkdir(at, 0o755); err != nil {
			return nil, times, err
		}
	}
	times = [2]unix.Timespec{st.Atim, st.Mtim}
	if len(made) > 0 {
		err = setTimes(filepath.Dir(made[0]), times, unix.AT_SYMLINK_NOFOLLOW)
	}
	return made, times, err
}

func (p *place) path() string { return path.Join("/proc/self/fd", strconv.Itoa(p.dir), p.base) }

// setTimes gives the directory its times again.
func (p *place) setTimes() error {
	if len(p.made) > 0 {
		return nil
	}
	return setTimes(filepath.Dir(p.path()), p.times, 0)
}

// setTimes sets the times of a directory, unless it belongs to another user than a process without privileges.
func setTimes(dir string, times [2]unix.Timespec, flags int) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, times[:], flags)
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// Uncover takes back what was put, the last first. What it cannot take back because a process has removed it stays removed.
func (c *Cover) Uncover() error {
	var errs []error
	for _, p := range slices.Backward(c.places) {
		if err := c.uncover(p); err != nil {
			errs = append(errs, fmt.Errorf("uncover %s: %w", p.base, err))
		}
		_ = unix.Close(p.dir)
	}
	c.places = nil
	return errors.Join(errs...)
}

func (c *Cover) uncover(p *place) error {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(p.path()), &st); err != nil {
		return err
	}
	p.times = [2]unix.Timespec{st.Atim, st.Mtim} // as the process has left them
	if err := c.takeBack(p); err != nil {
		return err
	}
	if p.held != "" {
		// A directory that the process has removed takes nothing.
		if err := os.Rename(p.held, p.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := setTimes(filepath.Dir(p.path()), p.times, 0); err != nil {
		return err
	}
	return c.removeMade(p)
}

// takeBack moves what is in a place to where it came from, or removes it. A process can put a symlink in the place of a directory, which
// would lead out of the tree later.
func (c *Cover) takeBack(p *place) error {
	var st unix.Stat_t
	if err := unix.Lstat(p.path(), &st); err != nil {
		return errors.Join(ignoreMissing(err), p.restore())
	}
	if p.source != "" && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.Rename(p.path(), p.source)
	}
	return errors.Join(os.Rename(p.path(), filepath.Join(c.holding, "used-"+strconv.Itoa(len(c.places))+"-"+strconv.Itoa(p.dir))), p.restore())
}

// restore makes the directory again that was moved here and that the process has removed. It could not have removed a mount.
func (p *place) restore() error {
	if p.source == "" || !p.isDir {
		return nil
	}
	return os.Mkdir(p.source, 0o755)
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// removeMade removes the directories that were made for a place and are empty.
func (c *Cover) removeMade(p *place) error {
	for _, at := range slices.Backward(p.made) {
		var st unix.Stat_t
		parent := filepath.Dir(at)
		if err := unix.Lstat(parent, &st); err != nil {
			return ignoreMissing(err)
		}
		if unix.Rmdir(at) != nil {
			return nil // the process has put something there
		}
		if err := setTimes(parent, [2]unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}
