package sandbox

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// FindRuntime is the path of an OCI runtime: name, on PATH or a path itself, else what $MICA_RUNTIME names, else the first
// of crun and runc that is on PATH. Without any it is "", which is no error: few commands run a process.
func FindRuntime(name string) (string, error) {
	name = cmp.Or(name, os.Getenv("MICA_RUNTIME"))
	if name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("OCI runtime %q is not on PATH", name)
		}
		return filepath.Abs(path)
	}
	// crun first: it starts a process in a quarter of runc's time.
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", nil
}

// isCrun reports whether the runtime is crun, which wants some things otherwise than runc.
func (h *Host) isCrun() bool { return strings.HasPrefix(filepath.Base(h.runtime), "crun") }

// adaptSpec changes a specification where crun differs from runc.
func (h *Host) adaptSpec(spec *specs.Spec) error {
	if !h.isCrun() {
		return nil
	}
	answerUnknown(spec.Linux.Seccomp)
	if err := compileFilter(spec); err != nil {
		return err
	}
	return hideHybridCgroups()
}

// command is the runtime with its global options and args.
func (h *Host) command(dir string, args ...string) *exec.Cmd {
	global := []string{"--root", filepath.Join(dir, "state"), "--log", logPath(dir), "--log-format", "json"}
	if h.isCrun() && h.ids.Nested() && h.cgroup == "" {
		global = append(global, "--cgroup-manager", "disabled") // nobody has delegated one
	}
	return exec.Command(h.runtime, append(global, args...)...)
}

// logPath is where the runtime says, as JSON, why it could not do what it was to do.
func logPath(dir string) string { return filepath.Join(dir, "log.json") }

// hybridCgroups is where a host with cgroups of version 1 has those of version 2 as well.
const hybridCgroups = "/sys/fs/cgroup/unified"

// hideHybridCgroups covers the cgroups of version 2 from crun, in this mount namespace: it uses those of version 1 where
// there are no others, and refuses where there are both. It makes a folder there all the same, as for each line of
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
