package builder

import (
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// offline reports whether the user gives the steps of the build no network.
func (f *frontend) offline() bool { return f.images != nil && f.images.offline() }

// withoutNetwork takes the network from the processes of a graph if the user gives them none: only the compiler of Dockerfiles knows that
// option. A process of the user's own front end keeps the host's network, which the user grants apart.
func (f *frontend) withoutNetwork(def *pb.Definition) (*pb.Definition, error) {
	if !f.offline() {
		return def, nil
	}
	found := map[string]bool{}
	for _, data := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(data); err != nil {
			return nil, fmt.Errorf("invalid definition: %w", err)
		}
		exec := op.GetExec()
		if exec == nil || exec.Network == pb.NetMode_NONE || exec.Network == pb.NetMode_HOST && !f.untrusted {
			continue
		}
		found[digest.FromBytes(data).String()] = true
	}
	if len(found) == 0 {
		return def, nil
	}
	return rewrite(def, func(d string, op *pb.Op) {
		if found[d] {
			op.GetExec().Network = pb.NetMode_NONE
		}
	})
}
