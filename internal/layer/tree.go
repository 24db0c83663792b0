package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// Tree returns the path of the layer's tree, a directory or an image (see overlay.Options). It unpacks the layer if
// necessary: one process unpacks, others wait for it. If the tree exists, nobody waits.
func (l *Layers) Tree(ctx context.Context, id digest.Digest) (string, error) {
	if _, err := l.summary(id); err != nil && !errors.Is(err, toc.ErrDamaged) {
		return "", err
	}
	if path := l.trees.Mountable(l.path(id)); path != "" {
		if l.verifyTree(ctx, id) == nil {
			return path, nil
		}
	} else if _, err := l.TOC(ctx, id); err != nil { // a damaged one is repaired under the lock that is taken below
		return "", err
	}
	lock, err := l.lock(ctx, id)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	if l.unpacked(id) {
		err := l.verifyTree(ctx, id)
		if path := l.trees.Mountable(l.path(id)); err == nil && path != "" {
			return path, nil
		}
		if errors.Is(err, store.ErrDamaged) {
			err = l.replaceable(id, err)
		}
		if err != nil {
			return "", err
		}
	}
	return l.makeTree(ctx, id)
}

// makeTree unpacks a layer. The caller holds its lock.
func (l *Layers) makeTree(ctx context.Context, id digest.Digest) (string, error) {
	temp, err := l.store.TempDir("unpack")
	if err != nil {
		return "", err
	}
	defer func() { _ = temp.Remove() }()
	made, err := l.unpack(ctx, id, temp.Path)
	if err != nil {
		if errors.Is(err, store.ErrDamaged) {
			return "", fmt.Errorf("unpack %w; pull or load the image again", errors.Join(err, l.dropDamaged(id)))
		}
		return "", fmt.Errorf("unpack %w", err)
	}
	path := l.path(id, filepath.Base(made))
	if err := os.Rename(made, path); err != nil {
		return "", fail(id, err)
	}
	l.verified.Store(id, true)
	return path, nil
}

// Trees is Tree for a chain, bottom first, unpacking in parallel.
func (l *Layers) Trees(ctx context.Context, chain []digest.Digest) ([]string, error) {
	paths := make([]string, len(chain))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for i, id := range chain {
		g.Go(func() (err error) {
			defer crash.Recover(&err)
			paths[i], err = l.Tree(ctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return paths, nil
}

// unpack makes the layer's tree in a directory, verifies the tar that it comes from, and returns the path of the tree.
func (l *Layers) unpack(ctx context.Context, id digest.Digest, in string) (path string, err error) {
	root, err := l.indexOf(ctx, id)
	if err != nil {
		return "", err
	}
	tar, err := l.OpenTar(ctx, id)
	if err != nil {
		return "", err
	}
	defer func() { _ = tar.Close() }()
	w, err := l.trees.Create(in)
	if err != nil {
		return "", fail(id, err)
	}
	defer w.Close()
	if err := convert.Extract(ctx, w, tar, root); err != nil {
		if errors.Is(err, store.ErrDamaged) {
			return "", err // names the layer already
		}
		return "", fail(id, err)
	}
	return w.Path(), nil
}
