package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/runtimespec"
)

// The runtime mounts what lies in the kernel's filesystems, with the options that mica gives to other mounts itself.
func TestKernelMount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := &bundle{p: &Process{}}
	for name, c := range map[string]struct {
		m    Mount
		want string
	}{
		"a bind":          {Mount{Target: "dev/x"}, "bind /dev/x rbind,rprivate"},
		"a union":         {Mount{Target: "/dev//x/", Type: MountUnion}, "bind /dev/x rbind,rprivate"},
		"read-only":       {Mount{Target: "/dev/x", ReadOnly: true}, "bind /dev/x rbind,rprivate,ro,rro"},
		"a secret":        {Mount{Target: "/dev/x", Type: MountSecret, Mode: 0o400}, "bind /dev/x rbind,rprivate,ro,rro,nodev,nosuid,noexec"},
		"a program":       {Mount{Target: "/dev/x", Type: MountSecret, Mode: 0o500}, "bind /dev/x rbind,rprivate,ro,rro,nodev,nosuid"},
		"a tmpfs":         {Mount{Target: "/dev/x", Type: MountTmpfs}, "tmpfs /dev/x nosuid"},
		"with options":    {Mount{Target: "/dev/x", Type: MountTmpfs, Size: 7, Options: "mode=700,noexec", ReadOnly: true}, "tmpfs /dev/x nosuid,mode=700,noexec,size=7,ro"},
		"above the root":  {Mount{Target: "/../dev/x", Type: MountTmpfs}, "tmpfs /dev/x nosuid"},
		"an agent socket": {Mount{Target: "/dev/x", Type: MountSocket}, "bind /dev/x rbind,rprivate"},
	} {
		m := b.kernelMount(c.m, dir)
		// In a user namespace a read-only mount repeats the flags of the directory's filesystem, which this host determines.
		locked := runtimespec.Bind(dir, "/", true, true).Options[len(runtimespec.Bind(dir, "/", true, false).Options):]
		text := strings.Join(m.Options, ",")
		if c.m.Type != MountTmpfs && c.m.ReadOnly || c.m.Type == MountSecret {
			text = strings.Replace(text, "rro"+strings.Join(append([]string{""}, locked...), ","), "rro", 1)
		}
		if got := fmt.Sprint(m.Type, " ", m.Destination, " ", text); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Everything that the user asks for is in the specification, and the mounts that are left to the runtime.
func TestSpec(t *testing.T) {
	t.Parallel()
	p := &Process{
		Args: []string{"a", "b"}, Env: []string{"A=b"}, Cwd: "w", Hostname: "h", TTY: true, ReadOnlyRoot: true, Network: NetworkNone,
		Settings: runtimespec.Settings{CapAdd: []string{"bpf"}, OOMScoreAdj: 7, Isolation: runtimespec.Isolation{NoNewPrivileges: true}},
		Mounts:   []Mount{{Target: "/data"}, {Target: "/dev/x"}},
	}
	b := newBundle(t, p, nil)
	b.sourced(t)
	b.left = []bool{false, true}
	s, err := b.spec()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %s %s %t %t %d %t", s.Process.Args, s.Process.Env, s.Process.Cwd, s.Hostname, s.Process.Terminal, s.Root.Readonly,
		*s.Process.OOMScoreAdj, s.Process.NoNewPrivileges)
	if want := "[a b] [A=b] /w h true true 7 true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	targets := map[string]string{}
	for _, m := range s.Mounts {
		targets[m.Destination] = m.Source
	}
	if _, ok := targets["/data"]; ok || targets["/dev/x"] != b.sources[1] {
		t.Errorf("the runtime mounts %v", targets)
	}
	if s.Root.Path != b.root || s.Process.User.UID != uint32(os.Getuid()) {
		t.Errorf("%s, %+v", s.Root.Path, s.Process.User)
	}
	p.CapAdd = []string{"nosuch"}
	if _, err := b.spec(); err == nil || err.Error() != `unknown capability: "CAP_NOSUCH"` {
		t.Errorf("%v", err)
	}
}

