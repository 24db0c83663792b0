package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
)

// StepError is the error of a step that failed, with the filesystems in which a front end can look for the reason.
type StepError struct {
	err error
	// Inputs and Mounts are those of [ops.StepError].
	Inputs, Mounts []client.Reference
	subject        errdefs.IsSolve_Subject
}

func (e *StepError) Error() string { return e.err.Error() }
func (e *StepError) Unwrap() error { return e.err }

// References are Inputs and Mounts.
func (e *StepError) References() (inputs, mounts []client.Reference) { return e.Inputs, e.Mounts }

// Subject is the part of the operation that has failed, nil for the whole.
func (e *StepError) Subject() errdefs.IsSolve_Subject { return e.subject }

// withMounts adds the filesystems of a failed step to its error.
func (f *frontend) withMounts(err error) error {
	var failed *ops.StepError
	if !errors.As(err, &failed) {
		return err
	}
	step := &StepError{
		err: err, Inputs: make([]client.Reference, len(failed.Inputs)), Mounts: make([]client.Reference, len(failed.Mounts)), subject: failed.Subject,
	}
	for i, in := range failed.Inputs {
		if in != nil {
			step.Inputs[i] = &mountRef{f.solver, func(context.Context) (*solver.Result, error) { return in, nil }}
		}
	}
	for i, find := range failed.Mounts {
		if find == nil {
			continue
		}
		step.Mounts[i] = &mountRef{f.solver, func(ctx context.Context) (*solver.Result, error) {
			after, err := find(ctx)
			if err == nil && after == nil {
				after = &solver.Result{}
			}
			return after, err
		}}
	}
	return step
}

// mountRef is what a mount of a failed step shows. It is found out when it is needed.
type mountRef struct {
	solver *solver.Solver
	find   func(context.Context) (*solver.Result, error)
}

var _ client.Reference = (*mountRef)(nil)

func (r *mountRef) ref(ctx context.Context) (*resultRef, error) {
	res, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	return &resultRef{solver: r.solver, result: res}, nil
}

// ToState fails: no graph gives what a failed step leaves.
func (r *mountRef) ToState() (llb.State, error) {
	return llb.State{}, fmt.Errorf("a mount of a failed step has no definition")
}

// Definition is nil: see ToState.
func (r *mountRef) Definition() *pb.Definition { return nil }

// Evaluate makes a layer of what the step has written.
func (r *mountRef) Evaluate(ctx context.Context) error {
	_, err := r.find(ctx)
	return err
}

// ReadFile reads a file.
func (r *mountRef) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	ref, err := r.ref(ctx)
	if err != nil {
		return nil, err
	}
	return ref.ReadFile(ctx, req)
}

// StatFile describes a file.
func (r *mountRef) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	ref, err := r.ref(ctx)
	if err != nil {
		return nil, err
	}
	return ref.StatFile(ctx, req)
}

// ReadDir lists a directory.
func (r *mountRef) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	ref, err := r.ref(ctx)
	if err != nil {
		return nil, err
	}
	return ref.ReadDir(ctx, req)
}
