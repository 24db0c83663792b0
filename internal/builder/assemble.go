package builder

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/image"
)

// assemble writes the image's manifest, or an index of the platforms' manifests, into the store, without a name.
func (x *exporter) assemble(ctx context.Context, f buildspec.Form) error {
	attested := x.out.attester.hasAny(x.out)
	notes, err := parseAnnotations(x.out.annotations(f), x.out, attested)
	if err != nil {
		return err
	}
	if attested && f.Compression == "" {
		// Attestations refer to one manifest: a push must not change it.
		f.Compression = compression.Gzip
	}
	var list, attestations []ocispec.Descriptor
	for _, p := range x.out.platforms {
		if p, err = p.withEpoch(f); err != nil {
			return err
		}
		img, err := x.platform(ctx, f, p, notes.manifest(p.platform))
		if err != nil {
			return err
		}
		d := img.Target
		d.Platform, d.Annotations = &p.platform, notes.descriptor(p.platform)
		list = append(list, d)
		if attested {
			d, ok, err := x.writeAttestations(ctx, p, img, f.Artifact)
			if err != nil {
				return err
			}
			if ok {
				attestations = append(attestations, d)
			}
		}
		if x.image == nil || platforms.Default().Match(p.platform) {
			x.image, x.root, x.notes = img, img.Target, d.Annotations
		}
	}
	if !x.out.several && len(attestations) == 0 {
		return nil
	}
	x.notes = notes.root
	x.root, err = x.b.Images.WriteIndex(append(list, attestations...), notes.index, f.DockerTypes)
	return err
}

// platform writes one image.
func (x *exporter) platform(ctx context.Context, f buildspec.Form, p *built, notes map[string]string) (*image.Image, error) {
	chain := slices.Clone(p.result.Chain.Links())
	clamped := f.RewriteTimestamp && p.epoch != nil
	if clamped {
		var err error
		if chain, err = x.clamp(ctx, p); err != nil {
			return nil, err
		}
	}
	config, err := finishConfig(p.config, chain, p.epoch, p.base)
	if err != nil {
		return nil, err
	}
	if x.out.inline != nil {
		if config, err = x.out.inline.Inline(ctx, config, p.result.Key); err != nil {
			return nil, err
		}
	}
	d := image.Draft{Config: config, Annotations: notes, DockerTypes: f.DockerTypes, Absent: len(x.out.elsewhere) > 0}
	if f.Compression != "" || len(x.out.elsewhere) > 0 || clamped {
		if d.Layers, err = x.layerBlobs(ctx, chain, f); err != nil {
			return nil, err
		}
	}
	if clamped && !f.DockerTypes {
		p.noteClamped(d.Layers)
	}
	if f.Compression == compression.Estargz {
		if d.Config, err = setLayers(config, chain); err != nil {
			return nil, err
		}
	}
	return x.b.Images.Assemble(ctx, d)
}

// ofBase returns how many layers are those of the base image.
func (b *built) ofBase() (n int) {
	if b.base == nil {
		return 0
	}
	for _, l := range b.result.Chain.Links() {
		if n >= len(b.base.RootFS.DiffIDs) || b.base.RootFS.DiffIDs[n] != l.DiffID {
			break
		}
		n++
	}
	return n
}

// clamp replaces the layers that were built by ones whose files are not newer than the epoch. Those of the base image stay.
func (x *exporter) clamp(ctx context.Context, p *built) ([]buildcache.Link, error) {
	chain := slices.Clone(p.result.Chain.Links())
	for i := p.ofBase(); i < len(chain); i++ {
		id, err := x.b.Layers.Clamp(ctx, chain[i].DiffID, *p.epoch)
		if err != nil {
			return nil, err
		}
		chain[i].DiffID = id
	}
	return chain, nil
}

// clampedNote is the annotation of a layer whose files are not newer than an epoch (BuildKit, util/converter).
const clampedNote = "buildkit/rewritten-timestamp"

// noteClamped annotates the layers that clamp has looked at.
func (b *built) noteClamped(layers []ocispec.Descriptor) {
	for i := b.ofBase(); i < len(layers); i++ {
		notes := maps.Clone(layers[i].Annotations)
		if notes == nil {
			notes = map[string]string{}
		}
		notes[clampedNote] = strconv.FormatInt(b.epoch.Unix(), 10)
		layers[i].Annotations = notes
	}
}

