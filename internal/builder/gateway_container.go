package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/system"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/solver/ops"
)

// containers are those of the front ends of a build. They end with it.
type containers struct {
	host   *sandbox.Host
	worker *ops.Worker

	mu     sync.Mutex
	open   map[*frontendContainer]bool
	closed bool
}

// maxContainers is how many containers the front ends of a build may have at once: each has a thread of its own.
const maxContainers = 64

func (cs *containers) add(c *frontendContainer) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch {
	case cs.closed:
		return errors.New("the build has ended")
	case len(cs.open) >= maxContainers:
		return fmt.Errorf("the front end has %d containers: release some", maxContainers)
	case cs.open == nil:
		cs.open = map[*frontendContainer]bool{}
	}
	cs.open[c] = true
	return nil
}

func (cs *containers) remove(c *frontendContainer) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.open, c)
}

// close releases all containers.
func (cs *containers) close() error {
	cs.mu.Lock()
	cs.closed = true
	var left []*frontendContainer
	for c := range cs.open {
		left = append(left, c)
	}
	cs.mu.Unlock()
	var errs []error
	for _, c := range left {
		errs = append(errs, c.released())
	}
	return errors.Join(errs...)
}

// frontendContainer is a container of a front end: a root filesystem of results with mounts, and processes in it that are no steps.
type frontendContainer struct {
	f        *frontend
	sandbox  *sandbox.Container
	state    *ops.State
	network  pb.NetMode
	path     string // the default of $PATH
	roots    []bool // which of the mounts are the root filesystem
	released func() error
	running  sync.WaitGroup // its processes

	mu      sync.Mutex
	started bool
	closed  bool
	failed  error // of the process that has failed first
}

var _ client.Container = (*frontendContainer)(nil)

// NewContainer mounts results as the root filesystem and the mounts of processes. The container ends with its Release, or with the build.
func (f *frontend) NewContainer(ctx context.Context, req client.NewContainerRequest) (_ client.Container, err error) {
	defer crash.Recover(&err)
	t, roots, err := f.containerTask(ctx, req)
	if err != nil {
		return nil, err
	}
	state, err := f.containers.worker.Prepare(ctx, t)
	if err != nil {
		return nil, err
	}
	c := &frontendContainer{f: f, state: state, network: t.Vertex.Op.GetExec().Network, roots: roots, path: system.DefaultPathEnv(cmp.Or(req.Platform.GetOS(), "linux"))}
	c.released = sync.OnceValue(c.release)
	p := *state.Process
	p.Seal = false
	// The container outlives the call.
	if c.sandbox, err = f.containers.host.Open(context.WithoutCancel(ctx), &p); err != nil {
		return nil, errors.Join(err, state.Close())
	}
	if err := f.containers.add(c); err != nil {
		return nil, errors.Join(err, c.released())
	}
	return c, nil
}

// containerTask describes a container as an operation whose inputs are its results. It has the user's limits on steps, whatever the front end
// asks for.
func (f *frontend) containerTask(ctx context.Context, req client.NewContainerRequest) (*solver.Task, []bool, error) {
	id := identity.NewID()
	limits, err := f.images.limits()
	if err != nil {
		return nil, nil, err
	}
	op := &pb.ExecOp{
		Meta: &pb.Meta{
			Args: []string{"container"}, Cwd: "/", Hostname: req.Hostname, ExtraHosts: req.ExtraHosts, CgroupParent: f.images.user["cgroup-parent"],
		},
		Network: req.NetMode,
	}
	if f.images.offline() {
		op.Network = pb.NetMode_NONE
	}
	var inputs []*solver.Result
	var roots []bool
	for _, m := range req.Mounts {
		mount := &pb.Mount{
			Dest: m.Dest, Selector: m.Selector, Readonly: m.Readonly, MountType: m.MountType, CacheOpt: m.CacheOpt, SecretOpt: m.SecretOpt,
			SSHOpt: m.SSHOpt, Input: int64(pb.Empty),
		}
		root := m.Dest == pb.RootMount
		if root {
			if m.MountType != pb.MountType_BIND {
				return nil, nil, fmt.Errorf("invalid mount type %s for %s", m.MountType, m.Dest)
			}
			mount.Readonly = false // as in BuildKit
		}
		res, err := mounted(ctx, m.Ref)
		if err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		if res != nil {
			mount.Input = int64(len(inputs))
			inputs = append(inputs, res)
		}
		op.Mounts, roots = append(op.Mounts, mount), append(roots, root)
	}
	v := &solver.Vertex{Digest: digest.FromString("container " + id), Op: &pb.Op{Op: &pb.Op_Exec{Exec: op}}, Name: "container " + id}
	v.Meta = &pb.OpMetadata{LinuxResources: limits}
	return f.solver.Task(v, inputs), roots, nil
}

