package image

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Prune removes the images without a name, or all images if all is set, that match the filter. It keeps images that run, and
// images that a process holds: the process may be about to name them.
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

// prune removes an image, unless it is in use.
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

// isHeld reports whether a process holds the image's manifest or an index that lists it.
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

// Use has the layers of an image, for the use of disk.
type Use struct {
	Layers  []digest.Digest
	Running bool // a container runs it
}

// Uses returns the uses of all images, including those for other platforms.
func (s *Images) Uses(ctx context.Context) ([]Use, error) {
	images, _, err := s.list(ctx)
	if images == nil && err != nil {
		return nil, err
	}
	uses := make([]Use, len(images))
	for i, img := range images {
		running, err := s.InUse(img)
		if err != nil {
			return nil, err
		}
		uses[i] = Use{img.Chain(), running}
	}
	return uses, nil
}

// InUse reports whether a container runs an image.
func (s *Images) InUse(img *Image) (bool, error) {
	l, free, err := s.store.TryLock(usedLock(img.ID))
	if err != nil {
		return false, err
	}
	if !free {
		return true, nil
	}
	return false, l.Unlock()
}
