package solver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/view"
)

// execOp is RUN: a process on top of a chain of layers. Its upper directory is renamed to become the layer of what it writes.
type execOp struct {
	s      *Solver
	v      *vertex
	op     *pb.ExecOp
	inputs []*Result
	t      *tracker
}

var _ = register[*pb.Op_Exec](kind{
	open: func(s *Solver, v *vertex, inputs []*Result, t *tracker) (operation, error) {
		return newExecOp(s, v, v.op.GetExec(), inputs, t)
	},
	name: func(v *vertex) string { return strings.Join(v.op.GetExec().Meta.GetArgs(), " ") },
	mounted: func(v *vertex) (list []edge) {
		for _, m := range v.op.GetExec().Mounts {
			if m.Input >= 0 && int(m.Input) < len(v.inputs) {
				list = append(list, v.inputs[m.Input])
			}
		}
		return list
	},
	needs: func(op *pb.Op) entitlements.Values {
		return entitlements.Values{
			NetworkHost:      op.GetExec().Network == pb.NetMode_HOST,
			SecurityInsecure: op.GetExec().Security == pb.SecurityMode_INSECURE,
		}
	},
})

func newExecOp(s *Solver, v *vertex, op *pb.ExecOp, inputs []*Result, t *tracker) (operation, error) {
	if op.Meta == nil || len(op.Meta.Args) == 0 {
		return nil, fmt.Errorf("process has no arguments")
	}
	if len(op.CdiDevices) > 0 {
		return nil, fmt.Errorf("RUN --device is not supported")
	}
	root := false
	for _, m := range op.Mounts {
		if err := checkMount(m); err != nil {
			return nil, err
		}
		if m.Input < int64(pb.Empty) || int(m.Input) >= len(inputs) {
			return nil, fmt.Errorf("mount %s has an invalid input %d", m.Dest, m.Input)
		}
		root = root || m.Dest == pb.RootMount
	}
	if !root {
		return nil, fmt.Errorf("process has no root filesystem")
	}
	return &execOp{s, v, op, inputs, t}, nil
}

// key is made of the process, without what depends on where it runs (proxies, addresses of extra hosts), of the chains of its root and
// of other mounts that it may change, and of the content of all other mounts.
func (o *execOp) key(ctx context.Context) (Key, bool, error) {
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
	var k Key
	if err := k.addOperation("exec", plain); err != nil {
		return k, false, err
	}
	if p := o.v.op.Platform; p != nil {
		k.add("platform", "", path.Join(p.OS, p.Architecture, p.Variant))
	}
	for _, m := range o.op.Mounts {
		in := o.input(m)
		if in == nil && m.MountType == pb.MountType_BIND && selector(m) != "/" {
			return k, false, missing(fs.ErrNotExist, m.Selector, false) // the stage has no files
		}
		if in == nil {
			continue
		}
		if m.Output != int64(pb.SkipOutput) && m.MountType == pb.MountType_BIND {
			k.addLayers(m.Dest, in)
			if in.local == nil {
				continue
			}
		}
		from, err := o.s.View(ctx, in)
		if err != nil {
			return k, false, err
		}
		sum, err := view.SelectionDigest(ctx, from, selector(m), view.CopyOptions{FollowSymlink: true, DirCopyContents: true})
		if err != nil {
			return k, false, missing(err, m.Selector, false)
		}
		k.add("mount", m.Dest, sum)
	}
	return k, true, nil
}

func (o *execOp) input(m *pb.Mount) *Result {
	if m.Input < 0 {
		return nil
	}
	return o.inputs[m.Input]
}

func selector(m *pb.Mount) string { return path.Join("/", m.Selector) }

