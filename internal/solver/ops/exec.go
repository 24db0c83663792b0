package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/proxynet"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
)

// execOp is RUN: a process on top of a chain of layers. Its upper directory is renamed to become the layer of what it writes.
type execOp struct {
	w  *Worker
	t  *solver.Task
	op *pb.ExecOp

	given   answers           // of the client
	capture *proxynet.Capture // of the requests of a process with the proxy network; nil for none
}

var _ = register[*pb.Op_Exec](kind{
	open: newExecOp,
	prepare: func(w *Worker, v *solver.Vertex) error {
		if w.Elsewhere != nil {
			return nil
		}
		if v.Op.GetExec().Network == pb.NetMode_UNSET && w.Proxy == nil {
			w.Host.StartNetwork()
		}
		return w.emptyCaches(v.Op.GetExec())
	},
	Kind: solver.Kind{
		Name: func(v *solver.Vertex) string { return strings.Join(v.Op.GetExec().Meta.GetArgs(), " ") },
		Mounted: func(v *solver.Vertex) (list []solver.Edge) {
			for _, m := range v.Op.GetExec().Mounts {
				if m.Input >= 0 && int(m.Input) < len(v.Inputs) {
					list = append(list, v.Inputs[m.Input])
				}
			}
			return list
		},
		Needs: func(op *pb.Op) entitlements.Values {
			return entitlements.Values{
				NetworkHost:      op.GetExec().Network == pb.NetMode_HOST,
				SecurityInsecure: op.GetExec().Security == pb.SecurityMode_INSECURE,
			}
		},
	},
})

func newExecOp(w *Worker, t *solver.Task) (solver.Operation, error) {
	op := t.Vertex.Op.GetExec()
	if op.Meta == nil || len(op.Meta.Args) == 0 {
		return nil, fmt.Errorf("process has no arguments")
	}
	if len(op.CdiDevices) > 0 {
		return nil, fmt.Errorf("RUN --device is not supported")
	}
	if err := CheckSecurity(op.Security); err != nil {
		return nil, err
	}
	if w.Proxy != nil && op.Network != pb.NetMode_UNSET && op.Network != pb.NetMode_HOST && op.Network != pb.NetMode_NONE {
		return nil, fmt.Errorf("network mode %s is not allowed when proxy network is enabled", op.Network)
	}
	root := false
	for _, m := range op.Mounts {
		if err := checkMount(m); err != nil {
			return nil, err
		}
		if m.Input < int64(pb.Empty) || int(m.Input) >= len(t.Inputs) {
			return nil, fmt.Errorf("mount %s has an invalid input %d", m.Dest, m.Input)
		}
		root = root || m.Dest == pb.RootMount
	}
	if !root {
		return nil, fmt.Errorf("process has no root filesystem")
	}
	return &execOp{w: w, t: t, op: op}, nil
}

// CheckSecurity refuses a security mode that is unknown: it may be one with fewer privileges.
func CheckSecurity(mode pb.SecurityMode) error {
	if _, ok := pb.SecurityMode_name[int32(mode)]; !ok {
		return fmt.Errorf("invalid security mode %d", mode)
	}
	return nil
}

