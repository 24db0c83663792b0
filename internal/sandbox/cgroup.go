package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/cgroup"
)

const (
	cgroupRoot = cgroup.Root
	// cgroupParent is where the cgroups of root's processes are, unless another is named.
	cgroupParent = "mica"
	cgroupPrefix = "run-"
)

// cgroupOwner begins the names of this mica's cgroups, so that others can tell whether it lives: nobody removes those of a mica that
// is killed. It is called where /proc is the host's.
func cgroupOwner() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%d-%d-", cgroupPrefix, pid, startTime("/proc", pid))
}

// cgroupName is what the cgroup of the process is called.
func (b *bundle) cgroupName() string {
	return b.owner + strings.TrimPrefix(filepath.Base(b.dir), cgroupPrefix)
}

// cgroupPath is where the cgroup of the process is.
func (b *bundle) cgroupPath() string {
	parent := b.p.CgroupParent
	if b.cgroup == "" {
		parent = cmp.Or(parent, cgroupParent)
	}
	return path.Join("/", b.cgroup, path.Join("/", parent), b.cgroupName())
}

// ownCgroup reports whether the process gets a cgroup of its own and may see it: programs size their memory and threads
// by it. In a user namespace, only where one is delegated.
func (b *bundle) ownCgroup() bool {
	if b.host.Nested() {
		return b.cgroup != ""
	}
	_, err := os.Stat(cgroupRoot)
	return err == nil
}

// startTime is when a process started, in clock ticks since the machine did (proc_pid_stat(5), field 22); 0 if there is none.
func startTime(proc string, pid int) uint64 {
	data, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field is a name in parentheses, which may have any character.
	_, rest, _ := strings.Cut(string(data[max(strings.LastIndexByte(string(data), ')'), 0):]), " ")
	const field = 22 - 3 // the first of rest is the third of all
	fields := strings.Fields(rest)
	if len(fields) <= field {
		return 0
	}
	n, _ := strconv.ParseUint(fields[field], 10, 64)
	return n
}

// RemoveCgroups removes the cgroups that killed micas have left, in the hierarchies of version 1 and 2. What cannot be removed
// is left: it has processes, or belongs to somebody else.
func RemoveCgroups() { removeCgroups(cgroupRoot, "/proc") }

func removeCgroups(root, proc string) {
	parents := []string{filepath.Join(root, cgroupParent)}
	controllers, _ := os.ReadDir(root)
	for _, c := range controllers {
		parents = append(parents, filepath.Join(root, c.Name(), cgroupParent))
	}
	for _, parent := range parents {
		groups, _ := os.ReadDir(parent)
		for _, g := range groups {
			if g.IsDir() && strings.HasPrefix(g.Name(), cgroupPrefix) && !ownerLives(proc, g.Name()) {
				removeCgroup(filepath.Join(parent, g.Name()))
			}
		}
	}
}

// ownerLives reports whether the mica that made a cgroup still runs.
func ownerLives(proc, name string) bool {
	parts := strings.Split(name, "-")
	if len(parts) != 4 {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil || pid <= 0 {
		return false
	}
	start := startTime(proc, pid)
	return start != 0 && strconv.FormatUint(start, 10) == parts[2]
}

// removeCgroup removes a cgroup with those inside it: their files go by themselves.
func removeCgroup(dir string) {
	inside, _ := os.ReadDir(dir)
	for _, d := range inside {
		if d.IsDir() {
			removeCgroup(filepath.Join(dir, d.Name()))
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // it is in use
	}
}
