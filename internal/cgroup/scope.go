package cgroup

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scopeMarker is set in the environment of a mica that was started in a scope, so that it does not start another.
const scopeMarker = "_MICA_SCOPE"

// startInScope replaces this process with one in a scope of the user's systemd, which is a cgroup that the user may write to.
// It returns only if it fails.
func startInScope(args []string) error {
	run, dir, err := findManager()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("resource limits: %w", err)
	}
	argv := append([]string{run, "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--", self}, args[1:]...)
	env := append(os.Environ(), scopeMarker+"=1", "XDG_RUNTIME_DIR="+dir)
	return fmt.Errorf("resource limits: %s: %w", run, unix.Exec(run, argv, env))
}

// findManager returns the path of systemd-run, and the runtime directory of the user's systemd if it accepts connections.
func findManager() (run, dir string, err error) {
	if os.Geteuid() == 0 {
		return "", "", &notDelegatedError{"mica is root in a user namespace: delegate one to it, or start it outside"}
	}
	if run, err = exec.LookPath("systemd-run"); err != nil {
		return "", "", &notDelegatedError{"systemd-run, which asks for one, is not on PATH: run as root"}
	}
	if dir = os.Getenv("XDG_RUNTIME_DIR"); dir == "" {
		dir = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	c, err := net.Dial("unix", filepath.Join(dir, "systemd", "private")) //nolint:gosec // the user says where the user's own systemd is
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return "", "", &notDelegatedError{fmt.Sprintf("no systemd of yours answers in %s: log in (sudo and su without -l do not), or run as root: %v", dir, err)}
	}
	return run, dir, c.Close()
}
