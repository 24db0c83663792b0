package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PIDs returns the processes of the container by their IDs in this process's pid namespace, the first process first, and nil
// before that one has been started.
func (c *Container) PIDs() []int {
	first := c.first
	if first == nil {
		return nil
	}
	want, ok := first.namespace()
	if !ok {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(filepath.Join("/proc", e.Name(), "ns/pid"), &st) != nil || st.Ino != want.Ino || st.Dev != want.Dev {
			continue
		}
		if isFirst(e.Name()) {
			pids = slices.Insert(pids, 0, pid)
		} else {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isFirst reports whether a process is the first one of its pid namespace.
func isFirst(pid string) bool {
	status, _ := os.ReadFile(filepath.Join("/proc", pid, "status"))
	_, ids, _ := strings.Cut(string(status), "\nNSpid:")
	ids, _, _ = strings.Cut(ids, "\n")
	fields := strings.Fields(ids)
	return len(fields) > 0 && fields[len(fields)-1] == "1"
}

// namespace identifies the pid namespace of a process that runs.
func (p *RunningProcess) namespace() (st unix.Stat_t, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == nil {
		return st, false
	}
	return st, unix.Fstatat(int(p.pid.Fd()), "ns/pid", &st, 0) == nil
}
