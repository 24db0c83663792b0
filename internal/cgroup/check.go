package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// leastMemory is Docker's minimum: with less, the runtime itself does not start.
const leastMemory = 6 << 20

// Check refuses limits that are invalid, or that this host does not support, with the error texts of Docker's daemon (moby,
// daemon/daemon_unix.go).
func Check(r *specs.LinuxResources) error {
	if r.Memory != nil {
		if err := checkMemory(r.Memory); err != nil {
			return err
		}
	}
	if r.CPU != nil {
		if err := checkCPU(r.CPU); err != nil {
			return err
		}
	}
	if r.BlockIO != nil && r.BlockIO.Weight != nil && (*r.BlockIO.Weight < 10 || *r.BlockIO.Weight > 1000) {
		return errors.New("Range of blkio weight is from 10 to 1000") //nolint:staticcheck // Docker's words
	}
	return nil
}

func checkMemory(m *specs.LinuxMemory) error {
	limit, swap, soft := value(m.Limit), value(m.Swap), value(m.Reservation)
	var text string
	switch {
	case limit != 0 && limit < leastMemory:
		text = "Minimum memory limit allowed is 6MB"
	case limit > 0 && swap > 0 && swap < limit:
		text = "Minimum memoryswap limit should be larger than memory limit, see usage"
	case limit == 0 && swap > 0:
		text = "You should always set the Memory limit when using Memoryswap limit, see usage"
	case soft > 0 && soft < leastMemory:
		text = "Minimum memory reservation allowed is 6MB"
	case limit > 0 && limit < soft:
		text = "Minimum memory limit can not be less than memory reservation limit, see usage"
	default:
		return nil
	}
	return errors.New(text)
}

func checkCPU(c *specs.LinuxCPU) error {
	switch {
	case c.Period != nil && (*c.Period < 1000 || *c.Period > 1_000_000):
		return errors.New("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case c.Shares != nil && *c.Shares < 2:
		return errors.New("the minimum allowed cpu-shares is 2")
	case c.Shares != nil && *c.Shares > 262144:
		return errors.New("the maximum allowed cpu-shares is 262144")
	case c.Quota != nil && *c.Quota > 0 && *c.Quota < 1000:
		return errors.New("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if err := checkSet(c.Cpus, "cpus", "CPUs"); err != nil {
		return err
	}
	return checkSet(c.Mems, "mems", "memory nodes")
}

// CPUs returns the CPU quota and period for a number of processors, in billionths of a processor.
func CPUs(nano int64) (quota int64, period uint64, err error) {
	if n := runtime.NumCPU(); nano < 0 || nano > int64(n)*1e9 {
		return 0, 0, fmt.Errorf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)
	}
	const usual = 100_000 // microseconds
	return nano * usual / 1e9, usual, nil
}

// checkSet refuses processors and memory nodes that the host does not have.
func checkSet(set, kind, plural string) error {
	if set == "" {
		return nil
	}
	want, err := ParseSet(set)
	if err != nil {
		return fmt.Errorf("Invalid value %s for cpuset %s: %w", set, kind, err) //nolint:staticcheck // Docker's words
	}
	text := available(Root, kind)
	have, err := ParseSet(text)
	if err != nil || text == "" {
		return nil //nolint:nilerr // the kernel refuses a set that it does not have
	}
	for _, n := range want {
		if !slices.Contains(have, n) {
			return fmt.Errorf("Requested %s are not available - requested %s, available: %s", plural, set, text) //nolint:staticcheck // Docker's words
		}
	}
	return nil
}

// available returns the processors ("cpus") or memory nodes ("mems") of the host's cgroups.
func available(root, kind string) string {
	for _, file := range []string{"cpuset/cpuset." + kind, "cpuset." + kind + ".effective"} {
		if data, err := os.ReadFile(filepath.Join(root, file)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return ""
}

// mostInSet limits the numbers in a set, as in Docker.
const mostInSet = 8192

// ParseSet reads a list of numbers in the format of cpuset(7): "0,3-5".
func ParseSet(text string) ([]int, error) {
	bad := fmt.Errorf("invalid format: %s", text)
	var set []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 32)
		if err != nil {
			return nil, bad
		}
		to, err := strconv.ParseUint(last, 10, 32)
		if err != nil || to < from || to >= mostInSet {
			return nil, bad
		}
		for n := from; n <= to; n++ {
			set = append(set, int(n))
		}
	}
	return set, nil
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// Adapt removes settings that this host's kernel does not support, as Docker does, and returns warnings about them. It removes
// tuning, not limits. Where the kernel does not account for swap, it removes a limit of swap that the user did not ask for.
func Adapt(r *specs.LinuxResources, swapAsked bool) (warnings []string, err error) {
	return hierarchy{Root}.adapt(r, swapAsked)
}

func (h hierarchy) adapt(r *specs.LinuxResources, swapAsked bool) (warnings []string, err error) {
	lacks := func(v1 ...string) bool { return h.unified() || !h.any(v1...) }
	if m := r.Memory; m != nil {
		if m.Swappiness != nil && lacks("memory/memory.swappiness") {
			m.Swappiness = nil
			warnings = append(warnings, "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		}
		if m.DisableOOMKiller != nil && lacks("memory/memory.oom_control") {
			m.DisableOOMKiller = nil
			warnings = append(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		if m.DisableOOMKiller != nil && m.Limit == nil {
			warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
		}
		if m.Swap != nil && !h.limitsSwap() {
			if swapAsked && *m.Swap > 0 {
				return nil, errors.New("the kernel does not limit swap: boot with swapaccount=1, or leave out --memory-swap")
			}
			if *m.Swap > 0 {
				warnings = append(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
			}
			m.Swap = nil
		}
	}
	if r.BlockIO != nil && !h.unified() && !h.any("blkio/blkio.weight", "blkio/blkio.bfq.weight") {
		r.BlockIO = nil
		warnings = append(warnings, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
	}
	return warnings, nil
}

// any reports whether one of the files exists.
func (h hierarchy) any(files ...string) bool {
	return slices.ContainsFunc(files, func(f string) bool {
		_, err := os.Stat(filepath.Join(h.root, f))
		return err == nil
	})
}

// limitsSwap reports whether the kernel accounts for swap. In version 2 the root cgroup has no files of limits.
func (h hierarchy) limitsSwap() bool {
	if !h.unified() {
		return h.any("memory/memory.memsw.limit_in_bytes")
	}
	groups, _ := filepath.Glob(filepath.Join(h.root, "*", "memory.max"))
	return len(groups) == 0 || h.any(strings.TrimPrefix(filepath.Dir(groups[0]), h.root)+"/memory.swap.max")
}
