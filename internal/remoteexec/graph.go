package remoteexec

import (
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// graph is the definition of one process on images.
type graph struct {
	def      *pb.Definition
	platform *pb.Platform
	sources  []*pb.Input
	known    map[string]int64 // the inputs, by the identifiers of their images
	exec     digest.Digest    // of the process
}

func newGraph(p ocispec.Platform) *graph {
	platform := pb.PlatformFromSpec(p)
	return &graph{def: &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}, platform: platform, known: map[string]int64{}}
}

// input returns the number of the input that shows an image.
func (g *graph) input(identifier string) (int64, error) {
	if n, ok := g.known[identifier]; ok {
		return n, nil
	}
	d, err := g.add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier}}, Platform: g.platform})
	if err != nil {
		return 0, err
	}
	n := int64(len(g.sources))
	g.sources = append(g.sources, &pb.Input{Digest: d.String()})
	g.known[identifier] = n
	return n, nil
}

// finish adds the process, and makes its root filesystem the result.
func (g *graph) finish(exec *pb.ExecOp, meta *pb.OpMetadata) (err error) {
	g.exec, err = g.add(&pb.Op{Op: &pb.Op_Exec{Exec: exec}, Inputs: g.sources, Platform: g.platform})
	if err != nil {
		return err
	}
	g.def.Metadata[g.exec.String()] = meta.CloneVT()
	_, err = g.add(&pb.Op{Inputs: []*pb.Input{{Digest: g.exec.String()}}})
	return err
}

func (g *graph) add(op *pb.Op) (digest.Digest, error) {
	raw, err := op.MarshalVT()
	if err != nil {
		return "", err
	}
	g.def.Def = append(g.def.Def, raw)
	return digest.FromBytes(raw), nil
}
