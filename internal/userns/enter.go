package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	mobyuser "github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// stageName is argv[0] of the process that waits in a new user namespace for its id maps.
const stageName = "mica-userns"

// Init completes Enter in the process that Enter started, which it detects by args. It waits for the id maps, and then executes
// mica with the original arguments. Main calls it first.
func Init(args []string) {
	if len(args) == 0 || args[0] != stageName {
		dieWithParent()
		return
	}
	if err := stage(args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "ERROR: enter user namespace: %v\n", err)
		os.Exit(1)
	}
}

// parentMarker is an environment variable of the inner process: the process ID of the outer process.
const parentMarker = "_MICA_USERNS_PARENT"

// dieWithParent makes the kernel kill this process when the outer process ends, even by kill -9. The kernel clears the setting
// when a process executes a program and gains capabilities, as mica does in its user namespace: the last program sets it.
func dieWithParent() {
	parent, err := strconv.Atoi(os.Getenv(parentMarker))
	if err != nil {
		return
	}
	_ = os.Unsetenv(parentMarker)
	if unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) != nil || os.Getppid() != parent {
		os.Exit(1)
	}
}

// stageVariable is an environment variable of the process that waits: how many sockets of systemd it has. They are its files from
// firstFD on.
const stageVariable = "_MICA_USERNS_SOCKETS"

// firstFD is the first file after stdin, stdout and stderr, SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFD = 3

// stage waits for the end of a pipe, which follows the sockets. The outer process closes it when the maps are written.
func stage(args []string) error {
	sockets, err := strconv.Atoi(os.Getenv(stageVariable))
	if err != nil {
		return fmt.Errorf("%s: %w", stageVariable, err)
	}
	_ = os.Unsetenv(stageVariable)
	if sockets > 0 { // they are for this process now
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	pipe := os.NewFile(uintptr(firstFD+sockets), "sync")
	if _, err := io.ReadAll(pipe); err != nil {
		return err
	}
	_ = pipe.Close()
	if os.Geteuid() != 0 {
		return errors.New("ids were not mapped")
	}
	return unix.Exec("/proc/self/exe", append([]string{"mica"}, args...), os.Environ())
}

// Enter executes mica with args again, in a user namespace in which the user is root. It forwards signals, exits with the exit
// code of the inner process, and does not return. If the user is root already, it does nothing.
//
// newuidmap and newgidmap map all subordinate ids of the user (/etc/subuid, /etc/subgid). Without subordinate ids only the
// user's own ids are mapped.
func Enter(args []string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("enter user namespace: %w", err)
	}
	maps, err := planMaps(currentUser(), "/etc/subuid", "/etc/subgid")
	if err != nil {
		return fmt.Errorf("enter user namespace: %w", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{stageName}, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = activation.Files(false)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", marker, os.Getuid()), fmt.Sprintf("%s=%d", parentMarker, os.Getpid()), fmt.Sprintf("%s=%d", stageVariable, len(cmd.ExtraFiles)))
	cmd.ExtraFiles = append(cmd.ExtraFiles, read)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}
	maps.own(cmd.SysProcAttr)
	signals := make(chan os.Signal, 16)
	signal.Reset(unix.SIGINT, unix.SIGTERM) // remove earlier handlers
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("enter user namespace: %w; is kernel.unprivileged_userns_clone or user.max_user_namespaces 0?", err)
	}
	_ = read.Close()
	if err := maps.write(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("enter user namespace: %w", err)
	}
	_ = write.Close()
	os.Exit(supervise(cmd, signals))
	return nil
}

// supervise forwards signals and returns the exit code of the inner process.
func supervise(cmd *exec.Cmd, signals <-chan os.Signal) int {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			fromTerminal := sig == unix.SIGINT || sig == unix.SIGQUIT
			if !fromTerminal || !foreground() { // a terminal sends signals to both processes
				_ = cmd.Process.Signal(sig)
			}
		case <-done: //nolint:errcheck // the process state has the result
			st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if ok && st.Signaled() {
				return 128 + int(st.Signal())
			}
			return cmd.ProcessState.ExitCode()
		}
	}
}

// foreground reports whether the terminal sends signals to this process group.
func foreground() bool {
	pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// account is the user who started mica.
type account struct {
	name     string // the uid if the user has no name
	uid, gid int
}

func currentUser() account {
	a := account{strconv.Itoa(os.Getuid()), os.Getuid(), os.Getgid()}
	if u, err := user.LookupId(a.name); err == nil {
		a.name = u.Username
	}
	return a
}

// mapPlan has the id maps of a user namespace.
type mapPlan struct {
	uids, gids []idRange // for the helpers; empty to map only the user's own ids
}

// planMaps maps the user to root, and the subordinate ids of subuid(5) files to ids from 1.
func planMaps(a account, subuid, subgid string) (*mapPlan, error) {
	uids, err := subordinate(subuid, a)
	if err != nil {
		return nil, err
	}
	gids, err := subordinate(subgid, a)
	if err != nil {
		return nil, err
	}
	if len(uids) == 0 || len(gids) == 0 {
		return &mapPlan{}, nil
	}
	return &mapPlan{
		uids: append([]idRange{{0, a.uid, 1}}, uids...),
		gids: append([]idRange{{0, a.gid, 1}}, gids...),
	}, nil
}

// subordinate returns the ranges of a user in a file, by name or uid, mapped to ids from 1.
func subordinate(path string, a account) ([]idRange, error) {
	subs, err := mobyuser.ParseSubIDFileFilter(path, func(e mobyuser.SubID) bool {
		return e.Name == a.name || e.Name == strconv.Itoa(a.uid)
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ranges []idRange
	next := 1
	for _, s := range subs {
		if s.Count > 0 {
			ranges = append(ranges, idRange{next, int(s.SubID), int(s.Count)})
			next += int(s.Count)
		}
	}
	return ranges, nil
}

// own maps the user's own ids if there are no ranges. This needs no privilege.
func (m *mapPlan) own(attr *syscall.SysProcAttr) {
	if len(m.uids) > 0 {
		return
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// write runs the setuid helpers of shadow-utils to map the ranges in the namespace of a process.
func (m *mapPlan) write(pid int) error {
	if len(m.uids) == 0 {
		return nil
	}
	for helper, ranges := range map[string][]idRange{"newuidmap": m.uids, "newgidmap": m.gids} {
		if out, err := exec.Command(helper, helperArgs(pid, ranges)...).CombinedOutput(); err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				return fmt.Errorf("%s is missing: install the package uidmap", helper)
			}
			return fmt.Errorf("%s: %w: %s", helper, err, out)
		}
	}
	return nil
}

// helperArgs returns the arguments of newuidmap(1).
func helperArgs(pid int, ranges []idRange) []string {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		args = append(args, strconv.Itoa(r.inner), strconv.Itoa(r.outer), strconv.Itoa(r.size))
	}
	return args
}