// Key is made of the process, without what depends on where it runs (proxies, addresses of extra hosts), of the chains of its root and
// of other mounts that it may change, and of the content of all other mounts.
func (o *execOp) Key(ctx context.Context) (k buildcache.Key, ok bool, err error) {
	plain := o.op.CloneVT()
	plain.Meta.ProxyEnv = nil
	for _, m := range plain.Mounts {
		if m.CacheOpt != nil {
			m.CacheOpt = &pb.CacheOpt{} // the result does not depend on which cache it is
		}
	}
	for _, h := range plain.Meta.ExtraHosts {
		h.IP = ""
	}
	if err := k.AddOperation("exec", plain); err != nil {
		return k, false, err
	}
	if p := o.t.Vertex.Op.Platform; p != nil {
		k.Add(buildcache.KindPlatform, "", path.Join(p.OS, p.Architecture, p.Variant))
	}
	if o.proxied() {
		k.Add(buildcache.KindNetwork, "", "proxy")
	}
	for _, m := range o.op.Mounts {
		in := o.input(m)
		if in == nil && m.MountType == pb.MountType_BIND && selector(m) != "/" {
			return k, false, missing(fs.ErrNotExist, m.Selector, false) // the stage has no files
		}
		if in == nil {
			continue
		}
		src := selector(m)
		if m.Output != int64(pb.SkipOutput) && m.MountType == pb.MountType_BIND {
			src = "/" // the result has what the process does not see, too
			k.AddLayers(int(m.Input), m.Dest, in.Chain)
			if in.Local == nil {
				continue
			}
		}
		from, err := o.t.View(ctx, in)
		if err != nil {
			return k, false, err
		}
		if err := k.AddFiles(ctx, int(m.Input), buildcache.KindMount, m.Dest, from, src, contents()); err != nil {
			return k, false, o.w.unreadable(o.t, int(m.Input), missing(err, m.Selector, false))
		}
	}
	return k, true, nil
}

// input returns the result that a mount shows, nil for none.
func (o *execOp) input(m *pb.Mount) *solver.Result {
	if m.Input < 0 {
		return nil
	}
	return o.t.Inputs[m.Input]
}

func selector(m *pb.Mount) string { return path.Join("/", m.Selector) }

// Run prepares the root filesystem and the mounts, runs the process, and commits what has an output.
func (o *execOp) Run(ctx context.Context) (_ []*solver.Result, err error) {
	if o.w.Elsewhere != nil {
		return o.runElsewhere(ctx)
	}
	st, err := o.prepare(ctx)
	if err != nil {
		return nil, o.explain(ctx, err, nil)
	}
	p := *st.Process
	stdout, stderr := o.clipped(p.Stdout), o.clipped(p.Stderr)
	p.Stdout, p.Stderr = stdout, stderr
	err = o.outcome(o.w.Host.Run(ctx, &p))
	o.logRequests(stderr)
	stdout.flush()
	stderr.flush()
	if err != nil {
		if err = o.failure(ctx, err); o.w.KeepFailed && ctx.Err() == nil {
			return nil, errors.Join(err, o.w.keep(o.t.Vertex, st))
		}
		return nil, o.explain(ctx, err, st)
	}
	defer func() { err = errors.Join(err, st.close()) }()
	return o.commit(ctx, st)
}

// addMount adds a mount to the process, and returns the directory of what the process writes there, "" for none that is kept. What an
// overlay needs is made in dir.
func (o *execOp) addMount(ctx context.Context, p *sandbox.Process, caches *cachemount.Locks, m *pb.Mount, dir string) (upper string, err error) {
	switch m.MountType {
	case pb.MountType_BIND:
	case pb.MountType_CACHE:
		mount, err := o.cacheMount(ctx, caches, m)
		if err != nil {
			return "", fmt.Errorf("cache mount %s: %w", m.Dest, err)
		}
		p.Mounts = append(p.Mounts, mount)
		return "", nil
	default:
		return "", o.addHostMount(ctx, p, m)
	}
	u, err := o.union(ctx, m, dir)
	if err != nil {
		return "", err
	}
	if m.Dest == pb.RootMount {
		p.Root, p.ReadOnlyRoot = u, m.Readonly
		return u.Upper, nil
	}
	p.Mounts = append(p.Mounts, sandbox.Mount{
		Type: sandbox.MountUnion, Target: m.Dest, Union: u, Selector: m.Selector, ReadOnly: m.Readonly,
	})
	return u.Upper, nil
}

// clipped limits what the step shows.
func (o *execOp) clipped(to io.Writer) *clipper { return newClipper(to, stepLogLimit(), time.Now) }

