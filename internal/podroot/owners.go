package podroot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/layer/tree"
)

// Owners keep the owners of files in memory, by device, inode and time of birth: inodes are used again.
type Owners struct {
	mu    sync.RWMutex
	metas map[fileID]*tree.Meta
}

var _ tree.Owners = (*Owners)(nil)

type fileID struct {
	major, minor uint32
	inode        uint64
	born         unix.StatxTimestamp
}

func idOf(path string) (fileID, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fileID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{st.Dev_major, st.Dev_minor, st.Ino, st.Btime}, nil
}

// NewOwners returns Owners of no file.
func NewOwners() *Owners { return &Owners{metas: map[fileID]*tree.Meta{}} }

// Set implements [tree.Owners].
func (o *Owners) Set(path string, m *tree.Meta) error {
	id, err := idOf(path)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.metas[id] = m
	return nil
}

// Get implements [tree.Owners].
func (o *Owners) Get(path string, st *unix.Stat_t) (*tree.Meta, error) {
	id, err := idOf(path)
	if err != nil {
		return nil, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if m := o.metas[id]; m != nil {
		return m, nil
	}
	return &tree.Meta{Mode: st.Mode}, nil
}

// Own has a file of this process belong to a user, with the mode that it has.
func Own(owners tree.Owners, name string, uid, gid uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return owners.Set(name, &tree.Meta{UID: uid, GID: gid, Mode: st.Mode})
}

// MakeDir makes a directory and those above it that are missing, which belong to a user.
func MakeDir(owners tree.Owners, dir string, uid, gid uint32) error {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", at)
		}
		if err == nil {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := Own(owners, at, uid, gid); err != nil {
			return err
		}
	}
	return nil
}
