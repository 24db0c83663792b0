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

// cgroupOwner returns the prefix of the names of this process's cgroups. By it, others see whether the process still runs, and
// remove the cgroups of one that was killed. It needs the host's /proc.
func cgroupOwner() string {
	pid := os.Getpid()
	return fmt.Sprintf("%s%d-%d-", cgroupPrefix, pid, startTime("/proc", pid))
}

// cgroupName returns the name of the process's cgroup.
func (b *bundle) cgroupName() string {
	return b.owner + strings.TrimPrefix(filepath.Base(b.dir), cgroupPrefix)
}

// cgroupPath returns the path of the process's cgroup.
func (b *bundle) cgroupPath() string {
	parent := b.p.CgroupParent
	if b.cgroup == "" {
		parent = cmp.Or(parent, cgroupParent)
	}
	return path.Join("/", b.cgroup, path.Join("/", parent), b.cgroupName())
}

// containerCgroup returns the path of the process's cgroup for the runtime. That of a container is inside cgroupPath where what the kernel
// counts in it is to be read after its end.
func (b *bundle) containerCgroup() string {
	if b.remote {
		return cgroup.Counted(b.cgroupPath())
	}
	return b.cgroupPath()
}

// ownCgroup reports whether the process gets a visible cgroup of its own, by which programs size memory and threads. In a user
// namespace this needs a delegated cgroup.
func (b *bundle) ownCgroup() bool {
	if b.host.Nested() {
		return b.cgroup != ""
	}
	_, err := os.Stat(cgroupRoot)
	return err == nil
}

// startTime returns the start time of a process in clock ticks since boot (proc_pid_stat(5), field 22), or 0 if there is no such
// process.
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

// RemoveCgroups removes the cgroups of mica processes that were killed, in the hierarchies of versions 1 and 2. It leaves
// cgroups that still have processes or belong to another user.
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

// ownerLives reports whether the mica process that made a cgroup still runs.
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

// removeCgroup removes a cgroup and those inside it. Their files cannot and need not be removed.
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

// hybridCgroups is the mount point of cgroups of version 2 on a host that also has those of version 1.
const hybridCgroups = "/sys/fs/cgroup/unified"

// hideHybridCgroups hides the cgroups of version 2 from crun, in this mount namespace: crun uses those of version 1 if there
// are no others, and fails if there are both. The tmpfs is writable, because crun makes a directory there for each line of
// /proc/self/cgroup.
func hideHybridCgroups() error {
	var st unix.Statfs_t
	if _ = unix.Statfs(hybridCgroups, &st); st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	if err := unix.Mount("tmpfs", hybridCgroups, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=755"); err != nil {
		return fmt.Errorf("hide %s: %w", hybridCgroups, err)
	}
	return nil
}
