package chroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
)

// execute becomes the command. It returns only if it cannot.
func execute() int {
	unix.CloseOnExec(controlFD)
	unix.CloseOnExec(statusFD)
	unix.CloseOnExec(listenerFD) // if there is one
	control, status := os.NewFile(controlFD, "control"), os.NewFile(statusFD, "status")
	var c Command
	err := json.NewDecoder(control).Decode(&c)
	if err == nil {
		// Credentials are those of the thread that executes the command.
		runtime.LockOSThread()
		err = c.enter()
	}
	if err != nil {
		return report(status, result{Code: ociruntime.CodeOther, Reason: fmt.Sprintf("start process: %v", err)})
	}
	code, reason := c.exec()
	return report(status, result{Code: code, Reason: reason})
}

// enter enters the root directory and gives up what the command must not have.
func (c *Command) enter() error {
	for _, l := range c.Limits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("setrlimit: %w", err)
		}
	}
	if !c.Own {
		if err := unix.Chroot(c.Root); err != nil {
			return fmt.Errorf("chroot: %w", err)
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := os.MkdirAll(c.Cwd, 0o755); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if !c.Own {
		if err := c.limit(); err != nil {
			return err
		}
	}
	if err := unix.Chdir(c.Cwd); err != nil {
		return fmt.Errorf("working directory %s: %w", c.Cwd, err)
	}
	if len(c.Filter) > 0 {
		if err := listen(c.Filter, listenerFD); err != nil {
			return fmt.Errorf("seccomp filter: %w", err)
		}
	}
	return nil
}

// limit takes what the command must not have.
func (c *Command) limit() error {
	if err := c.limitCapabilities(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := c.setIDs(); err != nil {
		return fmt.Errorf("set user: %w", err)
	}
	return nil
}

// lastCapability is the highest that a kernel may have.
const lastCapability = 63

// limitCapabilities limits what root, and files with capabilities, can have. The kernel takes the rest at execve.
func (c *Command) limitCapabilities() error {
	for n := uint(0); n <= lastCapability; n++ {
		if slices.Contains(c.Capabilities, n) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		data[i].Inheritable = 0
	}
	return unix.Capset(&header, &data[0])
}

func (c *Command) setIDs() error {
	groups := make([]int, len(c.Groups))
	for i, g := range c.Groups {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil {
		return err
	}
	if err := unix.Setresgid(int(c.GID), int(c.GID), int(c.GID)); err != nil {
		return err
	}
	return unix.Setresuid(int(c.UID), int(c.UID), int(c.UID))
}

// exec executes the command, found as execvp(3) does. It returns the exit code of a shell and the reason if it cannot.
func (c *Command) exec() (code int, reason string) {
	name := c.Args[0]
	code, reason = 127, "executable file not found in $PATH"
	for _, file := range c.search(name) {
		err := unix.Exec(file, c.Args, c.Env)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			if strings.Contains(name, "/") {
				reason = "no such file or directory"
			}
		default:
			code, reason = 126, err.Error()
		}
	}
	return code, fmt.Sprintf("exec: %q: %s", name, reason)
}

func (c *Command) search(name string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	list := ""
	for _, kv := range c.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	var files []string
	for dir := range strings.SplitSeq(list, ":") {
		files = append(files, path.Join(c.Cwd, dir, name))
		if path.IsAbs(dir) {
			files[len(files)-1] = path.Join(dir, name)
		}
	}
	return files
}
