// Package prune decides what may be removed from a store, removes it, and adds up what the store takes on disk.
//
// The rules are functions of plain values (cache.go, usage.go); this file applies them to a store.
package prune

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/catalog"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/store"
)

// Pruner prunes one store.
type Pruner struct {
	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images
}

// stepLocks are the prefixes of locks that only builds take, one for each step or source: their files would add up.
var stepLocks = []string{buildcache.StepLock, cachemount.LockPrefix, buildcache.FetchLock, sources.GitLock}

// Garbage removes what neither an image nor the build cache needs and no process holds, and what dead processes left. It
// returns the disk space that became free, in bytes.
func (p *Pruner) Garbage(ctx context.Context) (freed int64, err error) {
	w, err := p.Store.Sweep(ctx)
	if err != nil {
		return 0, err
	}
	return p.finish(ctx, w, nil)
}

// finish collects garbage and ends a sweep, unless err says that it has failed already.
func (p *Pruner) finish(ctx context.Context, w *store.Sweep, err error) (int64, error) {
	if err == nil {
		cache := buildcache.New(p.Store)
		err = p.Images.Collect(ctx, w, func() ([]digest.Digest, error) {
			records, err := cache.Sweep(w)
			return buildcache.LayersOf(records), err
		})
	}
	freed, endErr := w.End(ctx)
	if err = errors.Join(err, endErr, p.Layers.ForgetFlattened()); err != nil {
		return freed, err
	}
	for _, prefix := range stepLocks {
		if err := p.Store.RemoveLocks(prefix); err != nil {
			return freed, err
		}
	}
	sandbox.RemoveCgroups()
	stale, err := p.Store.RemoveStaleTemp()
	return freed + stale, err
}

// Unused removes images: those without a name, or with all every image, that the filter selects, but for those that a container
// or another process uses. It returns the lines that Docker prints, and the disk space that became free, in bytes.
func (p *Pruner) Unused(ctx context.Context, all bool, f *image.Filter) (lines []image.Removed, freed int64, err error) {
	if lines, err = p.Images.Prune(ctx, all, f); err != nil {
		return nil, 0, err
	}
	freed, err = p.Garbage(ctx)
	return lines, freed, err
}

// Cache removes build cache within limits: steps, cache mounts, and, where nothing is to be kept, sources and lists of packages. It returns the IDs of
// the steps and mounts that were removed, and the disk space that became free, in bytes.
func (p *Pruner) Cache(ctx context.Context, limits Limits) (removed []string, freed int64, err error) {
	cache := buildcache.New(p.Store)
	records, err := cache.Records()
	if err != nil {
		return nil, 0, err
	}
	cacheMounts := cachemount.New(p.Store)
	mounts, err := cacheMounts.List()
	if err != nil {
		return nil, 0, err
	}
	inImages := p.imageLayers(ctx)
	w, err := p.Store.Sweep(ctx)
	if err != nil {
		return nil, 0, err
	}
	removed, err = pruneSteps(limits, stepsOf(records), inImages, p.layerSize, func(key digest.Digest) (bool, error) {
		ok, err := w.Take(store.HeldStep, key)
		if err != nil || !ok {
			return false, err
		}
		return true, cache.Remove(key)
	})
	var sourcesFreed, listsFreed, mountsFreed int64
	if err == nil {
		var names []string
		names, mountsFreed, err = pruneMounts(limits, mounts, cacheMounts.Remove)
		removed = append(removed, names...)
	}
	if err == nil && limits.everything() {
		if sourcesFreed, err = sources.RemoveCaches(p.Store); err == nil {
			listsFreed, err = catalog.RemoveAll(p.Store)
		}
	}
	freed, err = p.finish(ctx, w, err)
	return removed, freed + mountsFreed + sourcesFreed + listsFreed, err
}

// Usage adds up what a store takes.
func (p *Pruner) Usage(ctx context.Context) (*Usage, error) {
	images, err := p.Images.Uses(ctx)
	if err != nil {
		return nil, err
	}
	records, err := buildcache.New(p.Store).Records()
	if err != nil {
		return nil, err
	}
	mounts, err := cachemount.New(p.Store).List()
	if err != nil {
		return nil, err
	}
	steps := stepsOf(records)
	return &Usage{
		Images:  imageUsage(images, p.layerSize),
		Cache:   cacheUsage(steps, mounts, p.imageLayers(ctx), p.layerSize),
		Records: records, Mounts: mounts,
		CacheSize: newSizes(steps, p.layerSize).total + mountsSize(mounts),
	}, nil
}

// imageLayers are the layers of the images that can be listed.
func (p *Pruner) imageLayers(ctx context.Context) map[digest.Digest]bool {
	images, _ := p.Images.List(ctx)
	layers := map[digest.Digest]bool{}
	for _, img := range images {
		for _, id := range img.Chain() {
			layers[id] = true
		}
	}
	return layers
}

// layerSize is the size of a layer as Docker counts it, 0 for one that is not in the store.
func (p *Pruner) layerSize(id digest.Digest) int64 {
	n, err := p.Layers.Size(id)
	if err != nil {
		return 0
	}
	return n
}
