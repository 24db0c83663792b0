package builder

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
)

// allow asks the policy of the build about an operation.
func (f *frontend) allow(ctx context.Context, op *pb.Op) error {
	if f.policy == nil || op.GetSource() == nil {
		return nil
	}
	return f.policy(ctx, op)
}

// allowAll asks about the sources of a graph, before any of it runs.
func (f *frontend) allowAll(ctx context.Context, def *pb.Definition) error {
	if f.policy == nil {
		return nil
	}
	for _, data := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			return fmt.Errorf("invalid definition: %w", err)
		}
		if err := f.allow(ctx, &op); err != nil {
			return err
		}
	}
	return nil
}
