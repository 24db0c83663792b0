package podroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/micabuild/mica/internal/flock"
)

// Exclude keeps steps out of the root directory until release is called: its files and programs are those of mica's image, not of a step. Many may do
// so at once. It waits until a step that is in the directory leaves it.
func (r *Root) Exclude(ctx context.Context) (release func() error, err error) {
	if err := r.turns.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	lock, err := r.exclude(ctx)
	if err != nil {
		r.turns.Release(1)
		return nil, fmt.Errorf("keep steps out of the root directory: %w", err)
	}
	return func() error {
		defer r.turns.Release(1)
		return flock.Release(lock)
	}, nil
}

// exclude waits for the steps of other processes, and puts in order what one that was killed has left.
func (r *Root) exclude(ctx context.Context) (*os.File, error) {
	lock, err := r.openLock()
	if err != nil {
		return nil, err
	}
	for {
		if err := flock.Wait(ctx, lock, flock.Shared); err != nil {
			return nil, err
		}
		in, err := r.inOrder()
		if in {
			return lock, nil
		}
		if err != nil {
			return nil, errors.Join(err, flock.Release(lock))
		}
		if err := flock.Wait(ctx, lock, flock.Exclusive); err != nil {
			return nil, err
		}
		if err := r.recover(); err != nil {
			return nil, errors.Join(err, flock.Release(lock))
		}
	}
}

// inOrder reports whether the root directory has the files of mica's image.
func (r *Root) inOrder() (bool, error) {
	for _, path := range []string{r.journal(), r.imageDir()} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

func (r *Root) openLock() (*os.File, error) {
	return os.OpenFile(filepath.Join(r.stash, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
}
