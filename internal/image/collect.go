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

// object is a blob or a layer.
type object struct {
	kind   store.Kind
	digest digest.Digest
}

func blobObject(d digest.Digest) object   { return object{store.HeldBlob, d} }
func layerObject(id digest.Digest) object { return object{store.HeldLayer, id} }

// marks is a set of needed objects.
type marks map[object]bool

// Collect discards every blob and layer that no image needs, no process holds, and keep does not return. keep returns the
// DiffIDs of the build cache at the moment. If the manifest of an image cannot be read, Collect fails: it would discard the
// parts of that image that are not damaged.
func (s *Images) Collect(ctx context.Context, w *store.Sweep, keep func() ([]digest.Digest, error)) error {
	needed, err := s.needed(keep)
	if err != nil {
		return err
	}
	taken, held, err := s.take(ctx, w, needed)
	if err != nil || len(taken) == 0 {
		return err
	}
	// Before an object was taken, a process may have held it and given it a name.
	if needed, err = s.needed(keep); err != nil {
		return err
	}
	s.markHeld(held, needed)
	for _, o := range taken {
		switch {
		case needed[o]:
		case o.kind == store.HeldLayer:
			err = s.layers.Discard(w, o.digest)
		default:
			err = w.DiscardBlob(o.digest)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// take takes the objects that are not needed. Those that a process holds are returned apart.
func (s *Images) take(ctx context.Context, w *store.Sweep, needed marks) (taken, held []object, err error) {
	all, err := s.objects()
	if err != nil {
		return nil, nil, err
	}
	for _, o := range all {
		if needed[o] {
			continue
		}
		ok, err := w.Take(o.kind, o.digest)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, nil, err
		}
		if ok {
			taken = append(taken, o)
		} else {
			held = append(held, o)
		}
	}
	return taken, held, nil
}

// objects returns all blobs and layers of the store.
func (s *Images) objects() ([]object, error) {
	ids, err := s.layers.All()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, id := range ids {
		all = append(all, layerObject(id))
	}
	for b, err := range s.store.Blobs() {
		if err != nil {
			return nil, err
		}
		all = append(all, blobObject(b.Digest))
	}
	return all, nil
}

// needed returns the objects that images, names and keep need.
func (s *Images) needed(keep func() ([]digest.Digest, error)) (marks, error) {
	kept, err := keep()
	if err != nil {
		return nil, err
	}
	records, err := s.store.Records().List()
	if err != nil {
		return nil, fmt.Errorf("nothing was pruned: %w; remove the image first", err)
	}
	names, err := s.store.Names().List()
	if err != nil {
		return nil, fmt.Errorf("nothing was pruned: %w; remove the image first", err)
	}
	needed := marks{}
	for _, n := range append(records, names...) {
		if err := s.mark(n.Target, needed); err != nil {
			return nil, fmt.Errorf("nothing was pruned: image %s: %w; remove the image first", n.Ref, err)
		}
	}
	for _, id := range kept {
		needed[layerObject(id)] = true
	}
	return needed, s.markBlobs(needed)
}

// markBlobs adds the blobs of the layers.
func (s *Images) markBlobs(needed marks) error {
	for o := range needed {
		if o.kind != store.HeldLayer {
			continue
		}
		blobs, err := s.layers.Blobs(o.digest)
		if err != nil {
			return err
		}
		for _, b := range blobs {
			needed[blobObject(b.Digest)] = true
		}
	}
	return nil
}

// markHeld adds the held objects and, if they are manifests or indexes, the objects that these need. Missing ones are ignored.
func (s *Images) markHeld(held []object, needed marks) {
	for _, o := range held {
		needed[o] = true
	}
	for _, o := range held {
		if o.kind != store.HeldBlob || !s.startsAsJSON(o.digest) {
			continue
		}
		raw, err := s.store.ReadBlob(o.digest)
		if err != nil {
			continue
		}
		var m struct{ Config, Manifests json.RawMessage }
		_ = json.Unmarshal(raw, &m)
		switch {
		case m.Manifests != nil:
			_ = s.markIndex(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: o.digest}, needed)
		case m.Config != nil:
			_ = s.markManifest(ocispec.Descriptor{Digest: o.digest}, needed)
		}
	}
	_ = s.markBlobs(needed)
}

func (s *Images) startsAsJSON(d digest.Digest) bool {
	f, err := s.store.OpenBlob(d)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var first [1]byte
	_, err = f.Read(first[:])
	return err == nil && first[0] == '{'
}

// mark adds a manifest or index and the objects that it needs. The store has only some of an index's platforms.
func (s *Images) mark(target ocispec.Descriptor, needed marks) error {
	if needed[blobObject(target.Digest)] {
		return nil
	}
	needed[blobObject(target.Digest)] = true
	switch {
	case oci.IsManifest(target.MediaType) || target.MediaType == "":
		return s.markManifest(target, needed)
	case oci.IsIndex(target.MediaType):
		return s.markIndex(target, needed)
	}
	return nil // anything else in an index is an opaque blob
}

func (s *Images) markIndex(target ocispec.Descriptor, needed marks) error {
	index, err := s.Index(target)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if _, err := s.store.StatBlob(d.Digest); err != nil {
			continue
		}
		// A killed prune may have left only the manifest of an image for another platform. It is useless.
		if err := s.mark(d, needed); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// markManifest adds the blobs of a manifest and, if it is an image, the layers of its config.
func (s *Images) markManifest(target ocispec.Descriptor, needed marks) error {
	raw, err := s.store.ReadBlob(target.Digest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", target.Digest, err)
	}
	needed[blobObject(m.Config.Digest)] = true
	for _, l := range m.Layers {
		needed[blobObject(l.Digest)] = true
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
		needed[layerObject(id)] = true
	}
	return nil
}
