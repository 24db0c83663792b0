package builder

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"time"

	"github.com/moby/buildkit/frontend/attestations"
	"github.com/moby/buildkit/solver/llbsolver/compat"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/sbom"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
	"github.com/micabuild/mica/internal/version"
	"github.com/micabuild/mica/internal/view"
)

// attester makes the attestations of a build.
type attester struct {
	solver          *solver.Solver
	worker          *ops.Worker
	bases           *baseImages
	by              *request // the build
	results         map[*pb.Definition]bool
	provenanceAttrs map[string]string // nil for no provenance
	environment     map[string]any    // what the operator says of this builder
	compatibility   int
	started         time.Time
	id              string
}

// newAttester returns one whose worker and images are those of a front end.
func newAttester(f *frontend, o *Options, started time.Time) (*attester, error) {
	all, err := attestations.Parse(f.opts)
	if err != nil {
		return nil, err
	}
	return &attester{
		solver: f.solver, worker: f.containers.worker, bases: f.bases, by: f.by, results: map[*pb.Definition]bool{},
		provenanceAttrs: all[attestations.KeyTypeProvenance],
		environment:     o.ProvenanceEnv, compatibility: cmp.Or(o.Compatibility, compat.CompatibilityVersionCurrent),
		started: started, id: rand.Text(),
	}, nil
}

// hasAny reports whether the images have attestations.
func (a *attester) hasAny(out *response) bool {
	if a.provenanceAttrs != nil {
		return true
	}
	for _, p := range out.platforms {
		if len(p.attestations) > 0 || p.catalog != nil {
			return true
		}
	}
	return false
}

// attestations are those of one platform's image, or of its files if img is nil.
func (a *attester) attestations(ctx context.Context, p *built, img *image.Image) ([]*attest.Attestation, error) {
	var list []*attest.Attestation
	if a.provenanceAttrs != nil {
		statement, err := a.provenance(ctx, p, img, a.provenanceAttrs)
		if err != nil {
			return nil, err
		}
		list = append(list, statement)
	}
	if p.catalog != nil {
		statement, err := a.sbom(p, img)
		if err != nil {
			return nil, err
		}
		list = append(list, statement)
	}
	return append(list, p.attestations...), nil
}

// record is the provenance of each platform, whether the image has it or not, in the form that buildx writes (SLSA 0.2) and with
// no more detail than that of the image.
func (a *attester) record(ctx context.Context, out *response) (map[string]json.RawMessage, error) {
	attrs := map[string]string{"mode": "min"}
	maps.Copy(attrs, a.provenanceAttrs)
	attrs["version"] = "v0.2"
	return a.predicates(ctx, out, attrs)
}

// complete is the provenance of each platform with all that is known, for the history (SLSA 1).
func (a *attester) complete(ctx context.Context, out *response) (map[string]json.RawMessage, error) {
	return a.predicates(ctx, out, map[string]string{"mode": "max", "builder-id": a.provenanceAttrs["builder-id"]})
}

// predicates is the provenance of each platform. A single platform has the key "".
func (a *attester) predicates(ctx context.Context, out *response, attrs map[string]string) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	for _, p := range out.platforms {
		statement, err := a.provenance(ctx, p, nil, attrs)
		if err != nil {
			return nil, err
		}
		id := ""
		if out.several {
			id = p.id
		}
		all[id] = statement.Predicate
	}
	return all, nil
}

// provenance describes how a platform was built. With an image, it has the descriptors of its layers.
func (a *attester) provenance(ctx context.Context, p *built, img *image.Image, attrs map[string]string) (*attest.Attestation, error) {
	descs := a.bases.layers()
	if img != nil {
		for i, l := range p.result.Chain.Links() {
			descs[l.DiffID] = img.Manifest.Layers[i]
		}
	}
	by := cmp.Or(p.by, a.by)
	request, root := by.described()
	return attest.Provenance(ctx, &attest.Build{
		Definition: p.def, Request: request, Root: root, Others: by.others(a.results), Images: a.bases.resolved(p.platform),
		Environment: a.environment, Compatibility: a.compatibility, Started: a.started, Finished: time.Now().UTC(), ID: a.id,
		Pin: pinOf(a.worker), Requested: requestedOf(a.worker),
		Layers: func(op digest.Digest) map[int][]ocispec.Descriptor { return a.layers(op, descs) },
	}, attrs)
}

