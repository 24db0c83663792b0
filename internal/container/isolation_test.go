package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

func TestIsolationCheck(t *testing.T) {
	t.Parallel()
	const joined = "the namespaces of another container are not supported"
	for name, c := range map[string]struct {
		of   Isolation
		want string
	}{
		"nothing":            {},
		"IPC of the host":    {of: Isolation{IPC: "host"}},
		"IPC of its own":     {of: Isolation{IPC: "private"}},
		"IPC to share":       {of: Isolation{IPC: "shareable"}},
		"no IPC":             {of: Isolation{IPC: "none"}},
		"UTS, users":         {of: Isolation{UTS: "host", UserNS: "host"}},
		"IPC of a container": {Isolation{IPC: "container:x"}, joined},
		"PID of a container": {Isolation{PID: "container:x"}, joined},
		"IPC of nobody":      {Isolation{IPC: "x"}, "invalid IPC mode: x"},
		"PID of the host":    {Isolation{PID: "host"}, "--pid host is not possible: mica's processes have a pid namespace that ends with mica: leave it out"},
		"PID of nobody":      {Isolation{PID: "x"}, "--pid: invalid PID mode"},
		"UTS of its own":     {Isolation{UTS: "private"}, "--uts: invalid UTS mode"},
		"users of nobody":    {Isolation{UserNS: "keep-id"}, "--userns: invalid USER mode"},
	} {
		if err := c.of.Check(); text(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestIsolationOfASandbox(t *testing.T) {
	t.Parallel()
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte("{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	read, err := ReadProfiles([]string{"seccomp:" + profile})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		of   Isolation
		want runtimespec.Isolation
	}{
		"nothing":          {},
		"the host's":       {Isolation{IPC: "host", UTS: "host"}, runtimespec.Isolation{HostIPC: true, HostUTS: true}},
		"no IPC":           {Isolation{IPC: "none"}, runtimespec.Isolation{NoShm: true}},
		"names":            {Isolation{Domainname: "d", Sysctls: map[string]string{"a": "b"}}, runtimespec.Isolation{Domainname: "d", Sysctls: map[string]string{"a": "b"}}},
		"a profile":        {Isolation{Security: read}, runtimespec.Isolation{SeccompProfile: `{"defaultAction":"SCMP_ACT_ALLOW"}`}},
		"the last profile": {Isolation{Security: append(read, "seccomp=unconfined")}, runtimespec.Isolation{NoSeccomp: true}},
		"paths":            {Isolation{MaskedPaths: []string{}, ReadonlyPaths: []string{"/proc/a"}}, runtimespec.Isolation{MaskedPaths: []string{}, ReadonlyPaths: []string{"/proc/a"}}},
	} {
		got, err := c.of.Sandbox()
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	if _, err := (&Isolation{Security: []string{"x"}}).Sandbox(); text(err) != `invalid --security-opt: "x"` {
		t.Errorf("%v", err)
	}
}

func TestWritableCgroups(t *testing.T) {
	t.Parallel()
	want := "--security-opt writable-cgroups is not supported: run with --privileged"
	if err := securityOptions([]string{"writable-cgroups=true"}, &runtimespec.Isolation{}); text(err) != want {
		t.Errorf("%v", err)
	}
}

func TestParseNetwork(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]sandbox.Network{"default": sandbox.NetworkOwn, "bridge": sandbox.NetworkOwn, "host": sandbox.NetworkHost, "none": sandbox.NetworkNone} {
		if got, err := ParseNetwork(name); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "mine", "container:x"} {
		if _, err := ParseNetwork(name); text(err) != `network "`+name+`" is not supported: use default, host or none` {
			t.Errorf("%s: %v", name, err)
		}
	}
	if own, host := Gateway("default"), Gateway("host"); own != network.Gateway().String() || host != "127.0.0.1" {
		t.Errorf("gateways %s, %s", own, host)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		publish, exposed []string
		all              bool
		want             []string
		err              string
	}{
		"nothing":             {},
		"published":           {publish: []string{"8080:80", "53:53/udp"}, exposed: []string{"99/tcp"}, want: []string{"80/tcp", "53/udp"}},
		"all":                 {publish: []string{"8080:80"}, exposed: []string{"80/tcp", "53/udp", "22"}, all: true, want: []string{"80/tcp", "22/tcp", "53/udp"}},
		"exposed twice":       {exposed: []string{"80/tcp", "80/tcp", "80"}, all: true, want: []string{"80/tcp"}},
		"a range":             {exposed: []string{"80-82"}, all: true, want: []string{"80/tcp", "81/tcp", "82/tcp"}},
		"exposed on a port":   {exposed: []string{"1:2"}, err: "invalid port format for --expose: 1:2"},
		"not a port":          {publish: []string{"x"}, err: "invalid containerPort: x"},
		"not an exposed port": {exposed: []string{"x"}, err: "invalid containerPort: x"},
	} {
		got, err := Ports(c.publish, c.exposed, c.all)
		var names []string
		for _, p := range got {
			names = append(names, p.String())
		}
		if diff := cmp.Diff(c.want, names); text(err) != c.err || err == nil && diff != "" {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.err, diff)
		}
	}
}
