package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/micabuild/mica/internal/cgroup"
)

// Limits are what a container may use of the host, under the names and with the units of docker's HostConfig. 0 is no limit.
type Limits struct {
	Memory, Reservation    int64 // bytes
	Swap                   int64 // memory and swap together; -1 for any amount of swap
	Swappiness             int64 // percent; -1 for the host's
	NanoCPUs               int64 // billionths of a processor
	Shares, Period, Quota  int64
	CpusetCPUs, CpusetMems string
	PIDs                   int64
	IOWeight               uint16
	OOMKillDisable         bool
}

// Resources are the limits of cgroups, as Docker's daemon makes them of the flags.
func (l *Limits) Resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	var err error
	if r.Memory, err = l.memoryLimits(); err != nil {
		return nil, err
	}
	if r.CPU, err = l.cpuLimits(); err != nil {
		return nil, err
	}
	if l.IOWeight != 0 {
		r.BlockIO = &specs.LinuxBlockIO{Weight: &l.IOWeight}
	}
	if l.PIDs > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.PIDs}
	}
	return r, cgroup.Check(r)
}

func (l *Limits) memoryLimits() (*specs.LinuxMemory, error) {
	m := &specs.LinuxMemory{Limit: nonZero(l.Memory), Reservation: nonZero(l.Reservation)}
	switch swap := l.Swap; {
	case swap > 0:
		m.Swap = &swap
	case swap < 0 && m.Limit != nil:
		swap = -1 // the kernel knows no other number for any amount
		m.Swap = &swap
	case m.Limit != nil:
		swap = 2 * *m.Limit
		m.Swap = &swap
	}
	if l.Swappiness < -1 || l.Swappiness > 100 {
		return nil, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", l.Swappiness)
	}
	if l.Swappiness >= 0 {
		n := uint64(l.Swappiness)
		m.Swappiness = &n
	}
	if l.OOMKillDisable {
		m.DisableOOMKiller = &l.OOMKillDisable
	}
	return orNil(m), nil
}

func (l *Limits) cpuLimits() (*specs.LinuxCPU, error) {
	c := &specs.LinuxCPU{Cpus: l.CpusetCPUs, Mems: l.CpusetMems}
	if l.Period != 0 {
		n := uint64(l.Period)
		c.Period = &n
	}
	if l.Quota > 0 {
		c.Quota = &l.Quota // less is no limit
	}
	if l.Shares < 0 {
		return nil, errors.New("shares: invalid argument")
	}
	if l.Shares > 0 {
		n := uint64(l.Shares)
		c.Shares = &n
	}
	if l.NanoCPUs == 0 {
		return orNil(c), nil
	}
	switch {
	case c.Period != nil:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Period cannot both be set") //nolint:staticcheck // Docker's words
	case c.Quota != nil:
		return nil, errors.New("Conflicting options: Nano CPUs and CPU Quota cannot both be set") //nolint:staticcheck // Docker's words
	}
	quota, period, err := cgroup.CPUs(l.NanoCPUs)
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

// CheckOOMScore finds out whether this process may have a score, as the runtime will give it to the container's.
func CheckOOMScore(score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]", score) //nolint:staticcheck // Docker's words
	}
	const file = "/proc/self/oom_score_adj"
	own, err := os.ReadFile(file)
	if score == 0 || err != nil {
		return nil //nolint:nilerr // the runtime finds out
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(score)), 0); err != nil {
		return fmt.Errorf("--oom-score-adj %d: %w: only a process with CAP_SYS_RESOURCE may lower its score, mica's is %s", score, cause(err),
			bytes.TrimSpace(own))
	}
	return os.WriteFile(file, own, 0)
}
