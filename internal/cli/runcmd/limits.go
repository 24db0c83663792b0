package runcmd

import (
	"context"
	"fmt"

	"github.com/docker/cli/opts"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/container"
)

// runLimits are the flags that limit what a container uses of the host.
type runLimits struct {
	container.Limits

	ulimits                *opts.UlimitOpt
	oomScoreAdj            int
	cgroupns, cgroupParent string

	// set are the limits of the flags, adapted to this host.
	set *specs.LinuxResources
}

func (l *runLimits) add(fl *pflag.FlagSet) {
	l.ulimits = opts.NewUlimitOpt(nil)
	fl.VarP((*opts.MemBytes)(&l.Memory), "memory", "m", "Memory limit")
	fl.Var((*opts.MemSwapBytes)(&l.Swap), "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	fl.Var((*opts.MemBytes)(&l.Reservation), "memory-reservation", "Memory soft limit")
	fl.Int64Var(&l.Swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	fl.Var((*opts.NanoCPUs)(&l.NanoCPUs), "cpus", "Number of CPUs")
	fl.Int64VarP(&l.Shares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fl.Int64Var(&l.Period, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	fl.Int64Var(&l.Quota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	fl.StringVar(&l.CpusetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fl.StringVar(&l.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	fl.Int64Var(&l.PIDs, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	fl.Uint16Var(&l.IOWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable")
	fl.Var(l.ulimits, "ulimit", "Ulimit options")
	fl.BoolVar(&l.OOMKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	fl.IntVar(&l.oomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	fl.StringVar(&l.cgroupns, "cgroupns", "", "Cgroup namespace to use (host|private)")
	fl.StringVar(&l.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
}

// open checks the limits and opens the store, in a cgroup where they can be set.
func (l *runLimits) open(ctx context.Context, app *command.App) error {
	var err error
	if l.set, err = l.Resources(); err != nil {
		return err
	}
	warnings, err := cgroup.Adapt(l.set, l.Swap != 0)
	if err != nil {
		return err
	}
	if err := app.OpenLimited(ctx, cgroup.Controllers(l.set), l.cgroupParent); err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(app.Stderr, "WARNING: "+w)
	}
	return nil
}
