package container

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/network"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// Options are what docker run's flags, or the types of docker's API, say of the process of a container. Its root filesystem, its mounts,
// devices and streams are not among them.
type Options struct {
	Args, Env               []string
	Cwd, User               string
	Groups                  []string
	Hostname                string
	Network                 string
	ExtraHosts              []string
	Resolver                network.Resolver
	ReadOnlyRoot, Init, TTY bool
	Privileged              bool
	CapAdd, CapDrop         []string
	ShmSize                 int64
	Isolation               Isolation
	Resources               *specs.LinuxResources // adapted to this host
	Ulimits                 []*container.Ulimit
	OOMScoreAdj             int
	CgroupNS, CgroupParent  string
	Umask                   *uint32
	Annotations             map[string]string
}

// Process is the process that the options describe.
func (o *Options) Process() (*sandbox.Process, error) {
	if o.Cwd != "" && !filepath.IsAbs(o.Cwd) {
		return nil, fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", o.Cwd)
	}
	p := &sandbox.Process{
		Args: o.Args, Init: o.Init, Resolver: o.Resolver, Env: o.Env, Cwd: o.Cwd, User: o.User, RootOwnsCwd: true, Groups: o.Groups,
		ReadOnlyRoot: o.ReadOnlyRoot, WritableHosts: true, Hostname: o.Hostname, CgroupParent: o.CgroupParent, TTY: o.TTY,
		Settings: runtimespec.Settings{
			CapAdd: o.CapAdd, CapDrop: o.CapDrop, Privileged: o.Privileged, ShmSize: o.ShmSize, Resources: o.Resources, OOMScoreAdj: o.OOMScoreAdj,
			Umask: o.Umask, Annotations: o.Annotations,
		},
	}
	for _, u := range o.Ulimits {
		p.Rlimits = append(p.Rlimits, runtimespec.Rlimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if err := CheckOOMScore(o.OOMScoreAdj); err != nil {
		return nil, err
	}
	switch o.CgroupNS {
	case "", "private":
	case "host":
		p.HostCgroupns = true
	default:
		return nil, errors.New("--cgroupns: invalid CGROUP mode")
	}
	var err error
	if p.Network, err = ParseNetwork(o.Network); err != nil {
		return nil, err
	}
	if p.ExtraHosts, err = ExtraHosts(o.ExtraHosts, Gateway(o.Network)); err != nil {
		return nil, err
	}
	p.Isolation, err = o.Isolation.Sandbox()
	return p, err
}

// Command is the command line of a container: ENTRYPOINT and CMD of the image, either replaced. A new entrypoint clears CMD; one that is
// empty and not nil removes that of the image.
func Command(image ocispec.ImageConfig, entrypoint, args []string) ([]string, error) {
	cmd := image.Cmd
	if entrypoint == nil {
		entrypoint = image.Entrypoint
	} else {
		cmd = nil
	}
	if len(args) > 0 {
		cmd = args
	}
	argv := append(append([]string(nil), entrypoint...), cmd...)
	if len(argv) == 0 {
		return nil, errors.New("no command specified")
	}
	return argv, nil
}
