package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/solver"
)

// Elsewhere runs processes in place of this host.
type Elsewhere interface {
	// Run runs a process and returns the layers of its root filesystem afterwards, bottom first: those that it began with, and what it has
	// written. The error of a process that fails has a gwpb.ExitError.
	Run(ctx context.Context, p *RemoteProcess) ([]buildcache.Link, error)
}

// RemoteProcess is the process of an exec operation that runs elsewhere.
type RemoteProcess struct {
	Op       *pb.ExecOp
	Platform *pb.Platform // nil for that of this host
	Meta     *pb.OpMetadata
	// Chains are what the mounts of Op show, by their indexes; empty for a mount that has no input.
	Chains []buildcache.Chain

	Secret         func(ctx context.Context, id string) ([]byte, error)
	SSH            func(ctx context.Context, id string) func(net.Conn)
	Stdout, Stderr io.Writer
}

// RemoteError is the error of a process that ran elsewhere.
type RemoteError struct{ Err error }

func (e *RemoteError) Error() string { return e.Err.Error() }
func (e *RemoteError) Unwrap() error { return e.Err }

// runElsewhere runs the process elsewhere.
func (o *execOp) runElsewhere(ctx context.Context) ([]*solver.Result, error) {
	root, err := o.onlyOutput()
	if err != nil {
		return nil, err
	}
	stdout, stderr := o.clipped(o.t.Output(1)), o.clipped(o.t.Output(2))
	defer stdout.flush()
	defer stderr.flush()
	p := &RemoteProcess{
		Op: o.op, Platform: o.t.Vertex.Op.Platform, Meta: o.t.Vertex.Meta, Chains: make([]buildcache.Chain, len(o.op.Mounts)),
		Secret: o.secret, SSH: o.agent, Stdout: stdout, Stderr: stderr,
	}
	for i, m := range o.op.Mounts {
		in := o.input(m)
		if in == nil {
			continue
		}
		if in, err = o.w.asLayers(ctx, in, m.Selector); err != nil {
			return nil, o.explain(ctx, err, nil)
		}
		p.Chains[i] = in.Chain
	}
	links, err := o.w.Elsewhere.Run(ctx, p)
	if err != nil {
		var exit *gwpb.ExitError
		switch {
		case ctx.Err() != nil:
			err = context.Canceled
		case errors.As(err, &exit):
			err = o.failure(ctx, &ociruntime.ExitError{Code: int(exit.ExitCode)})
		}
		return nil, &RemoteError{err}
	}
	below := p.Chains[root]
	if below.Len() > 0 && !below.IsBeneath(links) || len(links) < below.Len() {
		return nil, errors.New("the result from elsewhere is not built on the layers of the step")
	}
	made := links[below.Len():]
	for i := range made {
		made[i].Description = o.t.Vertex.Name
	}
	return []*solver.Result{{Chain: below.On(made...)}}, nil
}

// onlyOutput returns the index of the mount with the root filesystem, which must be the only one with an output: no instruction of
// Dockerfiles makes another.
func (o *execOp) onlyOutput() (root int, err error) {
	for i, m := range o.op.Mounts {
		switch {
		case m.Dest == pb.RootMount:
			root = i
			if m.Output != 0 {
				return 0, errors.New("a process without a result of its root filesystem cannot run elsewhere")
			}
		case m.Output != int64(pb.SkipOutput) && m.MountType == pb.MountType_BIND:
			return 0, fmt.Errorf("a process with a result of mount %s cannot run elsewhere", m.Dest)
		}
	}
	if o.proxied() {
		return 0, errors.New("a process with the proxy network cannot run elsewhere")
	}
	return root, nil
}
