// Package cachemount manages the directories of RUN --mount=type=cache, which outlive builds.
package cachemount

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// A directory of mounts/ contains the directory that is mounted and the ID of the cache.
const (
	mountsDir = "mounts"
	dataName  = "data"
	idName    = "id"
)

// Mounts are the cache mounts of a store.
type Mounts struct {
	store *store.Store
	// Lay makes a directory with the initial content of a cache.
	Lay func(ctx context.Context, v view.View, dir string) error
}

// New returns the cache mounts of a store.
func New(s *store.Store) *Mounts {
	return &Mounts{store: s, Lay: func(ctx context.Context, v view.View, dir string) error { return localdir.Copy(ctx, v, ".", dir) }}
}

func (m *Mounts) dir(name string) string { return m.store.Path(mountsDir, name) }

// Name returns the name of a cache: a hash of its ID and of the layers of its initial content.
func Name(id string, initial []digest.Digest) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(id), id)
	for _, layer := range initial {
		fmt.Fprintf(h, "\n%s", layer)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Open returns the directory to mount of a cache that the caller has locked, by the name from Locks. If it does not exist, Open makes
// it with initial content.
func (m *Mounts) Open(ctx context.Context, name, id string, initial func() (view.View, error)) (dir string, err error) {
	if _, err := os.Lstat(m.dir(name)); errors.Is(err, fs.ErrNotExist) {
		err = m.make(ctx, name, id, initial)
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	// Prune removes the least recently used mounts first; a lost time does no harm.
	now := time.Now()
	_ = os.Chtimes(m.dir(name), now, now)
	return filepath.Join(m.dir(name), dataName), nil
}

// make makes the directory, unless another process is first.
func (m *Mounts) make(ctx context.Context, name, id string, initial func() (view.View, error)) error {
	v, err := initial()
	if err != nil {
		return err
	}
	tmp, err := m.store.TempDir("mount")
	if err != nil {
		return err
	}
	defer func() { _ = tmp.Remove() }()
	made := filepath.Join(tmp.Path, "made")
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(made, idName), []byte(id), 0o600); err != nil {
		return err
	}
	if err := m.Lay(ctx, v, filepath.Join(made, dataName)); err != nil {
		return err
	}
	dir := m.dir(name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err = os.Rename(made, dir)
	if _, statErr := os.Lstat(dir); err != nil && statErr == nil {
		return nil
	}
	return err
}

// Mount describes the directory of a cache.
type Mount struct {
	Name string
	ID   string // as the Dockerfile has it
	Size int64  // on the disk, in bytes
	Used time.Time
}

// List returns all cache mounts, least recently used first.
func (m *Mounts) List() ([]Mount, error) {
	dirs, err := os.ReadDir(m.store.Path(mountsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	var list []Mount
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil || !d.IsDir() {
			continue
		}
		path := m.dir(d.Name())
		id, _ := os.ReadFile(filepath.Join(path, idName))
		list = append(list, Mount{d.Name(), string(id), diskUsage(path), info.ModTime()})
	}
	slices.SortStableFunc(list, func(a, b Mount) int { return a.Used.Compare(b.Used) })
	return list, nil
}

// Remove removes a cache mount, and reports whether it did: it keeps one that a step uses.
func (m *Mounts) Remove(mount Mount) (bool, error) {
	lock, ok, err := m.store.TryLock(LockPrefix + mount.Name)
	if err != nil || !ok {
		return false, err
	}
	_, err = m.store.RemoveTree(m.dir(mount.Name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, lock.Unlock()); err != nil {
		return false, fmt.Errorf("remove cache mount %s: %w", mount.ID, err)
	}
	return true, nil
}

// diskUsage adds up the blocks of the files below a directory, and does not leave it: a step may move things in a cache while
// it is counted. Files that disappear meanwhile are not counted.
func diskUsage(dir string) (n int64) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0
	}
	defer func() { _ = root.Close() }()
	_ = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if info, err := root.Lstat(name); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				n += st.Blocks * 512
			}
		}
		return nil
	})
	return n
}
