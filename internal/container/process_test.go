package container

import (
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	p, err := (&Options{
		Args: []string{"sh"}, Env: []string{"A=1"}, Cwd: "/w", User: "7", Hostname: "h", Network: "none", ExtraHosts: []string{"db:192.0.2.7"},
		Init: true, TTY: true, CapAdd: []string{"ALL"}, Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}, CgroupNS: "host",
		Isolation: Isolation{UTS: "host"},
	}).Process()
	if err != nil {
		t.Fatal(err)
	}
	if p.Network != sandbox.NetworkNone || !p.Init || !p.TTY || !p.HostCgroupns || !p.Isolation.HostUTS || !p.WritableHosts || p.ExtraHosts[0].IP != "192.0.2.7" ||
		!slices.Equal(p.Rlimits, []runtimespec.Rlimit{{Name: "nofile", Soft: 1, Hard: 2}}) || p.Cwd != "/w" || p.User != "7" || p.CapAdd[0] != "ALL" {
		t.Errorf("%+v", p)
	}
	for name, c := range map[string]struct {
		o   Options
		err string
	}{
		"a relative directory": {Options{Cwd: "w"}, `the working directory "w" is invalid, it needs to be an absolute path`},
		"a network":            {Options{Network: "mine"}, `network "mine" is not supported: use default, host or none`},
		"a cgroup namespace":   {Options{Network: "none", CgroupNS: "x"}, "--cgroupns: invalid CGROUP mode"},
		"a score":              {Options{Network: "none", OOMScoreAdj: 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"},
		"a security option":    {Options{Network: "none", Isolation: Isolation{Security: []string{"x"}}}, `invalid --security-opt: "x"`},
	} {
		if _, err := c.o.Process(); text(err) != c.err {
			t.Errorf("%s: %v, want %s", name, err, c.err)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	image := ocispec.ImageConfig{Entrypoint: []string{"e"}, Cmd: []string{"c"}}
	for name, c := range map[string]struct {
		entrypoint, args, want []string
	}{
		"the image's":            {nil, nil, []string{"e", "c"}},
		"arguments":              {nil, []string{"a"}, []string{"e", "a"}},
		"another entrypoint":     {[]string{"x"}, nil, []string{"x"}},
		"no entrypoint":          {[]string{}, []string{"a"}, []string{"a"}},
		"nothing of the image's": {[]string{}, nil, nil},
	} {
		got, err := Command(image, c.entrypoint, c.args)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}
