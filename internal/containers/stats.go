package containers

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// tick is the unit of times in /proc (USER_HZ).
const tick = 10 * time.Millisecond

// Stats are what the processes of the container use. They are those of /proc: an ordinary user may have no cgroups.
func (c *Container) Stats(context.Context) *container.StatsResponse {
	s := &container.StatsResponse{ID: c.ID, Name: "/" + c.Name(), OSType: "linux", Networks: map[string]container.NetworkStats{}}
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return s
	}
	s.Read = time.Now().UTC()
	s.CPUStats.SystemUsage, s.CPUStats.OnlineCPUs = systemTime(), uint32(runtime.NumCPU())
	pids := r.box.PIDs()
	for _, pid := range pids {
		user, kernel := processTimes(pid)
		s.CPUStats.CPUUsage.UsageInUsermode += user
		s.CPUStats.CPUUsage.UsageInKernelmode += kernel
		s.MemoryStats.Usage += processMemory(pid)
	}
	s.CPUStats.CPUUsage.TotalUsage = s.CPUStats.CPUUsage.UsageInUsermode + s.CPUStats.CPUUsage.UsageInKernelmode
	s.PidsStats.Current = uint64(len(pids))
	s.MemoryStats.Limit, s.MemoryStats.Stats = hostMemory(), map[string]uint64{}
	if c.host.Memory > 0 {
		s.MemoryStats.Limit = min(s.MemoryStats.Limit, uint64(c.host.Memory))
	}
	if len(pids) > 0 && c.networkMode() != "host" && c.networkMode() != "none" {
		s.Networks["eth0"] = networkStats(pids[0])
	}
	return s
}

// systemTime is the time that all processors have had, in nanoseconds.
func systemTime() (total uint64) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(line) {
		if i == 0 || i > 7 { // the time of guests is in that of their processes
			continue
		}
		n, _ := strconv.ParseUint(field, 10, 64)
		total += n
	}
	return total * uint64(tick)
}

// processTimes are those of a process and of its children that have ended, in nanoseconds (proc_pid_stat(5)).
func processTimes(pid int) (user, kernel uint64) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(data[max(strings.LastIndexByte(string(data), ')'), 0):]))
	at := func(field int) uint64 { // the first of fields is the second of all
		if len(fields) <= field-2 {
			return 0
		}
		n, _ := strconv.ParseUint(fields[field-2], 10, 64)
		return n * uint64(tick)
	}
	return at(14) + at(16), at(15) + at(17)
}

// processMemory is the share of a process of the memory that it has.
func processMemory(pid int) uint64 {
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)); err == nil {
		return kilobytes(string(data), "\nPss:")
	}
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return kilobytes(string(data), "\nVmRSS:")
}

func hostMemory() uint64 {
	data, _ := os.ReadFile("/proc/meminfo")
	return kilobytes("\n"+string(data), "\nMemTotal:")
}

// kilobytes reads a line with a number of kB.
func kilobytes(text, key string) uint64 {
	_, rest, ok := strings.Cut(text, key)
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[0], 10, 64)
	return n << 10
}

// networkStats are those of the network of a process, which the containers share.
func networkStats(pid int) (s container.NetworkStats) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	for line := range strings.SplitSeq(string(data), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "lo" {
			continue
		}
		var n [16]uint64
		for i, field := range strings.Fields(rest) {
			if i < len(n) {
				n[i], _ = strconv.ParseUint(field, 10, 64)
			}
		}
		s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped = s.RxBytes+n[0], s.RxPackets+n[1], s.RxErrors+n[2], s.RxDropped+n[3]
		s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped = s.TxBytes+n[8], s.TxPackets+n[9], s.TxErrors+n[10], s.TxDropped+n[11]
	}
	return s
}