// layerBlobs returns a blob for each layer. It compresses those that are not compressed, or with ForceCompression all. Estargz
// makes other layers: chain has their DiffIDs then.
func (x *exporter) layerBlobs(ctx context.Context, chain []buildcache.Link, f buildspec.Form) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	bases := x.out.attester.bases.layers()
	for n, link := range chain {
		if at, ok := x.out.elsewhere[link.DiffID]; ok {
			blobs = append(blobs, at.Blob)
			continue
		}
		own := f
		if base, ok := bases[link.DiffID]; ok && !f.ForceCompression {
			own.Compression, own.Level = x.compressionOf(link.DiffID, base.Digest, f)
		}
		d, id, err := x.layerBlob(ctx, link.DiffID, own)
		if err != nil {
			return nil, err
		}
		chain[n].DiffID = id
		blobs = append(blobs, d)
	}
	return blobs, nil
}

// compressionOf is the compression of a layer of a base image: that with which mica has pushed it, if it was not the wanted one. blob is what
// the manifest of the base image has: the plain layer, if mica has built it.
func (x *exporter) compressionOf(id, blob digest.Digest, f buildspec.Form) (compression.Algorithm, int) {
	want, as, level := cmp.Or(f.Compression, compression.Gzip), f.Compression, f.Level
	for _, known := range x.b.Layers.KnownBlobs(id) { // newest first
		a, l, ok := compression.ParseRecipe(known.Recipe)
		switch {
		case !ok || len(known.Repositories) == 0 || blob != id && blob != known.Blob.Digest:
		case a == want:
			return f.Compression, f.Level
		case as == f.Compression:
			as, level = a, l
		}
	}
	return as, level
}

// layerBlob returns a blob of a layer, and the DiffID of what is in it.
func (x *exporter) layerBlob(ctx context.Context, id digest.Digest, f buildspec.Form) (ocispec.Descriptor, digest.Digest, error) {
	l, err := x.b.Layers.Get(id)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	i := slices.IndexFunc(l.Blobs, func(d ocispec.Descriptor) bool { return d.Digest != id })
	switch {
	case i >= 0 && !f.ForceCompression:
		return l.Blobs[i], id, nil
	case f.Compression == compression.None || f.Compression == "": // a push compresses it
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: l.TarSize}, id, nil
	case f.Compression == compression.Estargz:
		e, err := x.b.Layers.Estargz(ctx, id, f.Level)
		if err != nil {
			return ocispec.Descriptor{}, "", err
		}
		return e.Blob, e.DiffID, nil
	}
	d, err := x.b.Layers.Compress(ctx, id, f.Compression, f.Level)
	return d, id, err
}

// annotations are those of an image or index.
type annotations struct {
	index, root map[string]string            // of the index, and of its descriptor
	manifests   map[string]map[string]string // by platform, "" for all
	descriptors map[string]map[string]string
}

// parseAnnotations sorts annotations by the documents that get them. It refuses annotations of an index if there is none: only
// several platforms, or attestations, make one.
func parseAnnotations(all map[string]string, out *response, attested bool) (*annotations, error) {
	a := &annotations{index: map[string]string{}, root: map[string]string{}, manifests: map[string]map[string]string{}, descriptors: map[string]map[string]string{}}
	for k, value := range all {
		key, ok, err := exptypes.ParseAnnotationKey(k)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("invalid annotation %q", k)
		}
		where := ""
		if key.Platform != nil {
			where = platforms.FormatAll(platforms.Normalize(*key.Platform))
			if !slices.ContainsFunc(out.platforms, func(p *built) bool { return formatted(p.platform) == where }) {
				return nil, fmt.Errorf("invalid annotation: no platform %s found in source", where)
			}
		}
		var to map[string]map[string]string
		switch key.Type {
		case exptypes.AnnotationManifest:
			to = a.manifests
		case exptypes.AnnotationManifestDescriptor:
			to = a.descriptors
		default:
			if !out.several && !attested {
				return nil, fmt.Errorf("index annotations not supported for single platform export")
			}
			if key.Type == exptypes.AnnotationIndex {
				a.index[key.Key] = value
			} else {
				a.root[key.Key] = value
			}
			continue
		}
		if to[where] == nil {
			to[where] = map[string]string{}
		}
		to[where][key.Key] = value
	}
	return a, nil
}

func formatted(p ocispec.Platform) string { return platforms.FormatAll(platforms.Normalize(p)) }

func (a *annotations) manifest(p ocispec.Platform) map[string]string { return pick(a.manifests, p) }

func (a *annotations) descriptor(p ocispec.Platform) map[string]string { return pick(a.descriptors, p) }

// pick merges the annotations for all platforms with those for one.
func pick(from map[string]map[string]string, p ocispec.Platform) map[string]string {
	all := map[string]string{}
	for _, where := range []string{"", formatted(p)} {
		for k, v := range from[where] {
			all[k] = v
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// earlier returns the earlier of t and the epoch.
func earlier(t, epoch *time.Time) *time.Time {
	if epoch != nil && (t == nil || t.After(*epoch)) {
		return epoch
	}
	return t
}
