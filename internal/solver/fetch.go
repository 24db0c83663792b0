package solver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/remotecache"
)

// Base is an image of which the store has no layers so far.
type Base struct {
	Chain []digest.Digest // of its layers
	// Fetch fetches the layers that the store does not have, and unpacks them while they arrive, if unpack is set.
	Fetch func(ctx context.Context, unpack bool) error
}

// maxFetches limits how many layers of a chain are fetched from remote caches at the same time.
const maxFetches = 4

// Fetch fetches the layers of a result that are not in the store, from remote caches or from the registry of the image that the
// result is built on.
func (s *Solver) Fetch(ctx context.Context, r *Result) error { return s.fetch(ctx, r, false) }

// fetch is Fetch. With unpack, it makes the trees of the layers in the same pass, for a process that will run on them.
func (s *Solver) fetch(ctx context.Context, r *Result, unpack bool) error {
	missing := s.missing(r)
	if len(missing) == 0 {
		return nil
	}
	base := s.findBase(r.Chain.DiffIDs())
	if base == nil {
		return s.fetchLayers(ctx, missing, unpack)
	}
	above := slices.DeleteFunc(slices.Clone(missing), func(l buildcache.Link) bool { return slices.Contains(base.Chain, l.DiffID) })
	eg, egctx := errgroup.WithContext(ctx)
	eg.Go(crash.Guard(func() error { return base.Fetch(egctx, unpack) }))
	eg.Go(crash.Guard(func() error { return s.fetchLayers(egctx, above, unpack) }))
	if err := eg.Wait(); err != nil {
		return err
	}
	return s.fetchLayers(ctx, s.missing(r), unpack)
}

// fetchLayers fetches layers at the same time. If several are lost, the error is that of the lowest: the steps above run again after its step,
// and once.
func (s *Solver) fetchLayers(ctx context.Context, list []buildcache.Link, unpack bool) error {
	lost := make([]error, len(list))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(maxFetches)
	for i, l := range list {
		eg.Go(crash.Guard(func() error {
			err := s.fetchLayer(ctx, l, unpack)
			if gone := (*lostError)(nil); errors.As(err, &gone) {
				lost[i] = err
				return nil
			}
			return err
		}))
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	return cmp.Or(lost...)
}

// fetchLayer fetches a layer from the first remote cache that has it. Two operations that need it fetch it once.
func (s *Solver) fetchLayer(ctx context.Context, l buildcache.Link, unpack bool) error {
	remote := s.remote.Load()
	if remote == nil {
		return nil // opening the layer gives the error
	}
	lock, err := s.store.Lock(ctx, buildcache.FetchLock+l.DiffID.Encoded())
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	if !s.isMissing(l.DiffID) {
		return nil
	}
	var errs []error
	gone := true // from all that had it
	for _, at := range remote.Imported(l.DiffID) {
		err := s.ingest(ctx, at, l.DiffID, unpack)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		gone = gone && errors.Is(err, errdef.ErrNotFound)
	}
	if base := s.findBase([]digest.Digest{l.DiffID}); base != nil {
		return base.Fetch(ctx, unpack)
	}
	if len(errs) == 0 {
		return nil
	}
	err = fmt.Errorf("fetch layer %s from the build cache: %w (build without --cache-from, or export the cache again)", l.DiffID, errors.Join(errs...))
	if gone {
		return &lostError{l.DiffID, err}
	}
	return err
}

// ingest reads a layer from one remote cache into the store.
func (s *Solver) ingest(ctx context.Context, at remotecache.ImportedLayer, id digest.Digest, unpack bool) error {
	r, err := at.From.Fetch(ctx, at.Blob)
	if err != nil {
		return err
	}
	_, _, err = s.layers.IngestFrom(ctx, layer.Incoming{Reader: r, Blob: at.Blob.Digest, DiffID: id, Unpack: unpack})
	return errors.Join(err, r.Close())
}
