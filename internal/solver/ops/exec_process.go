package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/system"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// process describes the process of the operation, with the mounts that do not depend on layers.
func (o *execOp) process(ctx context.Context) (*sandbox.Process, error) {
	meta := o.op.Meta
	p := &sandbox.Process{
		Args: meta.Args, Env: append([]string(nil), meta.Env...), Cwd: meta.Cwd, User: meta.User, Hostname: meta.Hostname,
		CgroupParent: meta.CgroupParent, Settings: runtimespec.Settings{Privileged: o.op.Security == pb.SecurityMode_INSECURE},
		Stdout: o.t.Output(1), Stderr: o.t.Output(2), Seal: true,
	}
	if err := o.setNetwork(p); err != nil {
		return nil, err
	}
	for _, h := range meta.ExtraHosts {
		p.ExtraHosts = append(p.ExtraHosts, network.ExtraHost{Host: h.Host, IP: h.IP})
	}
	for _, u := range meta.Ulimit {
		p.Rlimits = append(p.Rlimits, runtimespec.Rlimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	p.Resources = Resources(o.t.Vertex.Meta.GetLinuxResources())
	p.Env = append(p.Env, proxyEnv(meta.ProxyEnv)...)
	if o.proxied() {
		p.Env = ProxyEnv(p.Env)
	}
	if !slices.ContainsFunc(p.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		p.Env = append(p.Env, "PATH="+system.DefaultPathEnvUnix) // the compiler of Dockerfiles sets it, other clients leave it to the engine
	}
	if c := o.w.HostCerts; c != nil {
		p.Env = c.Env(p.Env)
		p.Mounts = append(p.Mounts, sandbox.Mount{Type: sandbox.MountBind, Target: c.Target, Source: c.Source, ReadOnly: true})
	}
	secrets, err := secretEnv(ctx, o.secret, o.op.Secretenv)
	p.Env = append(p.Env, secrets...)
	return p, err
}

// reportNetwork warns once per build if steps cannot have a network of their own.
func (o *execOp) reportNetwork(_ *network.Namespace, err error) error {
	if err != nil {
		o.w.networkReported.Do(func() {
			fmt.Fprintf(o.t.Output(2), "WARNING: RUN uses the host's network: %v\n", err)
		})
	}
	return nil
}

// Resources are the limits of a step in the runtime's terms, nil for none.
func Resources(r *pb.LinuxResources) *specs.LinuxResources {
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
