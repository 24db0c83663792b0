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

	"github.com/micabuild/mica/internal/runtimespec"
)

// FindRuntime returns the path of an OCI runtime: of name, which is a path or on PATH, else of $MICA_RUNTIME, else of the first
// of crun and runc that is on PATH. It returns "" and no error if there is none: most commands run no process.
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

// isCrun reports whether the runtime is crun, which differs from runc in some options.
func (h *Host) isCrun() bool { return strings.HasPrefix(filepath.Base(h.runtime), "crun") }

// adaptSpec changes a specification where crun differs from runc.
func (h *Host) adaptSpec(spec *specs.Spec) error {
	if !h.isCrun() {
		return nil
	}
	if err := runtimespec.AdaptToCrun(spec); err != nil {
		return err
	}
	return hideHybridCgroups()
}

// command returns the runtime's command with its global options and args.
func (h *Host) command(dir string, args ...string) *exec.Cmd {
	global := []string{"--root", filepath.Join(dir, "state"), "--log", logPath(dir), "--log-format", "json"}
	if h.isCrun() && h.ids.Nested() && h.cgroup == "" {
		global = append(global, "--cgroup-manager", "disabled") // no cgroup is delegated
	}
	return exec.Command(h.runtime, append(global, args...)...)
}

// logPath returns the path of the runtime's log, which has its errors as JSON.
func logPath(dir string) string { return filepath.Join(dir, "log.json") }

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