// In a user namespace devices are mounts, because none can be made there.
func TestWithDevices(t *testing.T) {
	t.Parallel()
	p := &Process{
		Mounts:   make([]Mount, 1, 9),
		Settings: runtimespec.Settings{Devices: []runtimespec.Device{{Source: "/dev/null", Node: specs.LinuxDevice{Path: "/dev/x"}}}},
	}
	if got := p.withDevices(false); got != p {
		t.Error("root's process is changed")
	}
	with := p.withDevices(true)
	if len(with.Mounts) != 2 || with.Mounts[1].Source != "/dev/null" || with.Mounts[1].Target != "/dev/x" || with.Mounts[1].Type != MountBind {
		t.Errorf("%+v", with.Mounts)
	}
	if len(p.Mounts) != 1 || p.Mounts[:2][1].Source != "" {
		t.Errorf("the user's process has %+v", p.Mounts[:2])
	}
	if got := (&Process{}).withDevices(true); len(got.Mounts) > 0 {
		t.Errorf("%+v", got.Mounts)
	}
}

func TestWithInit(t *testing.T) {
	t.Parallel()
	p := &Process{Init: true, Mounts: make([]Mount, 0, 1)}
	with := p.withInit()
	if len(with.Mounts) != 1 || with.Mounts[0].Target != "/sbin/docker-init" || !with.Mounts[0].ReadOnly {
		t.Errorf("%+v", with.Mounts)
	}
	if len(p.Mounts) != 0 || p.Mounts[:1][0].Target != "" {
		t.Error("the user's process is changed")
	}
	if none := (&Process{}); none.withInit() != none {
		t.Error("a process without an init is changed")
	}
}

func TestHostNetwork(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Network]bool{NetworkHost: true, NetworkNone: false, NetworkOwn: true, NetworkProxy: false} {
		b := &bundle{dir: "/b", p: &Process{Network: kind}}
		if b.onHostNetwork() != want {
			t.Errorf("%d: %t", kind, !want)
		}
	}
}

func TestTmpfs(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		"":                           "0 ",
		"ro":                         "1 ",
		"ro,rw":                      "0 ",
		"rw,ro":                      "1 ",
		"nosuid,nodev,noexec":        "e ",
		"nosuid,suid,defaults":       "0 ",
		"size=1m,,mode=700":          "0 size=1m,mode=700",
		"noatime,size=1,strictatime": "1000400 size=1",
		"uid=7,noexec,exec,gid=8":    "0 uid=7,gid=8",
		"huge=always":                "0 huge=always",
	} {
		flags, data := parseTmpfs(strings.Split(options, ","))
		if got := strconv.FormatUint(uint64(flags), 16) + " " + strings.Join(data, ","); got != want {
			t.Errorf("%s: %s, want %s", options, got, want)
		}
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if err := mountTmpfs("/nosuch", int(file.Fd()), Mount{}); err != unix.ENOTDIR { //nolint:errorlint // it is returned as it is
		t.Errorf("on a device: %v", err)
	}
}

// The cgroup of a process has a name by which others see whether its mica still runs.
func TestCgroupPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ delegated, parent, want string }{
		{"", "", "/mica/run-1-2-abc"},
		{"", "other", "/other/run-1-2-abc"},
		{"", "/a/../../b", "/b/run-1-2-abc"},
		{"/user.slice/x.scope", "", "/user.slice/x.scope/run-1-2-abc"},
		{"/user.slice/x.scope", "/own", "/user.slice/x.scope/own/run-1-2-abc"},
		{"/user.slice/x.scope", "../../y", "/user.slice/x.scope/y/run-1-2-abc"},
	} {
		b := &bundle{dir: "/store/tmp/run-abc", cgroup: c.delegated, owner: "run-1-2-", p: &Process{CgroupParent: c.parent}}
		if got := b.cgroupPath(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if (&bundle{}).ownCgroup() || !(&bundle{cgroup: "/x"}).ownCgroup() {
		t.Error("in a user namespace, a cgroup must be delegated")
	}
}

// The start time is the 22nd field; the second may have spaces and parentheses.
func TestStartTime(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	const rest = " S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10\n"
	for pid, stat := range map[string]string{"7": "7 (sh)" + rest, "8": "8 (a) b (c) 1 2)" + rest, "9": "9 (sh) S 1", "10": "", "11": "11 (sh" + rest} {
		if err := os.MkdirAll(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, want := range map[int]uint64{7: 4711, 8: 4711, 9: 0, 10: 0, 12: 0} {
		if got := startTime(proc, pid); got != want {
			t.Errorf("%d: %d, want %d", pid, got, want)
		}
	}
	for name, want := range map[string]bool{
		"run-7-4711-abc": true, "run-8-4711-x": true, "run-7-4712-abc": false, "run-12-4711-abc": false, "run-7-4711": false, "run--1-0-x": false,
		"run-x-4711-abc": false, "run-9-0-abc": false, "run-7-04711-a": false,
	} {
		if got := ownerLives(proc, name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
