package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/store"
)

// Prune removes the images without a name, or with all every image, that the filter lets through. What runs stays.
func (s *Images) Prune(ctx context.Context, all bool, f *Filter) ([]Removed, error) {
	images, _ := s.List(ctx)
	var lines []Removed
	for _, img := range images {
		if _, ok := f.Match(img); !ok || (!all && len(img.Names) > 0) {
			continue
		}
		removed, err := s.Remove(ctx, img.ID.String(), true)
		var conflict *ConflictError
		if errors.As(err, &conflict) || isNotFound(err) {
			continue
		}
		if err != nil {
			return lines, err
		}
		lines = append(lines, removed...)
	}
	return lines, nil
}

// Collect removes every blob and layer that neither an image needs nor keep names (what the build cache holds, by
// DiffID), and what dead processes left. It returns the bytes freed. The caller holds the store's Sweep lock.
// An image whose manifest cannot be read stops it: what is whole of that image would be lost.
func (s *Images) Collect(ctx context.Context, keep []digest.Digest) (int64, error) {
	blobs, layers, err := s.reachable(keep)
	if err != nil {
		return 0, fmt.Errorf("nothing was pruned: %w; remove the image first", err)
	}
	freed, err := s.layers.Keep(layers)
	if err != nil {
		return freed, err
	}
	for b, err := range s.store.Blobs() {
		if err != nil {
			return freed, err
		}
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		if !blobs[b.Digest] {
			if err := s.store.RemoveBlob(b.Digest); err != nil {
				return freed, err
			}
			freed += b.Size
		}
	}
	stale, err := s.store.RemoveStaleTemp()
	return freed + stale, err
}

// reachable returns the blobs and layers that are needed.
func (s *Images) reachable(keep []digest.Digest) (blobs, layers map[digest.Digest]bool, err error) {
	blobs, layers = map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, id := range keep {
		layers[id] = true
	}
	records, err := s.store.Records().List()
	if err != nil {
		return nil, nil, err
	}
	names, err := s.store.Names().List()
	if err != nil {
		return nil, nil, err
	}
	for _, n := range append(records, names...) {
		if err := s.mark(n.Target, blobs, layers); err != nil {
			return nil, nil, fmt.Errorf("image %s: %w", n.Ref, err)
		}
	}
	for id := range layers {
		l, err := s.layers.Get(id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, p := range l.Blobs {
			blobs[p.Digest] = true
		}
	}
	return blobs, layers, nil
}

// mark adds what a manifest or index needs to the blobs and layers that are kept. What an index has that was not asked for
// is not in the store.
func (s *Images) mark(target ocispec.Descriptor, blobs, layers map[digest.Digest]bool) error {
	if blobs[target.Digest] {
		return nil
	}
	blobs[target.Digest] = true
	if oci.IsManifest(target.MediaType) || target.MediaType == "" {
		return s.markManifest(target, blobs, layers)
	}
	if !oci.IsIndex(target.MediaType) {
		return nil // what an index lists beside manifests is kept as it is
	}
	index, err := s.Index(target)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if _, err := s.store.StatBlob(d.Digest); err != nil {
			continue
		}
		if err := s.mark(d, blobs, layers); err != nil {
			return err
		}
	}
	return nil
}

// markManifest marks what a manifest names. Its config is an image's unless it says otherwise, as attestations do.
func (s *Images) markManifest(target ocispec.Descriptor, blobs, layers map[digest.Digest]bool) error {
	raw, err := s.store.ReadBlob(target.Digest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", target.Digest, err)
	}
	blobs[m.Config.Digest] = true
	for _, l := range m.Layers {
		blobs[l.Digest] = true
	}
	if !oci.IsImageConfig(m.Config.MediaType) {
		return nil
	}
	rawConfig, err := s.store.ReadBlob(m.Config.Digest)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	config, err := parseConfig(rawConfig)
	if err != nil {
		return err
	}
	for _, id := range config.RootFS.DiffIDs {
		layers[id] = true
	}
	return nil
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
