package runtimespec

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/account"
)

func to[T any](v T) *T { return &v }

// dockerCase is the specification that Docker 20.10 made for a container: docker run --network none ARGS image sleep 100.
type dockerCase struct {
	Name, Args string
	Spec       specs.Spec
}

// sameOptions are the options of mica for the same arguments.
var sameOptions = map[string]func(*Options){
	"default": func(*Options) {},
	"user": func(o *Options) {
		o.User = account.IDs{UID: 1000, GID: 50, Groups: []uint32{7}}
	},
	"caps": func(o *Options) { o.CapDrop, o.CapAdd = []string{"ALL"}, []string{"net_admin", "CAP_CHOWN"} },
	"held": func(o *Options) { o.CapAdd, o.CapDrop = []string{"mknod"}, []string{"NET_RAW", "audit_write"} },
	// mica itself mounts what is not in the kernel's filesystems.
	"readonly": func(o *Options) { o.ReadOnlyRoot = true },
	"limits": func(o *Options) {
		o.Rlimits = []Rlimit{{"nofile", 100, 200}, {"core", 0, 0}}
		o.OOMScoreAdj = 100
		o.Resources = &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: to(int64(64 << 20)), Swap: to(int64(128 << 20))},
			CPU:    &specs.LinuxCPU{Quota: to(int64(50000)), Period: to(uint64(100000))},
			Pids:   &specs.LinuxPids{Limit: to(int64(100))},
		}
	},
	"isolation": func(o *Options) {
		o.Isolation.NoNewPrivileges, o.Isolation.Sysctls, o.ShmSize = true, map[string]string{"kernel.msgmax": "1000"}, 1<<20
	},
	"unconfined": func(o *Options) {
		o.Isolation.NoSeccomp, o.Isolation.MaskedPaths, o.Isolation.ReadonlyPaths = true, []string{}, []string{}
	},
	"host": func(o *Options) {
		o.Isolation.HostUTS, o.Isolation.HostIPC, o.HostCgroupns = true, true, true
	},
	"device": func(o *Options) {
		o.Devices = []Device{{
			Source: "/dev/null", Access: "r",
			Node: specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1, Minor: 3, FileMode: to(os.FileMode(0o666)), UID: to(uint32(0)), GID: to(uint32(0))},
		}}
		o.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: to(int64(42)), Minor: to(int64(-1)), Access: "rmw"}}
	},
	"names": func(o *Options) { o.Hostname, o.Isolation.Domainname = "h", "a.b" },
}

// usual are the options of a process of root, without any of the user's.
func usual() *Options {
	return &Options{
		Host: Host{Cgroups: true, Queues: true, TTYGroup: true, Capabilities: allCapabilities},
		Root: "/rootfs", Args: []string{"sleep", "100"}, Cwd: "/", Cgroup: "/mica/run-1",
	}
}

// TestSameAsDocker compares specifications with those of Docker for the same arguments.
func TestSameAsDocker(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []dockerCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != len(sameOptions) {
		t.Errorf("%d cases of Docker, %d of mica", len(cases), len(sameOptions))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := usual()
			sameOptions[c.Name](o)
			got, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			checkSeccomp(t, o, got)
			for _, s := range []*specs.Spec{&c.Spec, got} {
				normalize(t, s)
			}
			if diff := cmp.Diff(&c.Spec, got); diff != "" {
				t.Errorf("docker run %s: -Docker +mica\n%s", c.Args, diff)
			}
		})
	}
}

// checkSeccomp checks that there is a filter, unless it is turned off. The cases of Docker have been stripped of theirs: the
// profile comes from Docker's own package.
func checkSeccomp(t *testing.T, o *Options, s *specs.Spec) {
	t.Helper()
	if off := o.Isolation.NoSeccomp; (s.Linux.Seccomp == nil) != off {
		t.Errorf("seccomp is off: %t, want %t", s.Linux.Seccomp == nil, off)
	}
	s.Linux.Seccomp = nil
}

// normalize removes what differs on purpose, and the order of lists that have none.
func normalize(t *testing.T, s *specs.Spec) {
	t.Helper()
	s.Version, s.Root.Path, s.Linux.CgroupsPath, s.Process.Env = "", "", "", nil
	if s.Process.OOMScoreAdj == nil {
		s.Process.OOMScoreAdj = to(0)
	}
	slices.SortFunc(s.Process.Rlimits, func(a, b specs.POSIXRlimit) int { return strings.Compare(a.Type, b.Type) })
	for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
		slices.Sort(*set)
		*set = slices.Compact(*set) // Docker 20.10 lists an added one again
	}
	// Docker 20.10 adds the primary group for root alone: CVE-2022-36109 is younger.
	groups := slices.DeleteFunc(s.Process.User.AdditionalGids, func(g uint32) bool { return g == s.Process.User.GID })
	slices.Sort(groups)
	s.Process.User.AdditionalGids = groups
	normalizeMounts(t, s)
	normalizeLinux(s.Linux)
}

func normalizeMounts(t *testing.T, s *specs.Spec) {
	t.Helper()
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/run" }) // see readonly
	slices.SortFunc(s.Mounts, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	for i := range s.Mounts {
		options := s.Mounts[i].Options
		for j, o := range options {
			if size, ok := strings.CutPrefix(o, "size="); ok && strings.HasSuffix(size, "k") {
				n, err := strconv.Atoi(strings.TrimSuffix(size, "k"))
				if err != nil {
					t.Fatal(err)
				}
				options[j] = fmt.Sprintf("size=%d", n<<10)
			}
		}
		slices.Sort(options)
	}
}

// normalizeLinux leaves out what came to Docker later, what runtimes do by themselves, and what Docker does by sysctls for a
// network that mica makes itself.
func normalizeLinux(l *specs.Linux) {
	l.MaskedPaths = slices.DeleteFunc(l.MaskedPaths, func(p string) bool {
		return p == "/proc/interrupts" || p == "/sys/devices/virtual/powercap" // CVE-2024-21626 and later
	})
	if len(l.MaskedPaths) == 0 {
		l.MaskedPaths = nil
	}
	if len(l.ReadonlyPaths) == 0 {
		l.ReadonlyPaths = nil
	}
	for name := range l.Sysctl {
		if strings.HasPrefix(name, "net.") {
			delete(l.Sysctl, name)
		}
	}
	if len(l.Sysctl) == 0 {
		l.Sysctl = nil
	}
	// On hosts with cgroups of version 1, Docker leaves processes in the host's cgroup namespace.
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	slices.SortFunc(l.Namespaces, func(a, b specs.LinuxNamespace) int { return strings.Compare(string(a.Type), string(b.Type)) })
	normalizeResources(l.Resources)
}

func normalizeResources(r *specs.LinuxResources) {
	// Docker names the devices that every runtime allows.
	const always = 8
	if n := len(r.Devices); n >= always && r.Devices[always-1].Minor != nil && *r.Devices[always-1].Minor == 229 {
		r.Devices = slices.Delete(r.Devices, 1, always)
	}
	if m := r.Memory; m != nil {
		m.DisableOOMKiller = nil
		if *m == (specs.LinuxMemory{}) {
			r.Memory = nil
		}
	}
	if c := r.CPU; c != nil {
		c.Shares = nil
		if *c == (specs.LinuxCPU{}) {
			r.CPU = nil
		}
	}
	r.BlockIO = nil
}
