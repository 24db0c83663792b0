package layer

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Of a layer that came from elsewhere, the digests of the contents are computed when the first is asked for, all at once:
// most layers are run, or built upon, and never copied from.

// contentDigest is the digest of a regular file's content.
func (l *Layers) contentDigest(ctx context.Context, n *node) (digest.Digest, error) {
	if n.entry.Digest != "" {
		return n.entry.Digest, nil
	}
	root, err := l.withDigests(ctx, n.layer)
	if err != nil {
		return "", err
	}
	same := root.descend(n.entry.Path)
	if same == nil || same.entry.Digest == "" {
		return "", fail(n.layer, errTOC)
	}
	return same.entry.Digest, nil
}

// computed is contentDigest where that is known already, "" elsewhere.
func (l *Layers) computed(n *node) digest.Digest {
	if n.entry.Digest != "" {
		return n.entry.Digest
	}
	if root, ok := l.digested.Load(n.layer); ok {
		if same := root.(*node).descend(n.entry.Path); same != nil {
			return same.entry.Digest
		}
	}
	return ""
}

// withDigests returns the index of a layer whose digests are there, and puts them into its table of contents.
func (l *Layers) withDigests(ctx context.Context, id digest.Digest) (*node, error) {
	if root, ok := l.digested.Load(id); ok {
		return root.(*node), nil
	}
	lock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	t, err := l.loadTOC(id) // another process may have been first
	if err == nil && t.summary.undigested {
		t, err = l.digest(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	root, err := t.index()
	if err != nil {
		return nil, err
	}
	l.digested.Store(id, root)
	return root, nil
}

// digest reads a layer's pack, and writes its table of contents anew. The caller holds the layer's lock.
func (l *Layers) digest(ctx context.Context, id digest.Digest) (*TOC, error) {
	packs, err := l.packs(id)
	if err != nil {
		return nil, err
	}
	if len(packs) == 0 {
		return nil, fail(id, fmt.Errorf("%w: it has no blob to digest its files from", store.ErrDamaged))
	}
	d := &draft{}
	if err := l.readPack(ctx, id, packs, d); err != nil {
		return nil, err
	}
	if err := l.store.WriteCacheFile(l.path(id, tocFile), d.toc); err != nil {
		return nil, fail(id, err)
	}
	l.heads.Delete(id)
	return l.loadTOC(id)
}
