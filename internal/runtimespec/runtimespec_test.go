package runtimespec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/account"
)

// made returns the specification of usual options that were changed.
func made(t *testing.T, change func(*Options)) *specs.Spec {
	t.Helper()
	o := usual()
	change(o)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mountOf returns the mount of a target, as text.
func mountOf(s *specs.Spec, target string) string {
	var found []string
	for _, m := range s.Mounts {
		if m.Destination == target {
			found = append(found, fmt.Sprint(m.Type, " ", m.Source, " ", strings.Join(m.Options, ",")))
		}
	}
	return strings.Join(found, "; ")
}

func hasNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	without := func(list []string, names ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(names, c) })
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"the defaults":            {func(*Options) {}, defaultCapabilities},
		"on the host's network":   {func(o *Options) { o.HostNetwork = true }, without(defaultCapabilities, "CAP_NET_RAW")},
		"added there":             {func(o *Options) { o.HostNetwork, o.CapAdd = true, []string{"net_raw"} }, append(without(defaultCapabilities, "CAP_NET_RAW"), "CAP_NET_RAW")},
		"in any case":             {func(o *Options) { o.CapAdd = []string{"cap_Sys_Ptrace", "SYS_PTRACE"} }, append(slices.Clone(defaultCapabilities), "CAP_SYS_PTRACE")},
		"one that is there":       {func(o *Options) { o.CapAdd = []string{"CHOWN"} }, defaultCapabilities},
		"all":                     {func(o *Options) { o.CapAdd = []string{"all"} }, allCapabilities},
		"all but one":             {func(o *Options) { o.CapAdd, o.CapDrop = []string{"ALL"}, []string{"SYS_ADMIN"} }, without(allCapabilities, "CAP_SYS_ADMIN")},
		"none":                    {func(o *Options) { o.CapDrop = []string{"ALL"} }, nil},
		"one of none":             {func(o *Options) { o.CapAdd, o.CapDrop = []string{"KILL"}, []string{"ALL"} }, []string{"CAP_KILL"}},
		"added and dropped":       {func(o *Options) { o.CapAdd, o.CapDrop = []string{"BPF"}, []string{"BPF"} }, defaultCapabilities},
		"all added and dropped":   {func(o *Options) { o.CapAdd, o.CapDrop = []string{"ALL"}, []string{"ALL"} }, nil},
		"privileged":              {func(o *Options) { o.Privileged = true }, allCapabilities},
		"privileged, in a prison": {func(o *Options) { o.Privileged, o.Host.Capabilities = true, []string{"CAP_CHOWN", "CAP_KILL"} }, []string{"CAP_CHOWN", "CAP_KILL"}},
		"privileged, one dropped": {func(o *Options) { o.Privileged, o.CapDrop = true, []string{"BPF"} }, without(allCapabilities, "CAP_BPF")},
	} {
		s := made(t, c.change)
		got := s.Process.Capabilities
		slices.Sort(got.Bounding)
		want := slices.Sorted(slices.Values(c.want))
		if !slices.Equal(got.Bounding, want) || !slices.Equal(got.Effective, got.Bounding) || !slices.Equal(got.Permitted, got.Bounding) || got.Inheritable != nil || got.Ambient != nil {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	user := made(t, func(o *Options) { o.User = account.IDs{UID: 1} }).Process.Capabilities
	if len(user.Bounding) != len(defaultCapabilities) || user.Effective != nil || user.Permitted != nil {
		t.Errorf("a user has %+v", user)
	}
	for _, bad := range []string{"", "CAP_", "CAP_ALL", "CAP_CAP_CHOWN", "chown ", "nosuch"} {
		for _, change := range []func(*Options){func(o *Options) { o.CapAdd = []string{bad} }, func(o *Options) { o.CapDrop = []string{bad} }} {
			o := usual()
			change(o)
			if _, err := New(o); err == nil || err.Error() != fmt.Sprintf("unknown capability: %q", "CAP_"+strings.TrimPrefix(strings.ToUpper(bad), "CAP_")) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	held := HeldCapabilities()
	if slices.ContainsFunc(held, func(c string) bool { return !slices.Contains(allCapabilities, c) }) {
		t.Errorf("this process has %q", held)
	}
}

// An ordinary user needs a delegated cgroup for limits, and can neither make device nodes nor allow devices.
func TestNested(t *testing.T) {
	t.Parallel()
	limits := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: to(int64(1))}}
	nested := func(change func(*Options)) func(*Options) {
		return func(o *Options) {
			o.Host.Nested, o.Cgroup = true, ""
			change(o)
		}
	}
	s := made(t, nested(func(*Options) {}))
	if s.Linux.Resources != nil || s.Linux.CgroupsPath != "" || hasNamespace(s, specs.CgroupNamespace) || mountOf(s, "/sys/fs/cgroup") != "" {
		t.Errorf("without a cgroup: %+v, %s", s.Linux, mountOf(s, "/sys/fs/cgroup"))
	}
	s = made(t, nested(func(o *Options) { o.Cgroup, o.Resources = "/user/x", limits }))
	if s.Linux.Resources.Pids == nil || s.Linux.Resources.Devices != nil || s.Linux.CgroupsPath != "/user/x" {
		t.Errorf("with a cgroup: %+v", s.Linux)
	}
	s = made(t, nested(func(o *Options) { o.Privileged = true }))
	if len(s.Linux.Devices) > 0 || s.Linux.Resources != nil || s.Linux.MaskedPaths != nil || s.Linux.Seccomp != nil {
		t.Errorf("privileged: %+v", s.Linux)
	}
	for want, change := range map[string]func(*Options){
		"resource limits need a cgroup, and there is none for this process: run without them, or as root": func(o *Options) { o.Resources = limits },
		"rules for devices need root: leave out --device-cgroup-rule":                                     func(o *Options) { o.DeviceRules = []specs.LinuxDeviceCgroup{{}} },
	} {
		o := usual()
		nested(change)(o)
		if _, err := New(o); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A sysfs shows the cgroups of the host to a user who owns some of them: they are hidden (CVE-2023-25809).
func TestHiddenCgroups(t *testing.T) {
	t.Parallel()
	const host, own = "none /sys rbind,nosuid,noexec,nodev,ro", "sysfs sysfs nosuid,noexec,nodev,ro"
	const hidden, visible = "tmpfs tmpfs ro,nosuid,noexec,nodev,mode=755,size=0", "cgroup cgroup ro,nosuid,noexec,nodev"
	for name, c := range map[string]struct {
		change       func(*Options)
		sys, cgroups string
	}{
		"root":                           {func(*Options) {}, own, visible},
		"root on the host's network":     {func(o *Options) { o.HostNetwork = true }, own, visible},
		"a user":                         {func(o *Options) { o.Host.Nested, o.Cgroup = true, "" }, own, ""},
		"a user on the host's network":   {func(o *Options) { o.Host.Nested, o.Cgroup, o.HostNetwork = true, "", true }, host, hidden},
		"with a cgroup":                  {func(o *Options) { o.Host.Nested, o.HostNetwork = true, true }, host, visible},
		"a host without cgroups":         {func(o *Options) { o.Host = Host{Nested: true}; o.Cgroup, o.HostNetwork = "", true }, host, ""},
		"privileged":                     {func(o *Options) { o.Privileged = true }, strings.Replace(own, ",ro", ",rw", 1), strings.Replace(visible, " ro", " rw", 1)},
		"without a namespace of its own": {func(o *Options) { o.HostCgroupns = true }, own, visible},
	} {
		s := made(t, c.change)
		if sys, cgroups := mountOf(s, "/sys"), mountOf(s, "/sys/fs/cgroup"); sys != c.sys || cgroups != c.cgroups {
			t.Errorf("%s: %s and %s, want %s and %s", name, sys, cgroups, c.sys, c.cgroups)
		}
	}
}

func TestIPC(t *testing.T) {
	t.Parallel()
	const bind = " rbind,rprivate"
	for name, c := range map[string]struct {
		change     func(*Options)
		shm, queue string
		namespace  bool
	}{
		"own":                       {func(*Options) {}, "tmpfs shm nosuid,noexec,nodev,mode=1777,size=65536k", "mqueue mqueue nosuid,noexec,nodev", true},
		"size":                      {func(o *Options) { o.ShmSize = 7 }, "tmpfs shm nosuid,noexec,nodev,mode=1777,size=7", "mqueue mqueue nosuid,noexec,nodev", true},
		"no shm":                    {func(o *Options) { o.Isolation.NoShm = true }, "", "mqueue mqueue nosuid,noexec,nodev", true},
		"the host's":                {func(o *Options) { o.Isolation.HostIPC = true }, "bind /dev/shm" + bind, "mqueue mqueue nosuid,noexec,nodev", false},
		"the host's, for a user":    {func(o *Options) { o.Isolation.HostIPC, o.Host.Nested, o.Cgroup = true, true, "" }, "bind /dev/shm" + bind, "bind /dev/mqueue" + bind, false},
		"a host without queues":     {func(o *Options) { o.Isolation.HostIPC, o.Host, o.Cgroup = true, Host{Nested: true}, "" }, "bind /dev/shm" + bind, "", false},
		"a mount of the user on it": {func(o *Options) { o.Mounts = []specs.Mount{{Destination: "/dev/shm", Type: "bind", Source: "/x"}} }, "bind /x ", "mqueue mqueue nosuid,noexec,nodev", true},
	} {
		s := made(t, c.change)
		if shm, queue := mountOf(s, "/dev/shm"), mountOf(s, "/dev/mqueue"); shm != c.shm || queue != c.queue || hasNamespace(s, specs.IPCNamespace) != c.namespace {
			t.Errorf("%s: %s and %s, namespaces %v", name, shm, queue, s.Linux.Namespaces)
		}
	}
}

// Sysctls of a namespace that is the host's would change the host.
func TestSysctls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                 string
		hostNetwork, hostIPC bool
		fails                string
	}{
		{"net.core.somaxconn", false, false, ""},
		{"net.core.somaxconn", true, false, `sysctl "net.core.somaxconn" not allowed in host network namespace`},
		{"net.core.somaxconn", false, true, ""},
		{"kernel.msgmax", true, false, ""},
		{"kernel.msgmax", false, true, `sysctl "kernel.msgmax" not allowed in host ipc namespace`},
	} {
		o := usual()
		o.HostNetwork, o.Isolation.HostIPC, o.Isolation.Sysctls = c.hostNetwork, c.hostIPC, map[string]string{c.name: "1"}
		s, err := New(o)
		if c.fails != "" {
			if err == nil || err.Error() != c.fails {
				t.Errorf("%s: %v, want %s", c.name, err, c.fails)
			}
		} else if err != nil || s.Linux.Sysctl[c.name] != "1" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The domain name is a field for crun and in user namespaces, a sysctl for root's runc, and the host's with the host's UTS.
func TestDomainname(t *testing.T) {
	t.Parallel()
	sysctls := map[string]string{"kernel.msgmax": "1"}
	for name, c := range map[string]struct {
		change        func(*Options)
		field, sysctl string
	}{
		"runc":       {func(*Options) {}, "", "a.b"},
		"crun":       {func(o *Options) { o.Host.Crun = true }, "a.b", ""},
		"a user":     {func(o *Options) { o.Host.Nested = true }, "a.b", ""},
		"the host's": {func(o *Options) { o.Isolation.HostUTS = true }, "", ""},
	} {
		s := made(t, func(o *Options) {
			o.Isolation.Domainname, o.Isolation.Sysctls, o.Hostname = "a.b", sysctls, "h"
			c.change(o)
		})
		if s.Domainname != c.field || s.Linux.Sysctl["kernel.domainname"] != c.sysctl || s.Linux.Sysctl["kernel.msgmax"] != "1" {
			t.Errorf("%s: %q, %v", name, s.Domainname, s.Linux.Sysctl)
		}
		if host := !hasNamespace(s, specs.UTSNamespace); host != (s.Hostname == "") {
			t.Errorf("%s: the host's namespace: %t, hostname %q", name, host, s.Hostname)
		}
	}
	if len(sysctls) != 1 {
		t.Errorf("the user's sysctls became %v", sysctls)
	}
}

// A privileged process gets BuildKit's devices, in the same order each time.
func TestPrivilegedDevices(t *testing.T) {
	t.Parallel()
	var paths []string
	for range 3 {
		s := made(t, func(o *Options) { o.Privileged = true })
		var list []string
		for _, d := range s.Linux.Devices {
			list = append(list, fmt.Sprintf("%s=%s%d:%d", d.Path, d.Type, d.Major, d.Minor))
		}
		if paths != nil && !slices.Equal(paths, list) {
			t.Errorf("%q, then %q", paths, list)
		}
		paths = list
		if len(s.Linux.Resources.Devices) != 2 || !s.Linux.Resources.Devices[0].Allow {
			t.Errorf("allowed are %+v", s.Linux.Resources.Devices)
		}
		if s.Linux.Seccomp != nil || s.Linux.MaskedPaths != nil || s.Linux.ReadonlyPaths != nil {
			t.Errorf("restrictions: %+v", s.Linux)
		}
	}
	for _, want := range []string{"/dev/fuse=c10:229", "/dev/kvm=c10:232", "/dev/net/tun=c10:200", "/dev/loop7=b7:7", "/dev/kmsg=c1:11"} {
		if !slices.Contains(paths, want) {
			t.Errorf("no %s in %q", want, paths)
		}
	}
}

// Options of a user are not changed by a specification, which is.
func TestOptionsStay(t *testing.T) {
	t.Parallel()
	o := usual()
	o.Resources = &specs.LinuxResources{}
	o.Devices = []Device{{Node: specs.LinuxDevice{Path: "/dev/x"}, Access: "r"}}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Linux.MaskedPaths[0] = "changed"
	if o.Resources.Devices != nil || maskedPaths[0] == "changed" {
		t.Errorf("%+v, %s", o.Resources, maskedPaths[0])
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source   string
		readOnly bool
		want     string
	}{
		{dir, false, "rbind,rprivate"},
		{dir, true, "rbind,rprivate,ro,rro"},
		{file, true, "rbind,rprivate,ro"},
		{filepath.Join(dir, "missing"), true, "rbind,rprivate,ro"},
	} {
		m := Bind(c.source, "/t", c.readOnly, false)
		if got := strings.Join(m.Options, ","); got != c.want || m.Type != "bind" || m.Destination != "/t" || m.Source != c.source {
			t.Errorf("%s: %+v, want %s", c.source, m, c.want)
		}
	}
}

// A remount in a user namespace repeats the flags of the filesystem, which the kernel has locked.
func TestLockedFlags(t *testing.T) {
	t.Parallel()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]string{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 3 {
			options[f[1]] = f[3] // the last mount covers those before
		}
	}
	for _, at := range []string{"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp"} {
		list, ok := options[at]
		if !ok {
			continue
		}
		want := "rbind,rprivate,ro,rro"
		for _, flag := range []string{"nodev", "noexec", "nosuid"} {
			if slices.Contains(strings.Split(list, ","), flag) {
				want += "," + flag
			}
		}
		if got := strings.Join(Bind(at, "/t", true, true).Options, ","); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

func TestTerminals(t *testing.T) {
	t.Parallel()
	for group, want := range map[bool]string{true: "mode=0620,gid=5", false: "ptmxmode=0666,mode=0620"} {
		s := made(t, func(o *Options) { o.Host.TTYGroup = group })
		if got := mountOf(s, "/dev/pts"); !strings.HasSuffix(got, want) {
			t.Errorf("the group exists: %t: %s", group, got)
		}
	}
}

func TestSeccompProfiles(t *testing.T) {
	t.Parallel()
	own := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}`
	s := made(t, func(o *Options) { o.Isolation.SeccompProfile, o.Privileged = own, true })
	if s.Linux.Seccomp == nil || s.Linux.Seccomp.DefaultAction != specs.ActAllow || len(s.Linux.Seccomp.Syscalls) != 1 {
		t.Errorf("a profile of the user: %+v", s.Linux.Seccomp)
	}
	o := usual()
	o.Isolation.SeccompProfile = "{"
	if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "prepare sandbox: ") {
		t.Errorf("a broken profile: %v", err)
	}
	s = made(t, func(*Options) {})
	if slices.Contains(s.Linux.Seccomp.Architectures, specs.ArchX32) {
		t.Error("x32 is allowed")
	}
	if err := AdaptToCrun(s); err != nil || s.Annotations[compiledFilter] == "" {
		t.Errorf("the filter is not compiled for crun: %v", err)
	}
	none := made(t, func(o *Options) { o.Isolation.NoSeccomp = true })
	if err := AdaptToCrun(none); err != nil || none.Annotations != nil {
		t.Errorf("no filter is compiled: %v, %v", none.Annotations, err)
	}
	// crun compiles what mica cannot.
	s = made(t, func(o *Options) { o.Isolation.SeccompProfile = strings.Replace(own, "ERRNO", "TRAP", 1) })
	if err := AdaptToCrun(s); err != nil || s.Annotations != nil {
		t.Errorf("an action that mica does not know: %v, %v", s.Annotations, err)
	}
}

// TestAnnotations: the runtime gets those of the user beside its own, which are not the user's to change.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	given := map[string]string{"a": "b", compiledFilter: "mine"}
	s := made(t, func(o *Options) { o.Annotations = given })
	if err := AdaptToCrun(s); err != nil || s.Annotations["a"] != "b" || s.Annotations[compiledFilter] == "mine" || given[compiledFilter] != "mine" {
		t.Errorf("%v, %v", s.Annotations, err)
	}
}
