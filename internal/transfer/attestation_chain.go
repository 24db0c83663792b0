package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/registry"
)

// The artifact types of signatures of attestations, the one that is preferred first.
const (
	sigstoreBundle  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	cosignSignature = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

const (
	referenceDigest   = "vnd.docker.reference.digest"
	predicateType     = "in-toto.io/predicate-type"
	maxAttestations   = 8 << 20 // bytes of a chain
	maxSignatureParts = 16
)

// AttestationChain is what proves where an image of an index comes from: the index, the manifest of its attestations, and a signature of that.
type AttestationChain struct {
	Image       digest.Digest
	Attestation digest.Digest // "" for an image without attestations
	Signature   digest.Digest // "" for attestations that nobody has signed
	// Blobs are the documents and what they have. The manifest of the image is not among them.
	Blobs map[digest.Digest]AttestationBlob
}

// AttestationBlob is a part of a chain.
type AttestationBlob struct {
	Descriptor ocispec.Descriptor
	Data       []byte
}

// AttestationChain reads the chain of the image for a platform, nil for this host's, with the statements of some predicate types. It is nil for
// a manifest that is in no index.
func (r *Published) AttestationChain(ctx context.Context, want *ocispec.Platform, predicates []string) (*AttestationChain, error) {
	if !oci.IsIndex(r.Root.MediaType) {
		return nil, nil //nolint:nilnil // see above
	}
	index, err := oci.ParseIndex(r.Root, r.Raw)
	if err != nil {
		return nil, err
	}
	image, err := oci.Find(ctx, r.Root, r.read, want)
	if err != nil {
		return nil, err
	}
	b := &chainBuilder{r: r, chain: &AttestationChain{Image: image.Digest, Blobs: map[digest.Digest]AttestationBlob{}}}
	if err := b.add(r.Root, r.Raw); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return oci.IsAttestation(d) && d.Annotations[referenceDigest] == image.Digest.String()
	})
	if at < 0 {
		return b.chain, nil
	}
	if err := b.attestation(ctx, index.Manifests[at], predicates); err != nil {
		return nil, registry.Explain(reference.FamiliarString(r.Name), err)
	}
	return b.chain, nil
}

type chainBuilder struct {
	r     *Published
	chain *AttestationChain
	bytes int64
}

func (b *chainBuilder) add(d ocispec.Descriptor, data []byte) error {
	if b.bytes += int64(len(data)); b.bytes > maxAttestations {
		return fmt.Errorf("the attestations of %s have more than %d bytes", b.r.Name, maxAttestations)
	}
	b.chain.Blobs[d.Digest] = AttestationBlob{d, data}
	return nil
}

func (b *chainBuilder) attestation(ctx context.Context, d ocispec.Descriptor, predicates []string) error {
	b.chain.Attestation = d.Digest
	m, err := b.manifest(ctx, d)
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		if slices.Contains(predicates, l.Annotations[predicateType]) {
			if err := b.blob(ctx, l); err != nil {
				return err
			}
		}
	}
	list, err := b.r.repo.Referrers(ctx, d)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool {
		return d.ArtifactType != sigstoreBundle && d.ArtifactType != cosignSignature
	})
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int {
		return cmp.Compare(preference(a), preference(b))
	})
	return b.signature(ctx, list[0])
}

// preference orders signatures.
func preference(d ocispec.Descriptor) int {
	return slices.Index([]string{sigstoreBundle, cosignSignature}, d.ArtifactType)
}

func (b *chainBuilder) signature(ctx context.Context, d ocispec.Descriptor) error {
	b.chain.Signature = d.Digest
	m, err := b.manifest(ctx, d)
	if err != nil {
		return err
	}
	if len(m.Layers) > maxSignatureParts {
		return fmt.Errorf("signature %s has %d parts, the limit is %d", d.Digest, len(m.Layers), maxSignatureParts)
	}
	for _, l := range m.Layers {
		if err := b.blob(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (b *chainBuilder) manifest(ctx context.Context, d ocispec.Descriptor) (*ocispec.Manifest, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return nil, err
	}
	got, err := b.r.repo.FetchManifest(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	if err := b.add(d, got.Raw); err != nil {
		return nil, err
	}
	m := &ocispec.Manifest{}
	if err := json.Unmarshal(got.Raw, m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return m, nil
}

func (b *chainBuilder) blob(ctx context.Context, d ocispec.Descriptor) error {
	if _, ok := b.chain.Blobs[d.Digest]; ok {
		return nil
	}
	if d.Size > maxAttestations-b.bytes {
		return fmt.Errorf("the attestations of %s have more than %d bytes", b.r.Name, maxAttestations)
	}
	data, err := b.r.repo.ReadBlob(ctx, d)
	if err != nil {
		return err
	}
	return b.add(d, data)
}
