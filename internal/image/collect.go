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

// marks are the objects that are needed.
type marks map[object]bool

// Collect discards every blob and layer that neither an image needs nor a process holds, nor keep returns: what the build
// cache has, by DiffID, at the moment. An image whose manifest cannot be read stops it: what is whole of that image would be
// lost.
func (s *Images) Collect(ctx context.Context, w *store.Sweep, keep func() ([]digest.Digest, error)) error {
	needed, err := s.needed(keep)
	if err != nil {
		return err
	}
	taken, held, err := s.take(ctx, w, needed)
	if err != nil || len(taken) == 0 {
		return err
	}
	// Of what is taken now, some may have been held before, and named then.
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

// take takes what is not needed, and tells it from what is held.
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

// objects are all that the store has.
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

// needed marks what images and names need, and what keep returns.
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

// markBlobs adds the blobs that hold the layers.
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

// markHeld adds what is held, and what of that manifests and indexes need: as far as that is there.
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

// mark adds what a manifest or index needs to what is kept. What an index has that was not asked for is not in the store.
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
	return nil // what an index lists beside manifests is kept as it is
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
		// Of an image for another platform, a prune that was killed may have left the manifest alone. Nobody can use that.
		if err := s.mark(d, needed); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// markManifest marks what a manifest names. Its config is an image's unless it says otherwise, as attestations do.
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
