package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
)

// until ends a build at a place in the Dockerfile. The compiler gets the Dockerfile up to that place, with a RUN as its last step, which is
// prepared and not run: its process has the environment, user, directory and mounts of that place.
type until struct {
	place  string // a line, or the name of a stage
	worker *ops.Worker

	text  []byte // of the whole Dockerfile
	part  []byte // of it that is built
	err   error  // of the place
	state *ops.State
}

// cut returns the part of a Dockerfile that is built.
func (u *until) cut(name string, text []byte) ([]byte, error) {
	if u == nil || strings.HasSuffix(name, ".dockerignore") {
		return text, nil
	}
	part, err := dockerfile.Before(text, u.place)
	u.text, u.part, u.err = text, part, err
	return part, err
}

// ends reports whether the result of a graph is that of the last step. The other graphs of the compiler are directories of the host.
func (u *until) ends(def *pb.Definition) bool {
	if u == nil {
		return false
	}
	last := &pb.Op{}
	if last.UnmarshalVT(def.Def[len(def.Def)-1]) != nil || len(last.Inputs) != 1 {
		return false
	}
	for _, raw := range def.Def {
		op := &pb.Op{}
		if digest.FromBytes(raw).String() == last.Inputs[0].Digest && op.UnmarshalVT(raw) == nil {
			return op.GetExec() != nil
		}
	}
	return false
}

// reach prepares the last step.
func (u *until) reach(ctx context.Context, s *solver.Solver, def *pb.Definition) error {
	return s.SolveInputs(ctx, def, func(ctx context.Context, t *solver.Task) (err error) {
		u.state, err = u.worker.Before(ctx, t)
		return err
	})
}

// restore gives the places of an error the Dockerfile that the user knows.
func (u *until) restore(err error) {
	var src *errdefs.SourceError
	for u != nil && errors.As(err, &src) {
		if src.Info != nil && bytes.Equal(src.Info.Data, u.part) {
			src.Info.Data = u.text
		}
		err = src.Unwrap()
	}
}

// newUntil returns nil for a build of the whole Dockerfile.
func (o *Options) newUntil(w *ops.Worker) *until {
	if o.At == "" {
		return nil
	}
	return &until{place: o.At, worker: w}
}

// trimmed are the options of a build that ends at a place: of one platform, without results.
func (o *Options) trimmed() *Options {
	t := *o
	t.Target, t.Attests, t.CacheTo = "", nil, nil
	if len(o.Platforms) > 0 {
		t.Platforms = []ocispec.Platform{o.Platforms[0]}
		for _, p := range o.Platforms {
			if platforms.Default().Match(p) {
				t.Platforms[0] = p
			}
		}
	}
	return &t
}

// inspect gives the state at the place to Inspect.
func (b *Builder) inspect(ctx context.Context, o *Options, u *until) (*Result, error) {
	if u.state == nil {
		return nil, fmt.Errorf("%s cannot be reached", o.At)
	}
	return &Result{}, o.Inspect(ctx, b.container(u.state))
}
