package solver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// MountLock begins the name of the lock that is held while a process has a cache mount; the folder's name follows.
const MountLock = "mount-"

// cacheMount is RUN --mount=type=cache: a folder that outlives builds, in the store's mounts/. Its name is a hash of the
// cache's ID and of what it began as. Who shares it holds a shared lock; "locked" waits for an exclusive one; "private"
// takes the first folder that nobody has.
func (s *Solver) cacheMount(ctx context.Context, m *pb.Mount, in *Result) (mount sandbox.Mount, lock *store.Lock, err error) {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(m.CacheOpt.ID), m.CacheOpt.ID)
	if in != nil {
		if in, err = s.asLayers(ctx, in, "/"); err != nil {
			return mount, nil, err
		}
		for _, id := range in.DiffIDs() {
			fmt.Fprintf(h, "\n%s", id)
		}
	}
	name := fmt.Sprintf("%x", h.Sum(nil))
	switch m.CacheOpt.Sharing {
	case pb.CacheSharingOpt_SHARED:
		lock, err = s.store.RLock(ctx, MountLock+name)
	case pb.CacheSharingOpt_LOCKED:
		lock, err = s.store.Lock(ctx, MountLock+name)
	case pb.CacheSharingOpt_PRIVATE:
		name, lock, err = s.privateMount(name)
	default:
		err = fmt.Errorf("sharing mode %s is not supported", m.CacheOpt.Sharing)
	}
	if err != nil {
		return mount, nil, err
	}
	dir := s.store.Path("mounts", name)
	if err := s.makeCacheMount(ctx, dir, name, in); err != nil {
		return mount, nil, errors.Join(err, lock.Unlock())
	}
	return sandbox.Mount{
		Type: sandbox.MountBind, Target: m.Dest, Source: dir, Selector: m.Selector, ReadOnly: m.Readonly,
	}, lock, nil
}

// privateMount finds a folder that no other process has at the moment.
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

// makeCacheMount makes the folder, with what it begins as, unless it is there.
func (s *Solver) makeCacheMount(ctx context.Context, dir, name string, in *Result) error {
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
	made := filepath.Join(tmp.Path, name)
	if err := view.CopyOut(ctx, v, ".", made); err != nil {
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
