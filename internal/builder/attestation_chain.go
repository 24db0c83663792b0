package builder

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/transfer"
)

// wantsChain reports whether a front end or a policy asks for the attestations of an image.
func wantsChain(opt *sourceresolver.ResolveImageOpt) bool {
	return opt != nil && (opt.AttestationChain || len(opt.ResolveAttestations) > 0)
}

// attestationChain reads the attestations of an image at its registry, without the image.
func (b *baseImages) attestationChain(
	ctx context.Context, ref string, opt *sourceresolver.ResolveImageOpt,
) (root digest.Digest, chain *sourceresolver.AttestationChain, err error) {
	name, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", nil, err
	}
	found, err := b.look(ctx, reference.TagNameOnly(name))
	if err != nil {
		return "", nil, fmt.Errorf("failed to resolve attestations of %s: %w", ref, err)
	}
	got, err := found.AttestationChain(ctx, opt.Platform, opt.ResolveAttestations)
	if err != nil {
		return "", nil, fmt.Errorf("failed to resolve attestations of %s: %w", ref, err)
	}
	return found.Root.Digest, resolved(found.Root.Digest, got), nil
}

// resolved is a chain as front ends get it, nil for none.
func resolved(root digest.Digest, chain *transfer.AttestationChain) *sourceresolver.AttestationChain {
	if chain == nil {
		return nil
	}
	out := &sourceresolver.AttestationChain{
		Root: root, ImageManifest: chain.Image, AttestationManifest: chain.Attestation, Blobs: map[digest.Digest]sourceresolver.Blob{},
	}
	if chain.Signature != "" {
		out.SignatureManifests = []digest.Digest{chain.Signature}
	}
	for d, blob := range chain.Blobs {
		out.Blobs[d] = sourceresolver.Blob{Descriptor: blob.Descriptor, Data: blob.Data}
	}
	return out
}