// layers are the results of an operation for which the blobs of all layers are known: those of base images and of the image.
func (a *attester) layers(op digest.Digest, descs map[digest.Digest]ocispec.Descriptor) map[int][]ocispec.Descriptor {
	found := map[int][]ocispec.Descriptor{}
	for i, out := range a.solver.Outputs(op) {
		if out == nil {
			continue
		}
		var list []ocispec.Descriptor
		for _, id := range out.Chain.DiffIDs() {
			if d, ok := descs[id]; ok {
				list = append(list, d)
			}
		}
		if len(list) > 0 && len(list) == out.Chain.Len() {
			found[i] = list
		}
	}
	return found
}

// layers are the blobs of base images, by DiffID.
func (b *baseImages) layers() map[digest.Digest]ocispec.Descriptor {
	b.mu.Lock()
	defer b.mu.Unlock()
	descs := map[digest.Digest]ocispec.Descriptor{}
	for _, found := range b.found {
		if found.img == nil {
			continue
		}
		for i, id := range found.img.Chain() {
			descs[id] = found.img.Manifest.Layers[i]
		}
	}
	return descs
}

// resolved are the base images for a platform, by their names in the Dockerfile.
func (b *baseImages) resolved(platform ocispec.Platform) []provenancetypes.ImageSource {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []provenancetypes.ImageSource
	for _, found := range b.found {
		if found.img == nil || found.ref == "" {
			continue
		}
		p := found.img.Config.Platform
		if found.wanted != nil {
			if p = *found.wanted; formatted(p) != formatted(platform) {
				continue
			}
		}
		list = append(list, provenancetypes.ImageSource{Ref: found.ref, Platform: &p, Digest: found.img.Target.Digest})
	}
	return list
}

// writeAttestations writes the attestations of an image, and returns their descriptor for the index.
func (x *exporter) writeAttestations(ctx context.Context, p *built, img *image.Image, artifact bool) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	list, err := x.out.attester.attestations(ctx, p, img)
	if err != nil || len(list) == 0 {
		return none, false, err
	}
	for i, a := range list {
		if list[i], err = x.supplement(ctx, p, img, a); err != nil {
			return none, false, err
		}
	}
	subjects, err := attest.Subjects(x.names, p.platform, img.Target.Digest)
	if err != nil {
		return none, false, err
	}
	m, err := attest.NewManifest(img.Target, list, subjects, artifact)
	if err != nil {
		return none, false, err
	}
	for _, data := range m.Blobs {
		if _, err := x.b.Store.WriteBlob(data); err != nil {
			return none, false, err
		}
	}
	return m.Descriptor, true, nil
}

// supplement is a list of the packages of an image with the layers of its files.
func (x *exporter) supplement(ctx context.Context, p *built, img *image.Image, a *attest.Attestation) (*attest.Attestation, error) {
	if !a.Core || a.PredicateType != sbom.PredicateSPDX {
		return a, nil
	}
	var layers map[string]digest.Digest // of the files; made when a file is asked for
	with := *a
	err := with.Supplement("mica-"+version.String(), func(name string) (digest.Digest, error) {
		if layers == nil {
			layers = map[string]digest.Digest{}
			for i, l := range p.result.Chain.Links() {
				t, err := x.b.Layers.TOC(ctx, l.DiffID)
				if err != nil {
					return "", err
				}
				for _, e := range t.Entries {
					if e.Type != view.TypeWhiteout {
						layers[e.Path] = img.Manifest.Layers[i].Digest
					}
				}
			}
		}
		return layers[name], nil
	})
	return &with, err
}
