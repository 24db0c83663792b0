package layer

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
)

// The digests of the contents of a layer that came from elsewhere are computed when the first is asked for, all at once:
// most layers are run, or built upon, and never copied from.

// contentDigest is the digest of a regular file's content.
func (l *Layers) contentDigest(ctx context.Context, n *index.Node) (digest.Digest, error) {
	if n.Entry.Digest != "" {
		return n.Entry.Digest, nil
	}
	root, err := l.withDigests(ctx, n.Layer)
	if err != nil {
		return "", err
	}
	same := root.Descend(n.Entry.Path)
	if same == nil || same.Entry.Digest == "" {
		return "", fail(n.Layer, toc.ErrDamaged)
	}
	return same.Entry.Digest, nil
}

// withDigests returns the index of a layer whose digests are there, and puts them into its table of contents.
func (l *Layers) withDigests(ctx context.Context, id digest.Digest) (*index.Node, error) {
	if root, ok := l.digested.Load(id); ok {
		return root.(*index.Node), nil
	}
	lock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	t, err := l.loadTOC(id) // another process may have been first
	if err == nil && t.Undigested {
		t, err = l.digest(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	root, err := index.FromTable(t)
	if err != nil {
		return nil, fail(id, err)
	}
	l.digested.Store(id, root)
	return root, nil
}

// AddDigests computes the digests of a layer's files, if its table of contents does not have them. A caller that needs many of them saves
// memory if it asks before it reads the table.
func (l *Layers) AddDigests(ctx context.Context, id digest.Digest) error {
	s, err := l.summary(id)
	if err == nil && !s.Undigested {
		return nil
	}
	lock, err := l.lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	t, err := l.loadTOC(id) // another process may have been first
	if err == nil && t.Undigested {
		_, err = l.digest(ctx, id)
	}
	return err
}

// digest reads a layer's blob, and writes its table of contents anew. The caller holds the layer's lock.
func (l *Layers) digest(ctx context.Context, id digest.Digest) (*toc.Table, error) {
	file, err := l.parseGoodBlob(ctx, id)
	if err != nil {
		return nil, err
	}
	return l.storeTOC(id, file, l.store.WriteCacheFile)
}

// parseGoodBlob parses a layer's blobs until one is whole. Others are removed. If none is left, so is the tree, because it
// may be damaged, too: the layer can be fetched again then.
func (l *Layers) parseGoodBlob(ctx context.Context, id digest.Digest) ([]byte, error) {
	for {
		blobs, err := l.blobs(id)
		if err != nil {
			return nil, err
		}
		if len(blobs) == 0 {
			if l.unpacked(id) {
				err = l.setAside(id)
			}
			return nil, errors.Join(fail(id, fmt.Errorf("it is %w: no blob of it is whole; pull or load the image again", store.ErrDamaged)), err)
		}
		file, err := l.parseBlob(ctx, id, blobs)
		if !errors.Is(err, store.ErrDamaged) {
			return file, err
		}
		if err := l.dropDamaged(id); err != nil {
			return nil, err
		}
		if left, listErr := l.blobs(id); listErr != nil || len(left) == len(blobs) {
			return nil, errors.Join(err, listErr) // the damage is not in a blob
		}
	}
}
