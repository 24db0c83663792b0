package solver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// MountLock is the prefix of the name of the lock on a cache mount that a process uses; the name of its directory follows.
const MountLock = "mount-"

// The directory of a cache mount holds the mounted directory and the ID of the cache.
const (
	mountsDir = "mounts"
	mountData = "data"
	mountID   = "id"
)

// caches are the cache mounts of one step, RUN --mount=type=cache: directories in the store's mounts/, which outlive builds. The name
// of a directory is a hash of the cache's ID and of its initial content. Sharing "shared" takes a shared lock; "locked" waits for an
// exclusive one; "private" takes the first directory that no process has.
type caches struct {
	names map[string]string // of the directories, by the names that were asked for
	locks []*store.Lock
}

// lockCaches takes the caches of a step, in one order for all steps, so that no two wait for each other. A cache that is
// mounted twice is taken once, in the strictest way.
func (s *Solver) lockCaches(ctx context.Context, o *execOp) (_ *caches, err error) {
	wanted := map[string]pb.CacheSharingOpt{}
	for _, m := range o.op.Mounts {
		if m.MountType != pb.MountType_CACHE {
			continue
		}
		name, err := s.cacheName(ctx, m, o.input(m))
		if err != nil {
			return nil, fmt.Errorf("cache mount %s: %w", m.Dest, err)
		}
		wanted[name] = max(wanted[name], m.CacheOpt.Sharing) // shared, private, locked
	}
	c := &caches{names: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		var lock *store.Lock
		got := name
		switch sharing := wanted[name]; sharing {
		case pb.CacheSharingOpt_SHARED:
			lock, err = s.store.RLock(ctx, MountLock+name)
		case pb.CacheSharingOpt_LOCKED:
			lock, err = s.store.Lock(ctx, MountLock+name)
		case pb.CacheSharingOpt_PRIVATE:
			got, lock, err = s.privateMount(name)
		default:
			err = fmt.Errorf("sharing mode %s is not supported", sharing)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cache mount: %w", err), c.unlock())
		}
		c.names[name], c.locks = got, append(c.locks, lock)
	}
	return c, nil
}

func (c *caches) unlock() error {
	var errs []error
	for _, l := range c.locks {
		errs = append(errs, l.Unlock())
	}
	return errors.Join(errs...)
}

// cacheName is a hash of what makes a cache another one.
func (s *Solver) cacheName(ctx context.Context, m *pb.Mount, in *Result) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(m.CacheOpt.ID), m.CacheOpt.ID)
	if in != nil {
		in, err := s.asLayers(ctx, in, "/")
		if err != nil {
			return "", err
		}
		for _, id := range in.DiffIDs() {
			fmt.Fprintf(h, "\n%s", id)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// cacheMount is one mount of a cache that the step has.
func (s *Solver) cacheMount(ctx context.Context, c *caches, m *pb.Mount, in *Result) (mount sandbox.Mount, err error) {
	name, err := s.cacheName(ctx, m, in)
	if err != nil {
		return mount, err
	}
	if in != nil {
		if in, err = s.asLayers(ctx, in, "/"); err != nil {
			return mount, err
		}
	}
	dir := s.store.Path(mountsDir, c.names[name])
	if err := s.makeCacheMount(ctx, dir, m.CacheOpt.ID, in); err != nil {
		return mount, err
	}
	// Prune removes the least recently used mounts first; a lost time does no harm.
	now := time.Now()
	_ = os.Chtimes(dir, now, now)
	return sandbox.Mount{
		Type: sandbox.MountBind, Target: m.Dest, Source: filepath.Join(dir, mountData), Selector: m.Selector, ReadOnly: m.Readonly,
		Shared: true,
	}, nil
}

// privateMount finds a directory that no other process uses.
func (s *Solver) privateMount(base string) (name string, lock *store.Lock, err error) {
	for n, ok := 0, false; !ok; n++ {
		name = base
		if n > 0 {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		if lock, ok, err = s.store.TryLock(MountLock + name); err != nil {
			return "", nil, err
		}
	}
	return name, lock, nil
}

// makeCacheMount makes the directory with its initial content, unless it exists.
func (s *Solver) makeCacheMount(ctx context.Context, dir, id string, in *Result) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if in == nil {
		in = &Result{}
	}
	v, err := s.View(ctx, in)
	if err != nil {
		return err
	}
	tmp, err := s.store.TempDir("mount")
	if err != nil {
		return err
	}
	defer func() { _ = tmp.Remove() }()
	made := filepath.Join(tmp.Path, "made")
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(made, mountID), []byte(id), 0o600); err != nil {
		return err
	}
	if err := localdir.Copy(ctx, v, ".", filepath.Join(made, mountData)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	err = os.Rename(made, dir)
	if _, statErr := os.Lstat(dir); err != nil && statErr == nil {
		return nil // another process was first
	}
	return err
}

// CacheMount is the directory of a RUN --mount=type=cache.
type CacheMount struct {
	Name string // of its directory in the store's mounts/
	ID   string // as the Dockerfile has it
	Size int64  // on the disk, in bytes
	Used time.Time
}

// CacheMounts lists them, least recently used first.
func (c *Cache) CacheMounts() ([]CacheMount, error) {
	dirs, err := os.ReadDir(c.store.Path(mountsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	var list []CacheMount
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil || !d.IsDir() {
			continue
		}
		path := c.store.Path(mountsDir, d.Name())
		id, _ := os.ReadFile(filepath.Join(path, mountID))
		list = append(list, CacheMount{d.Name(), string(id), diskUsage(path), info.ModTime()})
	}
	slices.SortStableFunc(list, func(a, b CacheMount) int { return a.Used.Compare(b.Used) })
	return list, nil
}

// RemoveCacheMount removes one, and reports whether it did: not while a step has it.
func (c *Cache) RemoveCacheMount(m CacheMount) (bool, error) {
	lock, ok, err := c.store.TryLock(MountLock + m.Name)
	if err != nil || !ok {
		return false, err
	}
	_, err = c.store.RemoveTree(c.store.Path(mountsDir, m.Name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, lock.Unlock()); err != nil {
		return false, fmt.Errorf("remove cache mount %s: %w", m.ID, err)
	}
	return true, nil
}

// diskUsage adds up the blocks of the files below a directory, and does not leave it: a step may move things in a cache while
// it is counted. What goes away meanwhile is not counted.
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
