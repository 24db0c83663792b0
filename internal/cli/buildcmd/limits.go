package buildcmd

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/cli/command"
)

// openBuilds checks the limits of the steps of builds and opens the store, in a cgroup where they can be set.
func openBuilds(ctx context.Context, app *command.App, builds ...*buildspec.Spec) error {
	var controllers []string
	parent := ""
	for _, s := range builds {
		r := linuxResources(&s.Limits)
		if err := cgroup.Check(r); err != nil {
			return err
		}
		controllers = append(controllers, cgroup.Controllers(r)...)
		parent = cmp.Or(parent, s.CgroupParent)
	}
	slices.Sort(controllers)
	return app.OpenLimited(ctx, slices.Compact(controllers), parent)
}

// linuxResources are limits in the runtime's terms. The front end does the same.
func linuxResources(l *buildspec.Limits) *specs.LinuxResources {
	unsigned := func(n *int64) *uint64 {
		if n == nil {
			return nil
		}
		u := uint64(*n)
		return &u
	}
	memory := &specs.LinuxMemory{Limit: l.Memory, Swap: l.MemorySwap}
	cpu := &specs.LinuxCPU{
		Shares: unsigned(l.CPUShares), Period: unsigned(l.CPUPeriod), Quota: l.CPUQuota, Cpus: l.CPUs, Mems: l.MemoryNodes,
	}
	r := &specs.LinuxResources{}
	if *memory != (specs.LinuxMemory{}) {
		r.Memory = memory
	}
	if *cpu != (specs.LinuxCPU{}) {
		r.CPU = cpu
	}
	return r
}
