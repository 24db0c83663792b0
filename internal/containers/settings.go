package containers

import (
	"net/netip"

	"github.com/moby/moby/api/types/container"

	"github.com/micabuild/mica/internal/cgroup"
	grammar "github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/sandbox"
)

// settings is the process of a container, but for its root filesystem, mounts, devices and streams.
func (c *Container) settings() (*sandbox.Process, []string, error) {
	h := c.host
	limits := limitsOf(&h.Resources)
	set, err := limits.Resources()
	if err != nil {
		return nil, nil, invalid(err)
	}
	warnings, err := cgroup.Adapt(set, limits.Swap != 0)
	if err != nil {
		return nil, nil, invalid(err)
	}
	args := append(append([]string(nil), c.config.Entrypoint...), c.config.Cmd...)
	if len(args) == 0 {
		return nil, nil, fail(Invalid, "no command specified")
	}
	env, err := (&grammar.Environment{Image: c.config.Env, Hostname: c.hostname(), TTY: c.config.Tty}).Variables()
	if err != nil {
		return nil, nil, invalid(err)
	}
	o := grammar.Options{
		Args: args, Env: env, Cwd: c.config.WorkingDir, User: c.config.User, Groups: h.GroupAdd, Hostname: c.hostname(),
		Network: c.networkMode(), ExtraHosts: h.ExtraHosts, Resolver: network.Resolver{Search: h.DNSSearch, Options: h.DNSOptions},
		ReadOnlyRoot: h.ReadonlyRootfs, Init: h.Init != nil && *h.Init, TTY: c.config.Tty, Privileged: h.Privileged, CapAdd: h.CapAdd,
		CapDrop: h.CapDrop, ShmSize: h.ShmSize, Resources: set, Ulimits: h.Ulimits, OOMScoreAdj: h.OomScoreAdj,
		CgroupNS: string(h.CgroupnsMode), CgroupParent: h.CgroupParent, Umask: h.Umask, Annotations: h.Annotations,
		Isolation: grammar.Isolation{
			IPC: string(h.IpcMode), PID: string(h.PidMode), UTS: string(h.UTSMode), UserNS: string(h.UsernsMode), Domainname: c.config.Domainname,
			Sysctls: h.Sysctls, Security: h.SecurityOpt, MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths,
		},
	}
	for _, a := range h.DNS {
		if a != (netip.Addr{}) {
			o.Resolver.Servers = append(o.Resolver.Servers, a)
		}
	}
	if err := o.Isolation.Check(); err != nil {
		return nil, nil, invalid(err)
	}
	p, err := o.Process()
	return p, warnings, invalid(err)
}

func limitsOf(r *container.Resources) *grammar.Limits {
	l := &grammar.Limits{
		Memory: r.Memory, Reservation: r.MemoryReservation, Swap: r.MemorySwap, Swappiness: -1, NanoCPUs: r.NanoCPUs, Shares: r.CPUShares,
		Period: r.CPUPeriod, Quota: r.CPUQuota, CpusetCPUs: r.CpusetCpus, CpusetMems: r.CpusetMems, IOWeight: r.BlkioWeight,
		OOMKillDisable: r.OomKillDisable != nil && *r.OomKillDisable,
	}
	if r.MemorySwappiness != nil {
		l.Swappiness = *r.MemorySwappiness
	}
	if r.PidsLimit != nil {
		l.PIDs = *r.PidsLimit
	}
	return l
}

// devices are those of the host that the container gets.
func (c *Container) devices() *grammar.Devices {
	d := &grammar.Devices{Rules: c.host.DeviceCgroupRules, GPUs: c.host.DeviceRequests}
	for _, m := range c.host.Devices {
		node := m.PathOnHost
		if m.PathInContainer != "" {
			node += ":" + m.PathInContainer
		}
		if m.CgroupPermissions != "" {
			node += ":" + m.CgroupPermissions
		}
		d.Nodes = append(d.Nodes, node)
	}
	return d
}
