package layer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/micabuild/mica/internal/view"
)

// maxTrees is how many trees Lowers returns at most, a cover aside: Linux stacks 500 directories (OVL_MAX_STACK, fs/overlayfs).
const maxTrees = 400

// flattened makes of the lowest layers of a chain that has too many one layer. It takes their number in steps of maxTrees, so
// that the next chains of a build need no other.
func (l *Layers) flattened(ctx context.Context, chain []digest.Digest, odd []*oddities) ([]digest.Digest, []*oddities, error) {
	n := (len(chain) - 1) / maxTrees * maxTrees
	if n < 1 {
		return chain, odd, nil
	}
	flat, err := l.flatten(ctx, chain[:n])
	if err != nil {
		return nil, nil, fmt.Errorf("prepare root filesystem: join %d layers: %w", n, err)
	}
	if odd != nil {
		odd = append([]*oddities{nil}, odd[n:]...)
	}
	return append([]digest.Digest{flat}, chain[n:]...), odd, nil
}

// flatten makes a layer that alone shows what a chain shows. Nothing names it: the next prune removes it.
func (l *Layers) flatten(ctx context.Context, chain []digest.Digest) (digest.Digest, error) {
	chainID := identity.ChainID(append([]digest.Digest(nil), chain...))
	lock, err := l.lock(ctx, chainID)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Unlock() }()
	note := filepath.Join(l.flatDir(), chainID.Encoded())
	if id, err := os.ReadFile(note); err == nil {
		if got, err := l.Get(digest.Digest(id)); err == nil && got.Present() {
			return got.DiffID, nil
		}
	}
	all, err := l.View(ctx, chain)
	if err != nil {
		return "", err
	}
	changes, err := l.Diff(ctx, view.Empty(), all)
	if err != nil {
		return "", err
	}
	made, err := l.Write(ctx, changes, AsTree)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(l.flatDir(), 0o700); err != nil {
		return "", err
	}
	return made.DiffID, l.store.WriteCacheFile(note, []byte(made.DiffID))
}

// flatDir has a file for every chain that was flattened, with the DiffID of the layer.
func (l *Layers) flatDir() string { return l.store.Path("cache", "flattened") }
