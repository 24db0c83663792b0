package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
)

// supervise is the supervisor. more are the arguments after its name.
func supervise(more []string) int {
	unix.CloseOnExec(controlFD)
	unix.CloseOnExec(statusFD)
	unix.CloseOnExec(heldFD)
	status := os.NewFile(statusFD, "status")
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return report(status, result{Code: ociruntime.CodeOther, Reason: fmt.Sprintf("start process: adopt processes: %v", err)})
	}
	control := os.NewFile(controlFD, "control")
	r, w, err := os.Pipe()
	if err != nil {
		return report(status, result{Code: ociruntime.CodeOther, Reason: fmt.Sprintf("start process: %v", err)})
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env = append([]string{commandName}, more...), []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{r, status}
	if len(more) > 0 {
		listener := os.NewFile(listenerFD, "listener")
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return report(status, result{Code: ociruntime.CodeOther, Reason: fmt.Sprintf("start process: %v", err)})
	}
	_ = r.Close()
	for _, f := range cmd.ExtraFiles[2:] {
		_ = f.Close() // that the command has ended is seen by its end of the socket
	}
	// The end of control is that of the process that has started this one.
	var once sync.Once
	go func() {
		_, _ = io.Copy(w, control)
		once.Do(func() { _ = w.Close() })
		killDescendants()
	}()
	code := awaitChild(cmd.Process.Pid)
	endAll()
	return report(status, result{Ended: true, Code: code})
}

// awaitChild reaps processes until one has ended, and returns its exit code, as a shell does.
func awaitChild(child int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1
		case pid != child:
		case status.Signaled():
			return 128 + int(status.Signal())
		default:
			return status.ExitStatus()
		}
	}
}

// endAll kills what the command has left, until nothing is. A process that is killed hands its children on to this one.
func endAll() {
	for {
		killDescendants()
		_, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
	}
}

// killDescendants kills all processes below this one.
func killDescendants() {
	parents := Parents()
	self := os.Getpid()
	for pid := range parents {
		for at, n := pid, 0; at > 1 && n < len(parents); at, n = parents[at], n+1 {
			if parents[at] == self {
				_ = unix.Kill(pid, unix.SIGKILL)
				break
			}
		}
	}
}

// Parents returns the parent of each process.
func Parents() map[int]int {
	parents := map[int]int{}
	dir, err := os.Open("/proc")
	if err != nil {
		return parents
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// The name of the program, in parentheses, may have any characters (proc_pid_stat(5)).
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parents[pid], err = strconv.Atoi(string(fields[1])); err != nil {
			delete(parents, pid)
		}
	}
	return parents
}
