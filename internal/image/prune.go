package image

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Prune removes the images without a name, or with all every image, that the filter lets through. What runs stays, and what
// a process holds: it may be about to name it.
func (s *Images) Prune(ctx context.Context, all bool, f *Filter) ([]Removed, error) {
	images, _ := s.List(ctx)
	var lines []Removed
	for _, img := range images {
		if _, ok := f.Match(img); !ok || (!all && len(img.Names) > 0) {
			continue
		}
		removed, err := s.prune(ctx, img.ID, all)
		if err != nil {
			return lines, err
		}
		lines = append(lines, removed...)
	}
	return lines, nil
}

// prune removes one image, unless it has come into use since it was listed.
func (s *Images) prune(ctx context.Context, id digest.Digest, all bool) ([]Removed, error) {
	removed, err := s.remove(ctx, id.String(), true, func(r *removal) (bool, error) {
		tagged := slices.ContainsFunc(r.names, func(n store.Name) bool { return !isDigestName(n.Ref) })
		if tagged && !all {
			return false, nil
		}
		held, err := s.isHeld(r)
		return !held, err
	})
	var conflict *ConflictError
	if errors.As(err, &conflict) || isNotFound(err) {
		return nil, nil
	}
	return removed, err
}

// isHeld reports whether a process holds the image by its manifest or by an index that has it.
func (s *Images) isHeld(r *removal) (bool, error) {
	targets := []digest.Digest{r.manifest}
	for _, n := range r.names {
		if !slices.Contains(targets, n.Target.Digest) {
			targets = append(targets, n.Target.Digest)
		}
	}
	for _, d := range targets {
		if held, err := s.store.IsHeld(store.HeldBlob, d); held || err != nil {
			return held, err
		}
	}
	return false, nil
}

// Usage is what images take, for `docker system df`.
type Usage struct {
	Total, Active int
	Size          int64 // bytes; a layer that several images share counts once
	Reclaimable   int64 // bytes that go when the images that do not run go
}

// DiskUsage adds up the images. An image is active while it runs.
func (s *Images) DiskUsage(ctx context.Context) (*Usage, error) {
	images, _, err := s.list(ctx)
	if images == nil && err != nil {
		return nil, err
	}
	u := &Usage{Total: len(images)}
	size, active := map[digest.Digest]int64{}, map[digest.Digest]bool{}
	for _, img := range images {
		used, err := s.inUse(img)
		if err != nil {
			return nil, err
		}
		if used {
			u.Active++
		}
		for _, id := range img.Chain() {
			l, err := s.layers.Get(id)
			if err != nil {
				return nil, err
			}
			size[id] = l.Size
			active[id] = active[id] || used
		}
	}
	for id, n := range size {
		u.Size += n
		if !active[id] {
			u.Reclaimable += n
		}
	}
	return u, nil
}

func (s *Images) inUse(img *Image) (bool, error) {
	l, free, err := s.store.TryLock(usedLock(img.ID))
	if err != nil {
		return false, err
	}
	if !free {
		return true, nil
	}
	return false, l.Unlock()
}
