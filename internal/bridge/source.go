package bridge

import (
	"context"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func platformOf(p *pb.Platform) *ocispec.Platform {
	if p == nil {
		return nil
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// ResolveImageConfig finds an image at a registry, in the store or in an OCI layout of the client.
func (b *Bridge) ResolveImageConfig(ctx context.Context, req *gwpb.ResolveImageConfigRequest) (*gwpb.ResolveImageConfigResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := b.keepBytes(req.SizeVT()); err != nil {
		return nil, err
	}
	opt := sourceresolver.Opt{LogName: req.LogName, SourcePolicies: req.SourcePolicies}
	switch sourceresolver.ResolverType(req.ResolverType) {
	case sourceresolver.ResolverTypeRegistry:
		opt.ImageOpt = &sourceresolver.ResolveImageOpt{ResolveMode: req.ResolveMode, Platform: platformOf(req.Platform)}
	case sourceresolver.ResolverTypeOCILayout:
		opt.OCILayoutOpt = &sourceresolver.ResolveOCILayoutOpt{
			Store:    sourceresolver.ResolveImageConfigOptStore{SessionID: req.SessionID, StoreID: req.StoreID},
			Platform: platformOf(req.Platform),
		}
	default:
		return nil, status.Errorf(codes.InvalidArgument, "unknown resolver %d", req.ResolverType)
	}
	ref, dgst, config, err := b.client.ResolveImageConfig(ctx, req.Ref, opt)
	if err != nil {
		return nil, err
	}
	return &gwpb.ResolveImageConfigResponse{Ref: ref, Digest: dgst.String(), Config: config}, nil
}

// ResolveSourceMeta finds what a source of a graph is now.
func (b *Bridge) ResolveSourceMeta(ctx context.Context, req *gwpb.ResolveSourceMetaRequest) (*gwpb.ResolveSourceMetaResponse, error) {
	ctx, done, err := b.call(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := b.keepBytes(req.SizeVT()); err != nil {
		return nil, err
	}
	if req.Source == nil {
		return nil, status.Error(codes.InvalidArgument, "source is required")
	}
	got, err := b.client.ResolveSourceMetadata(ctx, req.Source, MetadataOptions(req))
	if err != nil {
		return nil, err
	}
	return Metadata(got), nil
}

// MetadataOptions are the options of a request for the metadata of a source.
func MetadataOptions(req *gwpb.ResolveSourceMetaRequest) sourceresolver.Opt {
	opt := sourceresolver.Opt{
		LogName: req.LogName, SourcePolicies: req.SourcePolicies,
		ImageOpt:     &sourceresolver.ResolveImageOpt{ResolveMode: req.ResolveMode, Platform: platformOf(req.Platform)},
		OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Platform: platformOf(req.Platform)},
	}
	if req.Image != nil {
		opt.ImageOpt.NoConfig, opt.ImageOpt.AttestationChain = req.Image.NoConfig, req.Image.AttestationChain
		opt.ImageOpt.ResolveAttestations = req.Image.ResolveAttestations
	}
	if req.Git != nil {
		opt.GitOpt = &sourceresolver.ResolveGitOpt{ReturnObject: req.Git.ReturnObject}
	}
	if c := req.GetHTTP().GetChecksumRequest(); c != nil {
		opt.HTTPOpt = &sourceresolver.ResolveHTTPOpt{ChecksumReq: &sourceresolver.ResolveHTTPChecksumRequest{
			Algo: checksumAlgorithm(c.Algo), Suffix: c.Suffix,
		}}
	}
	return opt
}

// checksumAlgorithm is an algorithm of a request; those that are unknown have no valid name.
func checksumAlgorithm(a gwpb.ChecksumRequest_ChecksumAlgo) sourceresolver.ResolveHTTPChecksumAlgo {
	switch a {
	case gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA256:
		return sourceresolver.ResolveHTTPChecksumAlgoSHA256
	case gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA384:
		return sourceresolver.ResolveHTTPChecksumAlgoSHA384
	case gwpb.ChecksumRequest_CHECKSUM_ALGO_SHA512:
		return sourceresolver.ResolveHTTPChecksumAlgoSHA512
	}
	return sourceresolver.ResolveHTTPChecksumAlgo(a)
}

// Metadata is the answer to a request for the metadata of a source.
func Metadata(got *sourceresolver.MetaResponse) *gwpb.ResolveSourceMetaResponse {
	out := &gwpb.ResolveSourceMetaResponse{Source: got.Op}
	if i := got.Image; i != nil {
		out.Image = &gwpb.ResolveSourceImageResponse{Digest: i.Digest.String(), Config: i.Config, AttestationChain: attestationChain(i.AttestationChain)}
	}
	if g := got.Git; g != nil {
		out.Git = &gwpb.ResolveSourceGitResponse{
			Checksum: g.Checksum, Ref: g.Ref, CommitChecksum: g.CommitChecksum, CommitObject: g.CommitObject, TagObject: g.TagObject,
		}
	}
	if h := got.HTTP; h != nil {
		out.HTTP = &gwpb.ResolveSourceHTTPResponse{Checksum: h.Digest.String(), Filename: h.Filename}
		if h.LastModified != nil {
			out.HTTP.LastModified = timestamppb.New(*h.LastModified)
		}
		if c := h.ChecksumResponse; c != nil {
			out.HTTP.ChecksumResponse = &gwpb.ChecksumResponse{Digest: c.Digest, Suffix: c.Suffix}
		}
	}
	return out
}

// attestationChain is the chain of an image's attestations, nil for none.
func attestationChain(c *sourceresolver.AttestationChain) *gwpb.AttestationChain {
	if c == nil {
		return nil
	}
	out := &gwpb.AttestationChain{
		Root: c.Root.String(), ImageManifest: c.ImageManifest.String(), AttestationManifest: c.AttestationManifest.String(), Blobs: map[string]*gwpb.Blob{},
	}
	for _, d := range c.SignatureManifests {
		out.SignatureManifests = append(out.SignatureManifests, d.String())
	}
	for d, blob := range c.Blobs {
		out.Blobs[d.String()] = &gwpb.Blob{Data: blob.Data, Descriptor_: &gwpb.Descriptor{
			MediaType: blob.Descriptor.MediaType, Digest: blob.Descriptor.Digest.String(), Size: blob.Descriptor.Size, Annotations: blob.Descriptor.Annotations,
		}}
	}
	return out
}
