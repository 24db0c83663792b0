package podroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountPoints returns what is mounted in this container.
func mountPoints() ([]string, error) {
	list, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	points := make([]string, len(list))
	for i, m := range list {
		points[i] = m.Mountpoint
	}
	return points, nil
}

// kind is how a path of the root directory is moved.
type kind int

const (
	moves  kind = iota // with all in it
	stays              // not at all
	around             // a directory in which something stays
)

// staying are the paths that stay, and the directories above them.
type staying struct{ kinds map[string]kind }

// stays returns what stays in the root directory: what is mounted, and mica.
func (r *Root) stays() (*staying, error) {
	points, err := r.mounts()
	if err != nil {
		return nil, err
	}
	s := &staying{map[string]kind{}}
	for _, at := range r.own {
		s.add(at)
	}
	for _, at := range points {
		if at, err := filepath.Rel(r.dir, at); err == nil && filepath.IsLocal(at) {
			s.add(at)
		}
	}
	return s, nil
}

func (s *staying) add(at string) {
	if at == "." || at == "" {
		return
	}
	s.kinds[at] = stays
	for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
		if s.kinds[dir] == moves {
			s.kinds[dir] = around
		}
	}
}

// fits returns an error if a root filesystem has something else than a directory above a mount: nothing of it is moved then.
func (s *staying) fits(root string) error {
	for at, kind := range s.kinds {
		if kind != around {
			continue
		}
		info, err := os.Lstat(filepath.Join(root, at))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		case err != nil:
			return err
		case !info.IsDir():
			return notDirectory(at)
		}
	}
	return nil
}

func notDirectory(at string) error {
	return fmt.Errorf("the pod mounts something below /%s, which is not a directory in the root filesystem: mount it elsewhere", at)
}

// kind says how a path is moved. What is in something that stays, stays.
func (s *staying) kind(at string) kind {
	for dir := path.Dir(at); dir != "."; dir = path.Dir(dir) {
		if s.kinds[dir] == stays {
			return stays
		}
	}
	return s.kinds[at]
}

// clear removes all but what stays.
func (s *staying) clear(root string) error { return s.clearDir(root, ".") }

func (s *staying) clearDir(root, dir string) error {
	list, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, item := range list {
		at := path.Join(dir, item.Name())
		switch s.kinds[at] {
		case stays:
		case around:
			errs = append(errs, s.clearDir(root, at))
		default:
			errs = append(errs, removeAll(filepath.Join(root, at)))
		}
	}
	return errors.Join(errs...)
}

// removeAll removes a file or directory, of whatever mode its directories are.
func removeAll(name string) error {
	err := os.RemoveAll(name)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(name, func(at string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(at, 0o700)
		}
		return nil
	})
	return os.RemoveAll(name)
}