// union describes the overlay mount of a mount's input. Its upper directory, and whatever else it needs, is made in dir.
func (o *execOp) union(ctx context.Context, m *pb.Mount, dir string) (overlay.Options, error) {
	var u overlay.Options
	in := o.input(m)
	if in == nil {
		in = &solver.Result{}
	}
	in, err := o.w.asLayers(ctx, in, m.Selector)
	if err != nil {
		return u, err
	}
	if err := o.t.FetchTrees(ctx, in); err != nil {
		return u, err
	}
	u.Lowers, err = o.w.Layers.Lowers(ctx, in.Chain.DiffIDs(), dir)
	if err != nil {
		return u, err
	}
	if m.Readonly {
		return u, nil
	}
	u.Upper, u.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{u.Upper, u.Work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return u, fmt.Errorf("prepare root filesystem: %w", err)
		}
	}
	return u, nil
}

// maxCommand is how much of a command an error repeats, in bytes: a RUN may have 200,000 lines.
const maxCommand = 4 << 10

// outcome is the result of a process, given that of its run: the operation may want other exit codes than 0.
func (o *execOp) outcome(err error) error {
	code, ended := exitCode(err)
	valid := o.op.Meta.ValidExitCodes
	switch {
	case !ended || len(valid) == 0:
		return err
	case slices.Contains(valid, int32(code)):
		return nil
	case err == nil:
		return &ociruntime.ExitError{}
	}
	return err
}

// exitCode returns the exit code that a shell would have for a process. It reports false if the process has none.
func exitCode(err error) (int, bool) {
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit):
		return exit.Code, true
	case errors.As(err, &start) && start.Code != ociruntime.CodeOther:
		return start.Code, true
	}
	return 0, false
}

// failure words a process's end as `docker build` does.
func (o *execOp) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled // whatever the reason, it is not this step's
	}
	args := strings.Join(o.op.Meta.Args, " ")
	if len(args) > maxCommand {
		args = strings.ToValidUTF8(args[:maxCommand], "") + "…"
	}
	if code, ok := exitCode(err); ok {
		var start *ociruntime.StartError
		if errors.As(err, &start) {
			err = fmt.Errorf("exit code: %d: %w", code, err)
		}
		// Clients of BuildKit's API find the exit code by its type.
		return fmt.Errorf("process %q did not complete successfully: %w", args, &gwpb.ExitError{ExitCode: uint32(code), Err: err})
	}
	return fmt.Errorf("process %q could not be run: %w", args, err)
}

// commit makes layers of what the process has written to mounts that have an output.
func (o *execOp) commit(ctx context.Context, st *State) ([]*solver.Result, error) {
	outs := map[int64]*solver.Result{}
	for i, m := range o.op.Mounts {
		// Only a bind mount has an output, whatever the field says.
		if m.Output == int64(pb.SkipOutput) || m.MountType != pb.MountType_BIND {
			continue
		}
		in := o.input(m)
		if in == nil {
			in = &solver.Result{}
		}
		if st.trees[i] != nil && !m.Readonly {
			out, err := o.commitPlain(ctx, st, i, in)
			if err != nil {
				return nil, err
			}
			outs[m.Output] = out
			continue
		}
		if st.uppers[i] == "" {
			outs[m.Output] = in
			continue
		}
		in, err := o.w.asLayers(ctx, in, "/")
		if err != nil {
			return nil, err
		}
		base, err := o.t.View(ctx, in)
		if err != nil {
			return nil, err
		}
		l, err := o.w.Layers.Commit(ctx, st.uppers[i], base)
		if err != nil {
			return nil, err
		}
		made := buildcache.Link{DiffID: l.DiffID, Created: time.Now().UTC(), Description: o.t.Vertex.Name}
		outs[m.Output] = &solver.Result{Chain: in.Chain.On(made)}
	}
	list := make([]*solver.Result, len(outs))
	for i := range list {
		res, ok := outs[int64(i)]
		if !ok {
			return nil, fmt.Errorf("process has no output %d", i)
		}
		list[i] = res
	}
	return list, nil
}
