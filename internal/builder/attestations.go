package builder

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"time"

	"github.com/moby/buildkit/frontend/attestations"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/attest"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/solver"
)

// testimony is what a build has to say of itself.
type testimony struct {
	solver  *solver.Solver
	bases   *bases
	args    map[string]string // the front end's options
	wanted  map[string]string // the attributes of provenance, nil for none
	started time.Time
	id      string
}

func newTestimony(s *solver.Solver, bases *bases, args map[string]string, started time.Time) (*testimony, error) {
	all, err := attestations.Parse(args)
	if err != nil {
		return nil, err
	}
	return &testimony{
		solver: s, bases: bases, args: args, wanted: all[attestations.KeyTypeProvenance], started: started, id: rand.Text(),
	}, nil
}

// collect finds what scanners have said of a platform. Provenance comes when the layers are known.
func (y *testimony) collect(ctx context.Context, p *built) error {
	for _, bundle := range p.bundles {
		ref, ok := bundle.Ref.(*resultRef)
		if !ok || bundle.Kind != gwpb.AttestationKind_Bundle {
			continue
		}
		v, err := ref.view(ctx)
		if err != nil {
			return err
		}
		list, err := attest.ReadBundle(ctx, v, bundle.Path, bundle.InToto.PredicateType)
		if err != nil {
			return err
		}
		p.said = append(p.said, list...)
	}
	return nil
}

// any reports whether there is something to say of an image.
func (y *testimony) any(out *answer) bool {
	if y.wanted != nil {
		return true
	}
	for _, p := range out.platforms {
		if len(p.said) > 0 {
			return true
		}
	}
	return false
}

// of is all that is said of an image of one platform.
func (y *testimony) of(ctx context.Context, p *built, img *image.Image) ([]*attest.Attestation, error) {
	if y.wanted == nil {
		return p.said, nil
	}
	said, err := y.provenance(ctx, p, img, y.wanted)
	if err != nil {
		return nil, err
	}
	return append([]*attest.Attestation{said}, p.said...), nil
}

// record is the provenance of each platform, whether the image has it or not: in the form that buildx writes down (SLSA 0.2),
// and with no more than the image has. The only platform is "".
func (y *testimony) record(ctx context.Context, out *answer) (map[string]json.RawMessage, error) {
	attrs := map[string]string{"mode": "min"}
	maps.Copy(attrs, y.wanted)
	attrs["version"] = "v0.2"
	all := map[string]json.RawMessage{}
	for _, p := range out.platforms {
		said, err := y.provenance(ctx, p, nil, attrs)
		if err != nil {
			return nil, err
		}
		id := ""
		if out.several {
			id = p.id
		}
		all[id] = said.Predicate
	}
	return all, nil
}

// provenance says how a platform was built. Where there is an image, its layers are what it has.
func (y *testimony) provenance(ctx context.Context, p *built, img *image.Image, attrs map[string]string) (*attest.Attestation, error) {
	descs := y.bases.layers()
	if img != nil {
		for i, l := range p.result.Chain {
			descs[l.DiffID] = img.Manifest.Layers[i]
		}
	}
	return attest.Provenance(ctx, &attest.Build{
		Definition: p.def, Frontend: "dockerfile.v0", Args: y.args, Images: y.bases.resolved(p.platform),
		Started: y.started, Finished: time.Now().UTC(), ID: y.id,
		Pin: func(op digest.Digest) (attest.Pin, bool) {
			is, ok := y.solver.Pin(op)
			return attest.Pin{Digest: is.Digest, Commit: is.Commit}, ok
		},
		Layers: func(op digest.Digest) map[int][]ocispec.Descriptor { return y.layers(op, descs) },
	}, attrs)
}

// layers are the results of an operation whose layers all have blobs: those of base images, and of the image.
func (y *testimony) layers(op digest.Digest, descs map[digest.Digest]ocispec.Descriptor) map[int][]ocispec.Descriptor {
	found := map[int][]ocispec.Descriptor{}
	for i, out := range y.solver.Outputs(op) {
		var list []ocispec.Descriptor
		for _, id := range out.DiffIDs() {
			if d, ok := descs[id]; ok {
				list = append(list, d)
			}
		}
		if len(list) > 0 && len(list) == len(out.Chain) {
			found[i] = list
		}
	}
	return found
}

// layers are the blobs that base images came with, by the layers that are in them.
func (b *bases) layers() map[digest.Digest]ocispec.Descriptor {
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

// resolved are the base images of a build that are for a platform, by the names that the Dockerfile has.
func (b *bases) resolved(platform ocispec.Platform) []provenancetypes.ImageSource {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []provenancetypes.ImageSource
	for _, found := range b.found {
		if found.img == nil || found.ref == "" {
			continue
		}
		p := found.img.Config.Platform
		if found.wanted != nil && formatted(*found.wanted) != formatted(platform) {
			continue
		}
		list = append(list, provenancetypes.ImageSource{Ref: found.ref, Platform: &p, Digest: found.img.Target.Digest})
	}
	return list
}

// writeAttestations writes what is said of an image beside it, and returns the descriptor for the index.
func (x *exporter) writeAttestations(ctx context.Context, p *built, img *image.Image, artifact bool) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	list, err := x.out.testimony.of(ctx, p, img)
	if err != nil || len(list) == 0 {
		return none, false, err
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
