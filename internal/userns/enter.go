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
	"strings"
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
		sendVerdict()
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

// verdictVariable is an environment variable of the inner process: its file to which it writes why the namespace is of no use.
const verdictVariable = "_MICA_USERNS_VERDICT"

// sendVerdict tries whether mounts can be changed in the new namespaces, and whether steps can have a /proc, and ends this process if not:
// AppArmor and SELinux can take all capabilities of a user namespace. It changes nothing: the mounts are slaves of the outer ones already (mount_namespaces(7)). The process
// that waits for the maps could not try it: the kernel gives it no capabilities (user_namespaces(7)).
func sendVerdict() {
	fd, err := strconv.Atoi(os.Getenv(verdictVariable))
	if err != nil {
		return
	}
	_ = os.Unsetenv(verdictVariable)
	verdict := os.NewFile(uintptr(fd), "verdict")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		fmt.Fprint(verdict, refused(err))
		os.Exit(1)
	}
	if (host{"/proc"}).masked() {
		fmt.Fprint(verdict, errMasked)
		os.Exit(1)
	}
	_ = verdict.Close()
}

// Enter executes mica with args again, in a user namespace in which the user is root. It forwards signals, exits with the exit
// code of the inner process, and does not return. If the user is root already, it does nothing. It returns a [RefusedError] if the user
// cannot have such a namespace.
//
// newuidmap and newgidmap map all subordinate ids of the user (/etc/subuid, /etc/subgid). Without subordinate ids only the
// user's own ids are mapped. Root without CAP_SYS_ADMIN, as in a container, keeps all of its ids.
func Enter(args []string) error {
	if os.Geteuid() == 0 && Has(unix.CAP_SYS_ADMIN) {
		return nil
	}
	maps, err := planMaps(currentUser(), "/etc/subuid", "/etc/subgid")
	if err != nil {
		return fmt.Errorf("enter user namespace: %w", err)
	}
	in, err := startStage(args, maps)
	if err != nil {
		return err
	}
	os.Exit(supervise(in.cmd, in.signals))
	return nil
}

// inner is the process in the namespace.
type inner struct {
	cmd     *exec.Cmd
	signals <-chan os.Signal
}

// startStage starts the inner process, and waits until mica runs in it.
func startStage(args []string, maps *mapPlan) (*inner, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("enter user namespace: %w", err)
	}
	verdict, verdictIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("enter user namespace: %w", err)
	}
	defer func() { _ = verdict.Close() }()
	cmd := stageCommand(args)
	cmd.ExtraFiles = append(cmd.ExtraFiles, read, verdictIn)
	maps.own(cmd.SysProcAttr)
	signals := make(chan os.Signal, 16)
	signal.Reset(unix.SIGINT, unix.SIGTERM) // remove earlier handlers
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	err = cmd.Start()
	_, _ = read.Close(), verdictIn.Close()
	if err == nil {
		err = maps.write(cmd.Process.Pid)
		_ = write.Close()
		if err == nil {
			err = readVerdict(verdict)
		}
		if err != nil {
			_, _ = cmd.Process.Kill(), cmd.Wait()
		}
	} else {
		_ = write.Close()
		err = refused(err)
	}
	if err != nil {
		signal.Stop(signals)
		return nil, err
	}
	return &inner{cmd, signals}, nil
}

// stageCommand is the command of the inner process.
func stageCommand(args []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{stageName}, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = activation.Files(false)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", marker, os.Getuid()), fmt.Sprintf("%s=%d", parentMarker, os.Getpid()), fmt.Sprintf("%s=%d", stageVariable, len(cmd.ExtraFiles)),
		fmt.Sprintf("%s=%d", verdictVariable, firstFD+len(cmd.ExtraFiles)+1))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}
	return cmd
}

// readVerdict returns why a namespace is of no use, nil if mica runs in it.
func readVerdict(verdict io.Reader) error {
	text, err := io.ReadAll(verdict)
	if err != nil {
		return fmt.Errorf("enter user namespace: %w", err)
	}
	if len(text) > 0 {
		return &RefusedError{strings.TrimPrefix(string(text), (&RefusedError{}).Error())}
	}
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
	all        *IDs      // the ids of this namespace, which keep their numbers; nil to map others
}

// planMaps maps the user to root, and the subordinate ids of subuid(5) files to ids from 1.
func planMaps(a account, subuid, subgid string) (*mapPlan, error) {
	if a.uid == 0 && Has(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETFCAP) {
		ids := Current()
		return &mapPlan{all: &ids}, nil
	}
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

// own maps what no helper needs to map: all ids of a root who may do so itself, or the user's own ids if there are no ranges.
func (m *mapPlan) own(attr *syscall.SysProcAttr) {
	if m.all != nil {
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = sameIDs(m.all.users), sameIDs(m.all.groups), true
		return
	}
	if len(m.uids) > 0 {
		return
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// sameIDs maps the ids of this namespace to themselves. Of all ids of the host, the last one is left out: the map of the new namespace is then
// another than that of the initial one (see IDs.Nested).
func sameIDs(ranges []idRange) []syscall.SysProcIDMap {
	var maps []syscall.SysProcIDMap
	for _, r := range ranges {
		if r == whole {
			r.size--
		}
		maps = append(maps, syscall.SysProcIDMap{ContainerID: r.inner, HostID: r.inner, Size: r.size})
	}
	return maps
}

// write runs the setuid helpers of shadow-utils to map the ranges in the namespace of a process.
func (m *mapPlan) write(pid int) error {
	if len(m.uids) == 0 {
		return nil
	}
	for helper, ranges := range map[string][]idRange{"newuidmap": m.uids, "newgidmap": m.gids} {
		if out, err := exec.Command(helper, helperArgs(pid, ranges)...).CombinedOutput(); err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				return fmt.Errorf("enter user namespace: %s is missing: install the package uidmap", helper)
			}
			if noNewPrivileges() {
				return &RefusedError{fmt.Sprintf("%s has no privileges, since this process may not gain any (no_new_privs; in Kubernetes, allowPrivilegeEscalation: false)", helper)}
			}
			return fmt.Errorf("enter user namespace: %s: %w: %s", helper, err, out)
		}
	}
	return nil
}

// noNewPrivileges reports whether programs that this process executes gain no privileges.
func noNewPrivileges() bool {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil && set == 1
}

// helperArgs returns the arguments of newuidmap(1).
func helperArgs(pid int, ranges []idRange) []string {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		args = append(args, strconv.Itoa(r.inner), strconv.Itoa(r.outer), strconv.Itoa(r.size))
	}
	return args
}
