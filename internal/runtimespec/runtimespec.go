// Package runtimespec makes OCI runtime specifications (config.json) with Docker's default restrictions. What a
// specification depends on of the host is in Host.
package runtimespec

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/cgroup"
)

// Settings are the options of a user for a process: its rights, devices and limits.
type Settings struct {
	CapAdd, CapDrop []string // as docker run takes them; "ALL" for all
	Privileged      bool
	Isolation       Isolation
	Devices         []Device
	DeviceRules     []specs.LinuxDeviceCgroup // what root's process may do with devices beside these
	Hooks           *specs.Hooks              // of the runtime
	Rlimits         []Rlimit
	OOMScoreAdj     int
	HostCgroupns    bool // no cgroup namespace
	Resources       *specs.LinuxResources
	ShmSize         int64             // of /dev/shm, in bytes; 0 for Docker's default
	Umask           *uint32           // of the process; nil for the runtime's, which is 0022
	Annotations     map[string]string // for the runtime
}

// Rlimit is a resource limit of the process (setrlimit(2)), called as docker calls it: "nofile".
type Rlimit struct {
	Name       string
	Soft, Hard int64
}

// Options are the contents of a specification.
type Options struct {
	Settings
	Host         Host
	Root         string // the root filesystem, with all mounts but those of the kernel's filesystems
	ReadOnlyRoot bool
	Hostname     string
	Args, Env    []string
	Cwd          string
	TTY          bool
	User         account.IDs
	Mounts       []specs.Mount // in the kernel's filesystems
	Cgroup       string        // the path of the process's own cgroup, "" for none
	HostNetwork  bool
	Network      string // the path of the network namespace, "" for a new one
}

// Host describes what a specification depends on of the host and its runtime.
type Host struct {
	Nested       bool     // in a user namespace
	Cgroups      bool     // there is /sys/fs/cgroup
	Queues       bool     // there is /dev/mqueue
	TTYGroup     bool     // the group of terminals has an id here
	Crun         bool     // the runtime is crun
	Capabilities []string // those that a privileged process may have: see HeldCapabilities
}

// New returns the specification of a process.
func New(o *Options) (*specs.Spec, error) {
	caps, err := o.capabilities()
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  "1.0.2",
		Hostname: o.Hostname,
		Root:     &specs.Root{Path: o.Root, Readonly: o.ReadOnlyRoot},
		// a copy: the runtime's own are added
		Annotations: maps.Clone(o.Annotations),
		Process: &specs.Process{
			Terminal: o.TTY, Args: o.Args, Env: o.Env, Cwd: o.Cwd,
			User:         specs.User{UID: o.User.UID, GID: o.User.GID, AdditionalGids: o.User.Supplementary(), Umask: o.Umask},
			Capabilities: processCapabilities(caps, o.User.UID),
		},
		Mounts: o.mounts(),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
		},
	}
	if o.Cgroup != "" {
		s.Linux.CgroupsPath = o.Cgroup
		access := "ro"
		if o.Privileged { // as in Docker: it may run containers of its own
			access = "rw"
		}
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{access, "nosuid", "noexec", "nodev"},
		})
		if !o.HostCgroupns {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}
	}
	if o.OOMScoreAdj != 0 {
		s.Process.OOMScoreAdj = &o.OOMScoreAdj
	}
	if s.Linux.Resources, err = o.resources(); err != nil {
		return nil, err
	}
	for _, r := range o.Rlimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(r.Name), Soft: uint64(r.Soft), Hard: uint64(r.Hard),
		})
	}
	if !o.HostNetwork {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: o.Network})
	}
	if o.Privileged {
		o.openDevices(s)
	}
	if err := o.addDevices(s); err != nil {
		return nil, err
	}
	s.Hooks = o.Hooks
	return s, o.isolate(s)
}

// resources returns the limits of the process, and allows no devices but those that runtimes always add. runc denies the others
// by itself, crun only if the specification does.
func (o *Options) resources() (*specs.LinuxResources, error) {
	var r specs.LinuxResources
	if o.Resources != nil {
		r = *o.Resources
	}
	switch has := len(cgroup.Controllers(&r)) > 0; {
	case o.Cgroup != "":
	case has:
		return nil, errors.New("resource limits need a cgroup, and there is none for this process: run without them, or as root")
	case o.Host.Nested:
		return nil, nil //nolint:nilnil // none
	}
	if o.Host.Nested {
		return &r, nil // devices are the host's to allow
	}
	r.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	return &r, nil
}

// HiddenPaths are the paths that a process does not see, and those that it cannot write, unless it is privileged.
func HiddenPaths() (masked, readonly []string) {
	return slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
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