// run prepares the root filesystem and the mounts, runs the process, and commits what has an output.
func (o *execOp) run(ctx context.Context) (_ []*Result, err error) {
	p, err := o.process(ctx)
	if err != nil {
		return nil, err
	}
	if p.Network == sandbox.NetworkOwn {
		o.s.host.StartNetwork()
	}
	tmp, err := o.s.store.TempDir("exec")
	if err != nil {
		return nil, err
	}
	defer o.s.removeLater(tmp)
	caches, err := o.s.lockCaches(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, caches.unlock()) }()
	uppers := make([]string, len(o.op.Mounts))
	for i, m := range o.op.Mounts {
		if m.MountType == pb.MountType_CACHE {
			mount, err := o.s.cacheMount(ctx, caches, m, o.input(m))
			if err != nil {
				return nil, fmt.Errorf("cache mount %s: %w", m.Dest, err)
			}
			p.Mounts = append(p.Mounts, mount)
			continue
		}
		if m.MountType != pb.MountType_BIND {
			if err := o.addHostMount(ctx, p, m); err != nil {
				return nil, err
			}
			continue
		}
		u, err := o.union(ctx, m, filepath.Join(tmp.Path, fmt.Sprint(i)))
		if err != nil {
			return nil, err
		}
		uppers[i] = u.Upper
		if m.Dest == pb.RootMount {
			p.Root, p.ReadOnlyRoot = u, m.Readonly
			continue
		}
		p.Mounts = append(p.Mounts, sandbox.Mount{
			Type: sandbox.MountUnion, Target: m.Dest, Union: u, Selector: m.Selector, ReadOnly: m.Readonly,
		})
	}
	for i, m := range p.Mounts {
		if !path.IsAbs(m.Target) {
			p.Mounts[i].Target = path.Join("/", o.op.Meta.Cwd, m.Target)
		}
	}
	stdout, stderr := o.clipped(p.Stdout), o.clipped(p.Stderr)
	p.Stdout, p.Stderr = stdout, stderr
	err = o.s.host.Run(ctx, p)
	stdout.flush()
	stderr.flush()
	if err != nil {
		return nil, o.failure(ctx, err)
	}
	return o.commit(ctx, uppers)
}

// clipped limits what the step shows.
func (o *execOp) clipped(to io.Writer) *clipper { return newClipper(to, stepLogLimit(), time.Now) }

func (o *execOp) process(ctx context.Context) (*sandbox.Process, error) {
	meta := o.op.Meta
	p := &sandbox.Process{
		Args: meta.Args, Env: append([]string(nil), meta.Env...), Cwd: meta.Cwd, User: meta.User, Hostname: meta.Hostname,
		CgroupParent: meta.CgroupParent, Privileged: o.op.Security == pb.SecurityMode_INSECURE,
		Stdout: o.t.output(1), Stderr: o.t.output(2), Seal: true,
	}
	switch o.op.Network {
	case pb.NetMode_NONE:
		p.Network = sandbox.NetworkNone
	case pb.NetMode_UNSET:
		p.Network, p.NetworkMade = sandbox.NetworkOwn, o.reportNetwork
	}
	for _, h := range meta.ExtraHosts {
		p.ExtraHosts = append(p.ExtraHosts, sandbox.ExtraHost{Host: h.Host, IP: h.IP})
	}
	for _, u := range meta.Ulimit {
		p.Rlimits = append(p.Rlimits, sandbox.Rlimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	p.Resources = resources(o.v.meta.GetLinuxResources())
	p.Env = append(p.Env, proxyEnv(meta.ProxyEnv)...)
	if a := o.s.ambient; a != nil {
		p.Env = a.Env(p.Env)
		p.Mounts = append(p.Mounts, sandbox.Mount{Type: sandbox.MountBind, Target: a.Target, Source: a.Source, ReadOnly: true})
	}
	secrets, err := o.secretEnv(ctx)
	p.Env = append(p.Env, secrets...)
	return p, err
}

// reportNetwork warns once per build if steps cannot have a network of their own.
func (o *execOp) reportNetwork(_ *network.Namespace, err error) error {
	if err != nil {
		o.s.networkReported.Do(func() {
			fmt.Fprintf(o.t.output(2), "WARNING: RUN uses the host's network: %v\n", err)
		})
	}
	return nil
}

// resources are the limits of a step in the runtime's terms, nil for none.
func resources(r *pb.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	set := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems},
	}
	for _, v := range []struct {
		value int64
		to    **int64
	}{{r.Memory, &set.Memory.Limit}, {r.MemorySwap, &set.Memory.Swap}, {r.CpuQuota, &set.CPU.Quota}} {
		if v.value != 0 {
			*v.to = &v.value
		}
	}
	if r.CpuShares != 0 {
		set.CPU.Shares = &r.CpuShares
	}
	if r.CpuPeriod != 0 {
		set.CPU.Period = &r.CpuPeriod
	}
	return set
}

