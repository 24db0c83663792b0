package sandbox

import (
	"os"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/runtimespec"
)

// spec returns the bundle's configuration.
func (b *bundle) spec() (*specs.Spec, error) {
	o := &runtimespec.Options{
		Settings: b.p.Settings, Host: b.describeHost(), Root: b.root, ReadOnlyRoot: b.p.ReadOnlyRoot, Hostname: b.hostname(),
		Args: b.argv(), Env: b.env, Cwd: b.cwd(), TTY: b.p.TTY, User: b.ids, HostNetwork: b.onHostNetwork(), Network: b.network,
	}
	if b.ownCgroup() {
		o.Cgroup = b.containerCgroup()
	}
	for i, m := range b.p.Mounts {
		if b.left[i] {
			o.Mounts = append(o.Mounts, b.kernelMount(m, b.sources[i]))
		}
	}
	return runtimespec.New(o)
}

func (b *bundle) describeHost() runtimespec.Host {
	exists := func(name string) bool {
		_, err := os.Stat(name)
		return err == nil
	}
	return runtimespec.Host{
		Nested: b.host.Nested(), Cgroups: exists(cgroup.Root), Queues: exists("/dev/mqueue"), TTYGroup: b.host.HasGroup(runtimespec.TTYGroup),
		Crun: b.crun, Capabilities: runtimespec.HeldCapabilities(),
	}
}

// withDevices returns p with mounts in place of devices in a user namespace, in which no device nodes can be made. The process
// has the user's permissions on them.
func (p *Process) withDevices(nested bool) *Process {
	if !nested || len(p.Devices) == 0 {
		return p
	}
	with := *p
	with.Mounts = slices.Clone(p.Mounts)
	for _, d := range p.Devices {
		with.Mounts = append(with.Mounts, Mount{Type: MountBind, Source: d.Source, Target: d.Node.Path})
	}
	return &with
}

// kernelMount returns the mount of a process that the runtime makes in the filesystems of the kernel.
func (b *bundle) kernelMount(m Mount, source string) specs.Mount {
	target := path.Clean("/" + m.Target)
	switch m.Type {
	case MountTmpfs:
	case MountSecret:
		secret := runtimespec.Bind(source, target, true, b.host.Nested())
		secret.Options = append(secret.Options, "nodev", "nosuid")
		if m.Mode&0o111 == 0 {
			secret.Options = append(secret.Options, "noexec")
		}
		return secret
	default:
		return runtimespec.Bind(source, target, m.ReadOnly, b.host.Nested())
	}
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: tmpfsOptions(m)}
}

// adaptSpec changes a specification where crun differs from runc.
func (h *Host) adaptSpec(spec *specs.Spec) error {
	if !h.isCrun() {
		return nil
	}
	if err := runtimespec.AdaptToCrun(spec); err != nil {
		return err
	}
	return hideHybridCgroups()
}
