package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
)

// replaceable sets a damaged tree aside. It returns damage where there is nothing to make the tree from.
func (l *Layers) replaceable(id digest.Digest, damage error) error {
	if err := l.setAside(id); err != nil {
		return fail(id, err)
	}
	if blobs, err := l.blobs(id); err != nil || len(blobs) == 0 {
		return fmt.Errorf("%w; build or load the image again", damage)
	}
	return nil
}

// dropDamaged removes the blobs of a layer that are not what their names say, so that they can be fetched again. Where there
// are none, what could not be made another tree of is a tree.
func (l *Layers) dropDamaged(id digest.Digest) error {
	defer l.lost.Add(1)
	blobs, err := l.blobs(id)
	if err != nil {
		return err
	}
	if len(blobs) == 0 && l.unpacked(id) {
		return l.setAside(id)
	}
	for _, p := range blobs {
		r, err := l.store.VerifiedBlob(p.Digest)
		if err != nil {
			continue
		}
		_, err = io.Copy(io.Discard, r)
		_ = r.Close()
		if errors.Is(err, store.ErrDamaged) {
			if err := l.store.RemoveBlob(p.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// setAside takes a damaged tree out of use, so that it can be made again, from a blob or by building again. It is kept for
// inspection until the layer is removed.
func (l *Layers) setAside(id digest.Digest) error {
	defer l.lost.Add(1)
	aside := l.path(id, damagedDir)
	if _, err := os.Lstat(aside); err == nil {
		if _, err := l.store.RemoveTree(aside); err != nil {
			return err
		}
	}
	l.opened.Delete(id)
	if err := os.Rename(tree.Find(l.path(id)), aside); err != nil {
		return err
	}
	// If there are two, it is unknown which one was made of the other.
	if err := os.Remove(l.path(id, tree.ImageName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
