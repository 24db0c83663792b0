package runcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/docker/cli/opts"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/runtimespec"
	"github.com/micabuild/mica/internal/sandbox"
)

// runLimits are the flags that limit what a container uses of the host.
type runLimits struct {
	memory, reservation         opts.MemBytes
	swap                        opts.MemSwapBytes
	cpus                        opts.NanoCPUs
	swappiness                  int64
	shares, period, quota, pids int64
	cpusetCPUs, cpusetMems      string
	ioWeight                    uint16
	ulimits                     *opts.UlimitOpt
	oomKillDisable              bool
	oomScoreAdj                 int
	cgroupns, cgroupParent      string

	// set is what the flags come to on this host.
	set *specs.LinuxResources
}

func (l *runLimits) add(fl *pflag.FlagSet) {
	l.ulimits = opts.NewUlimitOpt(nil)
	fl.VarP(&l.memory, "memory", "m", "Memory limit")
	fl.Var(&l.swap, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	fl.Var(&l.reservation, "memory-reservation", "Memory soft limit")
	fl.Int64Var(&l.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	fl.Var(&l.cpus, "cpus", "Number of CPUs")
	fl.Int64VarP(&l.shares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fl.Int64Var(&l.period, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	fl.Int64Var(&l.quota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	fl.StringVar(&l.cpusetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fl.StringVar(&l.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	fl.Int64Var(&l.pids, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	fl.Uint16Var(&l.ioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable")
	fl.Var(l.ulimits, "ulimit", "Ulimit options")
	fl.BoolVar(&l.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	fl.IntVar(&l.oomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	fl.StringVar(&l.cgroupns, "cgroupns", "", "Cgroup namespace to use (host|private)")
	fl.StringVar(&l.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
}

// open checks the limits and opens the store, in a cgroup where they can be set.
func (l *runLimits) open(ctx context.Context, app *command.App) error {
	var err error
	if l.set, err = l.resources(); err != nil {
		return err
	}
	warnings, err := cgroup.Adapt(l.set, l.swap != 0)
	if err != nil {
		return err
	}
	if err := app.OpenLimited(ctx, cgroup.Controllers(l.set), l.cgroupParent); err != nil {
		return err
	}
	if l.oomKillDisable && l.memory == 0 {
		warnings = append([]string{"Disabling the OOM killer on containers without setting a '-m/--memory' limit may be dangerous."}, warnings...)
	}
	for _, w := range warnings {
		fmt.Fprintln(app.Stderr, "WARNING: "+w)
	}
	return nil
}

// resources are the limits of cgroups, as Docker's daemon makes them of the flags.
func (l *runLimits) resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	var err error
	if r.Memory, err = l.memoryLimits(); err != nil {
		return nil, err
	}
	if r.CPU, err = l.cpuLimits(); err != nil {
		return nil, err
	}
	if l.ioWeight != 0 {
		r.BlockIO = &specs.LinuxBlockIO{Weight: &l.ioWeight}
	}
	if l.pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.pids}
	}
	return r, cgroup.Check(r)
}

func (l *runLimits) memoryLimits() (*specs.LinuxMemory, error) {
	m := &specs.LinuxMemory{Limit: nonZero(l.memory.Value()), Reservation: nonZero(l.reservation.Value())}
	switch swap := l.swap.Value(); {
	case swap > 0, swap < 0 && m.Limit != nil:
		m.Swap = &swap
	case m.Limit != nil:
		swap = 2 * *m.Limit
		m.Swap = &swap
	}
	if l.swappiness < -1 || l.swappiness > 100 {
		return nil, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", l.swappiness)
	}
	if l.swappiness >= 0 {
		n := uint64(l.swappiness)
		m.Swappiness = &n
	}
	if l.oomKillDisable {
		m.DisableOOMKiller = &l.oomKillDisable
	}
	return orNil(m), nil
}

func (l *runLimits) cpuLimits() (*specs.LinuxCPU, error) {
	c := &specs.LinuxCPU{Cpus: l.cpusetCPUs, Mems: l.cpusetMems}
	if l.period != 0 {
		n := uint64(l.period)
		c.Period = &n
	}
	if l.quota > 0 {
		c.Quota = &l.quota // less is no limit
	}
	if l.shares < 0 {
		return nil, errors.New("shares: invalid argument")
	}
	if l.shares > 0 {
		n := uint64(l.shares)
		c.Shares = &n
	}
	if l.cpus == 0 {
		return orNil(c), nil
	}
	switch {
	case c.Period != nil:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Period cannot both be set") //nolint:staticcheck // Docker's words
	case c.Quota != nil:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Quota cannot both be set") //nolint:staticcheck // Docker's words
	}
	quota, period, err := cgroup.CPUs(l.cpus.Value())
	if err != nil {
		return nil, err
	}
	c.Quota, c.Period = &quota, &period
	return c, nil
}

// orNil is nothing in place of limits of which none is set.
func orNil[T comparable](limits *T) *T {
	var none T
	if *limits == none {
		return nil
	}
	return limits
}

func nonZero(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// apply sets the limits of a process.
func (l *runLimits) apply(p *sandbox.Process) error {
	p.Resources, p.CgroupParent = l.set, l.cgroupParent
	for _, u := range l.ulimits.GetList() {
		p.Rlimits = append(p.Rlimits, runtimespec.Rlimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if err := checkOOMScore(l.oomScoreAdj); err != nil {
		return err
	}
	p.OOMScoreAdj = l.oomScoreAdj
	switch l.cgroupns {
	case "", "private":
	case "host":
		p.HostCgroupns = true
	default:
		return errors.New("--cgroupns: invalid CGROUP mode")
	}
	return nil
}

// checkOOMScore finds out whether this process may have a score, as the runtime will give it to the container's.
func checkOOMScore(score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]", score) //nolint:staticcheck // Docker's words
	}
	const file = "/proc/self/oom_score_adj"
	own, err := os.ReadFile(file)
	if score == 0 || err != nil {
		return nil //nolint:nilerr // the runtime finds out
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(score)), 0); err != nil {
		return fmt.Errorf("--oom-score-adj %d: %w: only a process with CAP_SYS_RESOURCE may lower its score, mica's is %s", score, causeOf(err),
			bytes.TrimSpace(own))
	}
	return os.WriteFile(file, own, 0)
}
