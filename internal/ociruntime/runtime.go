// Package ociruntime finds OCI runtimes and runs them. It gives their messages and exit codes the form that Docker gives them.
package ociruntime

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Find returns the path of an OCI runtime: of name, which is a path or on PATH, else of $MICA_RUNTIME, else of the first
// of crun and runc that is on PATH. It returns "" and no error if PATH has neither: most commands run no process.
func Find(name string) (string, error) {
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

// IsCrun reports whether a runtime is crun, which differs from runc in some options.
func IsCrun(path string) bool { return strings.HasPrefix(filepath.Base(path), "crun") }

// Command returns the command of a runtime with args. Its state and its log are in dir. Without cgroups, it makes none.
func Command(path, dir string, cgroups bool, args ...string) *exec.Cmd {
	return CommandWithLog(path, dir, LogPath(dir), cgroups, args...)
}

// CommandWithLog is Command with another log: a container's runtimes may run at the same time.
func CommandWithLog(path, dir, log string, cgroups bool, args ...string) *exec.Cmd {
	global := []string{"--root", StatePath(dir), "--log", log, "--log-format", "json"}
	if IsCrun(path) && !cgroups {
		global = append(global, "--cgroup-manager", "disabled")
	}
	return exec.Command(path, append(global, args...)...)
}

// StatePath returns the path of the directory with the runtime's state of containers.
func StatePath(dir string) string { return filepath.Join(dir, "state") }

// LogPath returns the path of the runtime's log, which has its errors as JSON.
func LogPath(dir string) string { return filepath.Join(dir, "log.json") }
