package builder

import (
	"context"
	"slices"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/sources"
)

// remoteMetadata finds what a file over http or a ref of a repository is now.
func (f *frontend) remoteMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	want := sources.Wanted{Objects: opt.GitOpt != nil && opt.GitOpt.ReturnObject}
	if opt.HTTPOpt != nil && opt.HTTPOpt.ChecksumReq != nil {
		want.Checksum = checksum(opt.HTTPOpt.ChecksumReq)
	}
	is, err := f.containers.worker.Identify(ctx, op, want)
	if err != nil {
		return nil, err
	}
	if is.Commit != "" {
		return &sourceresolver.MetaResponse{Op: op, Git: &sourceresolver.ResolveGitResponse{
			Checksum: is.Object, CommitChecksum: is.Peeled, Ref: is.Ref, CommitObject: is.Objects.Commit, TagObject: is.Objects.Tag,
		}}, nil
	}
	out := &sourceresolver.ResolveHTTPResponse{Digest: is.Digest, Filename: is.Name, LastModified: is.Modified}
	if want.Checksum != nil {
		out.ChecksumResponse = &sourceresolver.ResolveHTTPChecksumResponse{Digest: is.Checksum.String(), Suffix: want.Checksum.Suffix}
	}
	return &sourceresolver.MetaResponse{Op: op, HTTP: out}, nil
}

// checksum is a checksum that a policy asks for; one of an unknown algorithm has none.
func checksum(req *sourceresolver.ResolveHTTPChecksumRequest) *sources.Checksum {
	algorithms := map[sourceresolver.ResolveHTTPChecksumAlgo]digest.Algorithm{
		sourceresolver.ResolveHTTPChecksumAlgoSHA256: digest.SHA256, sourceresolver.ResolveHTTPChecksumAlgoSHA384: digest.SHA384,
		sourceresolver.ResolveHTTPChecksumAlgoSHA512: digest.SHA512,
	}
	return &sources.Checksum{Algorithm: algorithms[req.Algo], Suffix: slices.Clone(req.Suffix)}
}