// proxyEnv is the predefined proxy arguments as a process sees them, in both cases.
func proxyEnv(p *pb.ProxyEnv) []string {
	var env []string
	for _, v := range []struct{ name, value string }{
		{"HTTP_PROXY", p.GetHttpProxy()}, {"HTTPS_PROXY", p.GetHttpsProxy()}, {"FTP_PROXY", p.GetFtpProxy()},
		{"NO_PROXY", p.GetNoProxy()}, {"ALL_PROXY", p.GetAllProxy()},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value, strings.ToLower(v.name)+"="+v.value)
		}
	}
	return env
}

// union describes the overlay mount of a mount's input. Its upper directory, and whatever else it needs, is made in dir.
func (o *execOp) union(ctx context.Context, m *pb.Mount, dir string) (overlay.Options, error) {
	var u overlay.Options
	in := o.input(m)
	if in == nil {
		in = &Result{}
	}
	in, err := o.s.asLayers(ctx, in, m.Selector)
	if err != nil {
		return u, err
	}
	if err := o.s.Fetch(ctx, in); err != nil {
		return u, err
	}
	u.Lowers, err = o.s.layers.Lowers(ctx, in.DiffIDs(), dir)
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

// asLayers turns a local source into a layer, of just the path that a process is to see.
func (s *Solver) asLayers(ctx context.Context, r *Result, selector string) (*Result, error) {
	if r.local == nil {
		return r, nil
	}
	o := view.NewOverlay(view.Empty())
	src := path.Join("/", selector)
	opt := view.CopyOptions{DirCopyContents: true, CreateDestPath: true, FollowSymlink: true}
	if err := o.Copy(ctx, r.local, src, src, opt); err != nil {
		return nil, missing(err, src, false)
	}
	changes, err := o.Changes(ctx)
	if err != nil {
		return nil, err
	}
	l, err := s.layers.Write(ctx, changes, layer.AsTree)
	if err != nil {
		return nil, err
	}
	return (&Result{}).on(ChainLink{DiffID: l.DiffID}), nil
}

// maxCommand is how much of a command an error repeats, in bytes: a RUN may have 200,000 lines.
const maxCommand = 4 << 10

// failure words a process's end as `docker build` does.
func (o *execOp) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled // whatever the reason, it is not this step's
	}
	args := strings.Join(o.op.Meta.Args, " ")
	if len(args) > maxCommand {
		args = strings.ToValidUTF8(args[:maxCommand], "") + "…"
	}
	var exit *sandbox.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("process %q did not complete successfully: %w", args, err)
	}
	return fmt.Errorf("process %q could not be run: %w", args, err)
}

// commit makes layers of the uppers whose mounts have an output.
func (o *execOp) commit(ctx context.Context, uppers []string) ([]*Result, error) {
	outs := map[int64]*Result{}
	for i, m := range o.op.Mounts {
		// Only a bind mount has an output, whatever the field says.
		if m.Output == int64(pb.SkipOutput) || m.MountType != pb.MountType_BIND {
			continue
		}
		in := o.input(m)
		if in == nil {
			in = &Result{}
		}
		if uppers[i] == "" {
			outs[m.Output] = in
			continue
		}
		l, err := o.s.layers.Commit(ctx, uppers[i])
		if err != nil {
			return nil, err
		}
		outs[m.Output] = in.on(ChainLink{DiffID: l.DiffID, Created: time.Now().UTC(), Description: o.v.name})
	}
	list := make([]*Result, len(outs))
	for i := range list {
		res, ok := outs[int64(i)]
		if !ok {
			return nil, fmt.Errorf("process has no output %d", i)
		}
		list[i] = res
	}
	return list, nil
}
