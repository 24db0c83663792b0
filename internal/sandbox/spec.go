package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/cgroup"
)

// spec returns the bundle's configuration (OCI runtime specification), with Docker's default restrictions.
func (b *bundle) spec() (*specs.Spec, error) {
	caps, err := capabilities(b.p, b.onHostNetwork())
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  "1.0.2",
		Hostname: b.hostname(),
		Root:     &specs.Root{Path: b.root, Readonly: b.p.ReadOnlyRoot},
		Process: &specs.Process{
			Terminal: b.p.TTY, Args: b.argv(), Env: b.env, Cwd: b.cwd(),
			User:         specs.User{UID: b.ids.UID, GID: b.ids.GID, AdditionalGids: b.ids.Supplementary()},
			Capabilities: processCapabilities(caps, b.ids.UID),
		},
		Mounts: b.mounts(),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
		},
	}
	if b.ownCgroup() {
		s.Linux.CgroupsPath = b.cgroupPath()
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"},
		})
		if !b.p.HostCgroupns {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}
	}
	if b.p.OOMScoreAdj != 0 {
		s.Process.OOMScoreAdj = &b.p.OOMScoreAdj
	}
	if s.Linux.Resources, err = b.resources(); err != nil {
		return nil, err
	}
	for _, r := range b.p.Rlimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(r.Name), Soft: uint64(r.Soft), Hard: uint64(r.Hard),
		})
	}
	if !b.onHostNetwork() {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: b.networkPath()})
	}
	if b.p.Privileged {
		b.openDevices(s)
	}
	if err := b.addDevices(s); err != nil {
		return nil, err
	}
	s.Hooks = b.p.Hooks
	return s, b.isolate(s)
}

// resources returns the limits of the process, and allows no devices but those that runtimes always add. runc denies the others
// by itself, crun only if the specification does.
func (b *bundle) resources() (*specs.LinuxResources, error) {
	var r specs.LinuxResources
	if b.p.Resources != nil {
		r = *b.p.Resources
	}
	switch has := len(cgroup.Controllers(&r)) > 0; {
	case b.ownCgroup():
	case has:
		return nil, errors.New("resource limits need a cgroup, and there is none for this process: run without them, or as root")
	case b.host.Nested():
		return nil, nil //nolint:nilnil // none
	}
	if b.host.Nested() {
		return &r, nil // devices are the host's to allow
	}
	r.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	return &r, nil
}

// openDevices adds the devices that BuildKit gives a privileged process (util/entitlements/security): those for making
// filesystems, networks and virtual machines. In a user namespace no device nodes can be made.
func (b *bundle) openDevices(s *specs.Spec) {
	if b.host.Nested() {
		return
	}
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Access: "rwm"}, {Allow: true, Type: "b", Access: "rwm"}}
	device := func(path, kind string, major, minor int64) {
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: path, Type: kind, Major: major, Minor: minor})
	}
	device("/dev/kmsg", "c", 1, 11)
	for name, minor := range map[string]int64{"cuse": 203, "fuse": 229, "kvm": 232, "net/tun": 200, "loop-control": 237} {
		device("/dev/"+name, "c", 10, minor)
	}
	for i := range int64(8) {
		device(fmt.Sprintf("/dev/loop%d", i), "b", 7, i)
	}
}

func (b *bundle) cwd() string {
	if b.p.Cwd == "" {
		return "/"
	}
	return path.Clean("/" + b.p.Cwd)
}

// maskedPaths and readonlyPaths are Docker's (moby/moby oci/defaults.go).
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// mounts lists what the runtime mounts, in order: the kernel's filesystems, then what the process asked for in these.
func (b *bundle) mounts() []specs.Mount {
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if b.host.HasGroup(ttyGroup) {
		pts = append(pts, fmt.Sprintf("gid=%d", ttyGroup))
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		b.sysMount(),
	}
	if list[len(list)-1].Type == "none" && !b.ownCgroup() {
		list = append(list, b.hideCgroups()...)
	}
	list = append(list, b.ipcMounts()...)
	for i, m := range b.p.Mounts {
		if b.left[i] {
			list = append(list, b.userMount(m, b.sources[i]))
		}
	}
	return dedup(list)
}

// shmSize is the option of the tmpfs at /dev/shm.
func (b *bundle) shmSize() string {
	if b.p.ShmSize > 0 {
		return fmt.Sprintf("size=%d", b.p.ShmSize)
	}
	return "size=65536k"
}

// ttyGroup owns terminals on every Linux.
const ttyGroup = 5

// sysMount returns the mount of /sys. A sysfs belongs to a network namespace: in a user namespace, a process on the host's
// network cannot mount one, and gets the host's.
func (b *bundle) sysMount() specs.Mount {
	mode := "ro"
	if b.p.Privileged {
		mode = "rw"
	}
	if b.host.Nested() && b.onHostNetwork() {
		return specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", mode}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}}
}

// hideCgroups covers the cgroups in the host's /sys: a process could write to those that the user owns (CVE-2023-25809).
func (b *bundle) hideCgroups() []specs.Mount {
	if _, err := os.Stat("/sys/fs/cgroup"); err != nil {
		return nil
	}
	return []specs.Mount{{
		Destination: "/sys/fs/cgroup", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "nosuid", "noexec", "nodev", "mode=755", "size=0"},
	}}
}

func (b *bundle) bind(source, target string, readOnly bool) specs.Mount {
	m := specs.Mount{Destination: target, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}
	if readOnly {
		m.Options = append(m.Options, "ro")
		if st, err := os.Stat(source); err == nil && st.IsDir() {
			m.Options = append(m.Options, "rro") // crun 1.8 refuses it for files, below which nothing can be mounted
		}
		m.Options = append(m.Options, b.lockedFlags(source)...)
	}
	return m
}

// lockedFlags returns the flags of the source's filesystem that a remount inside a user namespace must repeat.
func (b *bundle) lockedFlags(source string) []string {
	var st unix.Statfs_t
	if !b.host.Nested() || unix.Statfs(source, &st) != nil {
		return nil
	}
	var flags []string
	for flag, name := range map[int64]string{unix.ST_NOSUID: "nosuid", unix.ST_NODEV: "nodev", unix.ST_NOEXEC: "noexec"} {
		if int64(st.Flags)&flag != 0 { //nolint:unconvert // another type elsewhere
			flags = append(flags, name)
		}
	}
	slices.Sort(flags)
	return flags
}

func (b *bundle) userMount(m Mount, source string) specs.Mount {
	target := path.Clean("/" + m.Target)
	switch m.Type {
	case MountTmpfs:
	case MountSecret:
		secret := b.bind(source, target, true)
		secret.Options = append(secret.Options, "nodev", "nosuid")
		if m.Mode&0o111 == 0 {
			secret.Options = append(secret.Options, "noexec")
		}
		return secret
	default:
		return b.bind(source, target, m.ReadOnly)
	}
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: tmpfsOptions(m)}
}

// dedup keeps the last of several mounts on one target, at the position of the first.
func dedup(list []specs.Mount) []specs.Mount {
	at := map[string]int{}
	var out []specs.Mount
	for _, m := range list {
		if i, ok := at[m.Destination]; ok {
			out[i] = m
			continue
		}
		at[m.Destination] = len(out)
		out = append(out, m)
	}
	return out
}
