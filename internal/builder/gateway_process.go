package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/bridge"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver/ops"
)

const (
	// gatewayTmp bounds /tmp, the only directory that a front end can write to, in bytes.
	gatewayTmp = 256 << 20
	// gatewayMetadata is where a front end finds the graph of its own files, as in BuildKit.
	gatewayMetadata = "/run/config/buildkit/metadata/frontend.bin"
	// gatewayGrace is how long a front end may run after it has returned.
	gatewayGrace = 10 * time.Second
)

// runGateway runs the process of a front end until it returns a result.
func (f *frontend) runGateway(ctx context.Context, img *gatewayImage, inputs map[string]*pb.Definition) (_ *client.Result, err error) {
	def, err := f.policies.applyAll(ctx, img.def, f.metadata)
	if err != nil {
		return nil, err
	}
	img.def = def
	out, err := f.solver.Solve(ctx, def)
	if err == nil {
		out, err = f.solver.Whole(ctx, def, out)
	}
	if err != nil {
		return nil, err
	}
	tmp, err := f.images.store.TempDir("frontend")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tmp.Remove()) }()
	p, err := f.gatewayProcess(img)
	if err != nil {
		return nil, fmt.Errorf("front end %s: %w", img.name, err)
	}
	if p.Root, err = f.images.worker.Root(ctx, out, tmp.Path); err != nil {
		return nil, fmt.Errorf("front end %s: %w", img.name, err)
	}
	step := startStep(f.events, "[internal] front end "+img.name)
	var flush func()
	p.Stderr, flush = ops.Clip(step.output(2))
	if p.Network == sandbox.NetworkOwn {
		p.NetworkMade = reportNetwork(p)
	}
	res, err := f.converse(ctx, p, bridge.New(f, inputs, f.kept))
	flush()
	var own *gatewayError
	if errors.As(err, &own) {
		own.name = img.name
		step.end(own)
	} else {
		step.end(context.Cause(ctx))
	}
	return res, err
}

// gatewayProcess describes the process of a front end: of the environment of this process it sees nothing.
func (f *frontend) gatewayProcess(img *gatewayImage) (*sandbox.Process, error) {
	def, err := img.def.MarshalVT()
	if err != nil {
		return nil, err
	}
	p := &sandbox.Process{
		ReadOnlyRoot: true, Args: img.config.Entrypoint, Env: slices.Clone(img.config.Env), Cwd: img.config.WorkingDir,
		Mounts: []sandbox.Mount{
			{Type: sandbox.MountTmpfs, Target: "/tmp", Size: gatewayTmp},
			{Type: sandbox.MountSecret, Target: gatewayMetadata, Data: def, Mode: 0o400},
		},
		Network: sandbox.NetworkOwn, CgroupParent: f.images.user["cgroup-parent"],
	}
	limits, err := f.images.limits()
	if err != nil {
		return nil, err
	}
	p.Resources = ops.Resources(limits)
	if len(p.Args) == 0 {
		p.Args = []string{"/run"}
	}
	if img.offline() || f.images.offline() {
		p.Network = sandbox.NetworkNone
	}
	for i, k := range slices.Sorted(maps.Keys(f.opts)) {
		p.Env = append(p.Env, fmt.Sprintf("BUILDKIT_FRONTEND_OPT_%d=%s=%s", i, k, f.opts[k]))
	}
	host := f.BuildOpts()
	workers, err := json.Marshal(host.Workers)
	if err != nil {
		return nil, err
	}
	p.Env = append(p.Env, "BUILDKIT_SESSION_ID="+host.SessionID, "BUILDKIT_WORKERS="+string(workers), "BUILDKIT_EXPORTEDPRODUCT="+host.Product)
	return p, nil
}

// reportNetwork warns in the log of a front end that it has no network of its own.
func reportNetwork(p *sandbox.Process) func(*network.Namespace, error) error {
	return func(_ *network.Namespace, err error) error {
		if err != nil {
			fmt.Fprintf(p.Stderr, "WARNING: the front end uses the host's network: %v\n", err)
		}
		return nil
	}
}

// gatewayError is the error of the process of a front end, in place of an error that the front end has returned.
type gatewayError struct {
	name string
	err  error
}

func (e *gatewayError) Error() string { return "front end " + e.name + ": " + e.err.Error() }
func (e *gatewayError) Unwrap() error { return e.err }

// converse runs a process and answers it. What the process has returned counts, unless it fails after a result.
func (f *frontend) converse(ctx context.Context, p *sandbox.Process, b *bridge.Bridge) (*client.Result, error) {
	stdio, err := bridge.NewStdio()
	if err != nil {
		return nil, err
	}
	p.Stdin, p.Stdout = stdio.Stdin, stdio.Stdout
	running, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	answered, ended := make(chan struct{}), make(chan struct{})
	go func() {
		// A process that writes to the closed connection dies of it: that is not the reason.
		broken := &gatewayError{err: errors.New("it broke the connection on its standard input and output")}
		err := b.Serve(&ending{stdio.Conn(), func() { kill(broken) }})
		kill(&gatewayError{err: errors.Join(broken.err, err)})
		close(answered)
	}()
	waiting, stop := context.WithCancelCause(running)
	defer stop(nil)
	var failed error
	go func() {
		defer close(ended)
		failed = f.images.run(running, p)
		stop(processError(p, failed))
	}()
	res, err := b.Wait(waiting)
	select {
	case <-ended:
		if err == nil && failed != nil {
			res, err = nil, processError(p, failed)
		}
	case <-running.Done():
		<-ended
	case <-time.After(gatewayGrace):
		kill(nil)
		<-ended
	}
	stdio.Close()
	<-answered
	return res, err
}

// ending is a connection that calls a function before it closes.
type ending struct {
	net.Conn
	before func()
}

func (c *ending) Close() error {
	c.before()
	return c.Conn.Close()
}

// processError is the error of a process that has ended without a result.
func processError(p *sandbox.Process, err error) error {
	var exit *ociruntime.ExitError
	switch {
	case err == nil:
		return &gatewayError{err: errors.New("it ended without a result")}
	case errors.As(err, &exit):
		return &gatewayError{err: fmt.Errorf("process %q did not complete successfully: %v", p.Args[0], err)} //nolint:errorlint // it is no step
	}
	var own *gatewayError
	if errors.As(err, &own) || errors.Is(err, context.Canceled) {
		return err
	}
	return &gatewayError{err: fmt.Errorf("process %q could not be run: %w", p.Args[0], err)}
}
