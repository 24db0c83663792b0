// Package containerinit is process 1 of a container, as Docker's init, tini: it starts a command, forwards signals to it and reaps
// processes.
package containerinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Path is the path of the init in a container, as in Docker, and argv[0] of its process. The init is this program.
const Path = "/sbin/docker-init"

// tiniChild is the process id in tini's message about a command that it cannot start: that of its child, in Docker mostly 7.
const tiniChild = 7

// Main runs a command until it ends, and returns the exit code of the init. The messages are those of tini.
func Main(command []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := startCommand(command)
	if err != nil {
		reason := err.Error()
		fmt.Fprintf(os.Stderr, "[FATAL tini (%d)] exec %s failed: %s\n", tiniChild, command[0], strings.ToUpper(reason[:1])+reason[1:])
		switch {
		case errors.Is(err, unix.ENOENT):
			return 127
		case errors.Is(err, unix.EACCES):
			return 126
		}
		return 1
	}
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD:
			if code, ended := reap(child); ended {
				return code
			}
		case unix.SIGURG: // Go's scheduler sends these to itself
		case unix.SIGTTIN, unix.SIGTTOU:
		default:
			_ = unix.Kill(child, sig.(unix.Signal)) //nolint:forcetypeassert // Linux
		}
	}
	return 1
}

// reap collects all processes that have ended. If child is one, it returns its exit code.
func reap(child int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return code, ended
		case pid != child:
			continue
		}
		code, ended = status.ExitStatus(), true
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
	}
}

// startCommand starts a command, found and executed as by execvp(3), in a process group of its own, in the foreground of the
// terminal if there is one.
func startCommand(command []string) (int, error) {
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		attr.Sys.Foreground = true
	}
	var last error = unix.ENOENT
	for _, file := range searchCommand(command[0]) {
		pid, err := syscall.ForkExec(file, command, attr)
		if errors.Is(err, unix.ENOEXEC) {
			pid, err = syscall.ForkExec("/bin/sh", append([]string{"/bin/sh", file}, command[1:]...), attr)
		}
		switch {
		case err == nil:
			return pid, nil
		case errors.Is(err, unix.EACCES):
			last = err
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return 0, err
		}
	}
	return 0, last
}

// searchCommand returns the files that a command name may refer to.
func searchCommand(name string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	list, ok := os.LookupEnv("PATH")
	if !ok {
		list = "/bin:/usr/bin"
	}
	var files []string
	for dir := range strings.SplitSeq(list, ":") {
		file := path.Join(dir, name)
		if _, err := os.Stat(file); name != "" && !errors.Is(err, fs.ErrNotExist) {
			files = append(files, file)
		}
	}
	return files
}
