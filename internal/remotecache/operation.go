package remotecache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dep is the dependency of an operation on an input (BuildKit: solver/types.go, CacheMap).
type dep struct {
	// selector identifies what the operation reads of the input, "" for everything. Links by definition have it.
	selector digest.Digest
	// content is set if the content of selections can identify the input instead.
	content    bool
	selections []selection
}

// operation describes a vertex as BuildKit's cache does.
type operation struct {
	digest  digest.Digest
	deps    []dep
	outputs int
}

// describe describes an operation. Its digest is BuildKit's only if the JSON is the same to the byte.
func describe(op *pb.Op) (*operation, error) {
	switch o := op.Op.(type) {
	case *pb.Op_Exec:
		return describeExec(o.Exec, op.Platform, len(op.Inputs))
	case *pb.Op_File:
		return describeFile(o.File, len(op.Inputs))
	case *pb.Op_Merge:
		return describePlain(struct {
			Type  string
			Merge *pb.MergeOp
		}{"buildkit.merge.v0", o.Merge}, len(op.Inputs), 1)
	case *pb.Op_Diff:
		return describePlain(struct {
			Type string
			Diff *pb.DiffOp
		}{"buildkit.diff.v0", o.Diff}, len(op.Inputs), 1)
	case *pb.Op_Passthrough:
		return describePlain(struct {
			Type        string
			Passthrough *pb.PassthroughOp
		}{"buildkit.passthrough.v0", o.Passthrough}, len(op.Inputs), len(o.Passthrough.Outputs))
	}
	return nil, fmt.Errorf("operation %T has no cache key", op.Op)
}

// describePlain describes an operation that depends on all of its inputs (solver/llbsolver/ops/{merge,diff,passthrough}.go).
func describePlain(doc any, inputs, outputs int) (*operation, error) {
	d, err := jsonDigest(doc)
	if err != nil {
		return nil, err
	}
	return &operation{digest: d, deps: make([]dep, inputs), outputs: outputs}, nil
}

func jsonDigest(doc any) (digest.Digest, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("describe operation: %w", err)
	}
	return digest.FromBytes(data), nil
}

// listDigest returns the digest of a list of strings (util/cachedigest, TypeStringList and TypeDigestList).
func listDigest(list [][]byte) digest.Digest { return digest.FromBytes(bytes.Join(list, []byte{0})) }

// normalPlatform returns the platform of an operation (solver/llbsolver/vertex.go, NormalizeRuntimePlatforms).
func normalPlatform(p *pb.Platform) ocispec.Platform {
	if p == nil {
		return platforms.Normalize(platforms.DefaultSpec())
	}
	return platforms.Normalize(ocispec.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: slices.Clone(p.OSFeatures),
	})
}
