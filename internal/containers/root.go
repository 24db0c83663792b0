package containers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/localdir"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/view"
)

// Root is the root filesystem of a chain, with an upper directory in dir for what the container changes.
func Root(ctx context.Context, layers *layer.Layers, chain []digest.Digest, dir string) (overlay.Options, error) {
	lowers, err := layers.Lowers(ctx, chain, dir)
	if err != nil {
		return overlay.Options{}, err
	}
	u := overlay.Options{Lowers: lowers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{u.Upper, u.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return u, fmt.Errorf("prepare root filesystem: %w", err)
		}
	}
	return u, nil
}

// Fill makes the directory of a volume, with a copy of the files that the chain has at target.
func Fill(ctx context.Context, layers *layer.Layers, chain []digest.Digest, target, dir string) error {
	v, err := layers.View(ctx, chain)
	if err != nil {
		return err
	}
	at, err := view.Resolve(ctx, v, target, true)
	if err != nil {
		return fmt.Errorf("make volume %s: %w", target, err)
	}
	if err := localdir.Copy(ctx, v, at, dir); err != nil {
		return fmt.Errorf("make volume %s: %w", target, err)
	}
	return nil
}
