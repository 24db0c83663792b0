package runtimespec

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mounts lists what the runtime mounts, in order: the kernel's filesystems, then those of the process in these.
func (o *Options) mounts() []specs.Mount {
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if o.Host.TTYGroup {
		pts = append(pts, fmt.Sprintf("gid=%d", TTYGroup))
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		o.sysMount(),
	}
	if list[len(list)-1].Type == "none" && o.Cgroup == "" {
		list = append(list, o.hideCgroups()...)
	}
	list = append(list, o.ipcMounts()...)
	return dedup(append(list, o.Mounts...))
}

// shmSize is the option of the tmpfs at /dev/shm.
func (o *Options) shmSize() string {
	if o.ShmSize > 0 {
		return fmt.Sprintf("size=%d", o.ShmSize)
	}
	return "size=65536k"
}

// TTYGroup owns terminals on every Linux.
const TTYGroup = 5

// sysMount returns the mount of /sys. A sysfs belongs to a network namespace: in a user namespace, a process on the host's
// network cannot mount one, and gets the host's.
func (o *Options) sysMount() specs.Mount {
	mode := "ro"
	if o.Privileged {
		mode = "rw"
	}
	if o.Host.Nested && o.HostNetwork {
		return specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", mode}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}}
}

// hideCgroups covers the cgroups in the host's /sys: a process could write to those that the user owns (CVE-2023-25809).
func (o *Options) hideCgroups() []specs.Mount {
	if !o.Host.Cgroups {
		return nil
	}
	return []specs.Mount{{
		Destination: "/sys/fs/cgroup", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "nosuid", "noexec", "nodev", "mode=755", "size=0"},
	}}
}

// Bind returns the mount of a path of the host, with the mounts below it.
func Bind(source, target string, readOnly, nested bool) specs.Mount {
	m := specs.Mount{Destination: target, Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}
	if readOnly {
		m.Options = append(m.Options, "ro")
		if st, err := os.Stat(source); err == nil && st.IsDir() {
			m.Options = append(m.Options, "rro") // crun 1.8 refuses it for files, below which nothing can be mounted
		}
		m.Options = append(m.Options, lockedFlags(source, nested)...)
	}
	return m
}

// lockedFlags returns the flags of the source's filesystem that a remount inside a user namespace must repeat.
func lockedFlags(source string, nested bool) []string {
	var st unix.Statfs_t
	if !nested || unix.Statfs(source, &st) != nil {
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

// ipcMounts returns the mounts of /dev/shm and /dev/mqueue: the process's own or the host's.
func (o *Options) ipcMounts() []specs.Mount {
	i := o.Isolation
	queues := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}
	if i.HostIPC {
		return o.hostIPCMounts(queues)
	}
	list := []specs.Mount{queues}
	if i.NoShm {
		return list
	}
	return append([]specs.Mount{
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", o.shmSize()}},
	}, list...)
}

// hostIPCMounts returns those of the host. Only root can mount the queues of a namespace that the user does not own.
func (o *Options) hostIPCMounts(queues specs.Mount) []specs.Mount {
	list := []specs.Mount{Bind("/dev/shm", "/dev/shm", false, o.Host.Nested)}
	if !o.Host.Nested {
		return append(list, queues)
	}
	if o.Host.Queues {
		list = append(list, Bind("/dev/mqueue", "/dev/mqueue", false, o.Host.Nested))
	}
	return list
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
