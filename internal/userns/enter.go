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

	mobyuser "github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// stageName is argv[0] of the process that waits in a new user namespace for its ids.
const stageName = "mica-userns"

// Init finishes Enter in the process that it started, which args identify: it waits for the id maps, then executes mica with the
// original arguments. Main calls it first.
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

// parentMarker is set in the environment of a process that Enter has started, to the process ID of the outer one.
const parentMarker = "_MICA_USERNS_PARENT"

// dieWithParent ends this process when the outer one ends, even by kill -9. The kernel clears the setting when a program starts
// that gains capabilities, as mica does in its user namespace: the last of these programs makes it.
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

// syncFD is the pipe that the outer process closes when the maps are written.
const syncFD = 3

func stage(args []string) error {
	pipe := os.NewFile(syncFD, "sync")
	if _, err := io.ReadAll(pipe); err != nil {
		return err
	}
	_ = pipe.Close()
	if os.Geteuid() != 0 {
		return errors.New("ids were not mapped")
	}
	return unix.Exec("/proc/self/exe", append([]string{"mica"}, args...), os.Environ())
}

// Enter re-executes this process with args in a user namespace in which the user is root, and does not return then:
// it forwards signals and exits with the inner process's code. For root, and inside already, it does nothing.
//
// All of the user's subordinate ids (/etc/subuid, /etc/subgid) are mapped, by newuidmap and newgidmap; without any, only
// the user's own.
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
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", marker, os.Getuid()), fmt.Sprintf("%s=%d", parentMarker, os.Getpid()))
	cmd.ExtraFiles = []*os.File{read}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}
	maps.own(cmd.SysProcAttr)
	// Signals of a terminal reach both processes; others are passed on.
	signals := make(chan os.Signal, 16)
	signal.Reset(unix.SIGINT, unix.SIGTERM) // their handlers until now
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

// supervise passes signals on and returns the exit code of the inner process.
func supervise(cmd *exec.Cmd, signals <-chan os.Signal) int {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			fromTerminal := sig == unix.SIGINT || sig == unix.SIGQUIT
			if !fromTerminal || !foreground() { // a terminal has sent it to both
				_ = cmd.Process.Signal(sig)
			}
		case <-done: //nolint:errcheck // the process state says how it ended
			st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if ok && st.Signaled() {
				return 128 + int(st.Signal())
			}
			return cmd.ProcessState.ExitCode()
		}
	}
}

// foreground reports whether a terminal sends its signals to this process group.
func foreground() bool {
	pgrp, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// account is the user who started mica.
type account struct {
	name     string // the number of the user, if it has no name
	uid, gid int
}

func currentUser() account {
	a := account{strconv.Itoa(os.Getuid()), os.Getuid(), os.Getgid()}
	if u, err := user.LookupId(a.name); err == nil {
		a.name = u.Username
	}
	return a
}

// mapPlan says how ids are mapped.
type mapPlan struct {
	uids, gids []idRange // mapped by the helpers; none to map only the user's own ids
}

// planMaps maps a user to root, and the subordinate ids of subuid(5) files to the ids from 1 on.
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

// subordinate returns the ranges of a file that belong to a user, by name or number.
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

// own maps the user's own id, for which no privilege is needed, where there is no range.
func (m *mapPlan) own(attr *syscall.SysProcAttr) {
	if len(m.uids) > 0 {
		return
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// write maps the ranges of a process by the setuid helpers of shadow-utils.
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

// helperArgs are the arguments of newuidmap(1).
func helperArgs(pid int, ranges []idRange) []string {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		args = append(args, strconv.Itoa(r.inner), strconv.Itoa(r.outer), strconv.Itoa(r.size))
	}
	return args
}