// mounted returns the result that a reference names, and nil for a nil reference.
func mounted(ctx context.Context, ref client.Reference) (*solver.Result, error) {
	switch r := ref.(type) {
	case nil:
		return nil, nil //nolint:nilnil // see above
	case *resultRef:
		if r == nil {
			return nil, nil //nolint:nilnil // the empty filesystem
		}
		return r.result, r.err
	case *mountRef:
		return r.find(ctx)
	}
	return nil, fmt.Errorf("unexpected type for reference, got %T", ref)
}

// Start starts the first process of the container, or another one beside it. The end of ctx ends it.
func (c *frontendContainer) Start(ctx context.Context, req client.StartRequest) (_ client.ContainerProcess, err error) {
	defer crash.Recover(&err)
	if err := ops.CheckSecurity(req.SecurityMode); err != nil {
		return nil, err
	}
	privileged := req.SecurityMode == pb.SecurityMode_INSECURE
	if err := c.f.solver.Check(entitlements.Values{NetworkHost: c.network == pb.NetMode_HOST, SecurityInsecure: privileged}); err != nil {
		return nil, err
	}
	cmd := sandbox.Command{Args: req.Args, Cwd: req.Cwd, User: req.User, Privileged: privileged, TTY: req.Tty}
	if cmd.Env, err = c.environment(ctx, req); err != nil {
		return nil, err
	}
	// The types of nil differ.
	if req.Stdin != nil {
		cmd.Stdin = req.Stdin
	}
	if req.Stdout != nil {
		cmd.Stdout = req.Stdout
	}
	if req.Stderr != nil {
		cmd.Stderr = req.Stderr
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	p, err := c.startOrExec(ctx, cmd)
	if err != nil {
		err = exitError(err)
		c.end(err)
		return nil, err
	}
	go func() { c.end(exitError(p.Wait())) }()
	return containerProcess{p}, nil
}

// begin counts a process, for which Release waits.
func (c *frontendContainer) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return exitError(sandbox.ErrClosed)
	}
	c.running.Add(1)
	return nil
}

// end notes the error of a process that has ended.
func (c *frontendContainer) end(err error) {
	defer c.running.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

// startOrExec starts the first process, for which all others wait.
func (c *frontendContainer) startOrExec(ctx context.Context, cmd sandbox.Command) (*sandbox.RunningProcess, error) {
	c.mu.Lock()
	if !c.started {
		defer c.mu.Unlock()
		c.started = true
		return c.sandbox.Start(ctx, cmd)
	}
	c.mu.Unlock()
	return c.sandbox.Exec(ctx, cmd)
}

// environment is the environment of a process.
func (c *frontendContainer) environment(ctx context.Context, req client.StartRequest) ([]string, error) {
	env := withDefault(slices.Clone(req.Env), "PATH", c.path)
	if req.Tty {
		env = withDefault(env, "TERM", "xterm")
	}
	if c.f.containers.worker.Proxy != nil && c.network != pb.NetMode_NONE {
		env = ops.ProxyEnv(env)
	}
	if certs := c.f.containers.worker.HostCerts; certs != nil {
		env = certs.Env(env)
	}
	for _, s := range req.SecretEnv {
		if s.ID == "" {
			return nil, fmt.Errorf("secret ID missing for %q environment variable", s.Name)
		}
	}
	secrets, err := c.f.containers.worker.SecretEnv(ctx, req.SecretEnv)
	return append(env, secrets...), err
}

func withDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return env
	}
	return append(env, name+"="+value)
}

// Release ends the processes of the container and removes what they have written. As in BuildKit, it returns the error of the process that
// failed first, also of one that it has ended.
func (c *frontendContainer) Release(context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if err := c.released(); err != nil {
		return err
	}
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *frontendContainer) release() error {
	err := errors.Join(c.sandbox.Close(), c.state.Close())
	c.f.containers.remove(c)
	return err
}

// containerProcess is a process of a container.
type containerProcess struct{ p *sandbox.RunningProcess }

// Wait waits for the end of the process.
func (p containerProcess) Wait() error { return exitError(p.p.Wait()) }

// Resize sets the size of the terminal.
func (p containerProcess) Resize(_ context.Context, size client.WinSize) error {
	const most = 1<<16 - 1
	p.p.Resize(pty.Size{Rows: uint16(min(size.Rows, most)), Columns: uint16(min(size.Cols, most))})
	return nil
}

// Signal sends a signal to the process.
func (p containerProcess) Signal(_ context.Context, sig syscall.Signal) error { return p.p.Signal(sig) }

// exitError gives the error of a process the type by which clients find its exit code.
func exitError(err error) error {
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	switch {
	case errors.As(err, &exit):
		return &gwpb.ExitError{ExitCode: uint32(exit.Code), Err: err}
	case errors.As(err, &start):
		return &gwpb.ExitError{ExitCode: uint32(start.Code), Err: err}
	case errors.Is(err, sandbox.ErrClosed):
		return &gwpb.ExitError{ExitCode: gwpb.UnknownExitStatus, Err: fmt.Errorf("%w: %w", err, context.Canceled)}
	case err != nil:
		return &gwpb.ExitError{ExitCode: gwpb.UnknownExitStatus, Err: err}
	}
	return nil
}
