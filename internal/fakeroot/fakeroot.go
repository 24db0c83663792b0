// Package fakeroot runs the processes of a step as a pretended root, where this process has neither capabilities nor namespaces.
//
// A seccomp filter hands the system calls that need privileges, or that show owners, to this process (seccomp_unotify(2)). It answers from a
// Table, which knows what a step has made of owners, modes, devices and capabilities of files, and from the ids that processes pretend to have.
// The files are real, with real names and contents: paths are not translated. What the kernel would do right by itself, it does.
//
// This is not a security boundary. The processes have this process's own user, and can do what it can: a call is read from memory that other
// threads may change, before it is made. But no process makes this one do what the process could not do itself.
//
// A call that is handed over takes some 5 to 20 microseconds more. These are the calls about states, owners, modes, ids and attributes, those that
// make, remove and rename files, open them to write, and execute programs; reading and writing take what they take elsewhere.
//
// What a step sees differs from a container in this: chroot(2) is not allowed; a file that a pretended user may not read can be read; the
// credentials of the other end of a socket, and /proc/PID/status, are real; a device cannot be opened.
package fakeroot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/chroot"
	"github.com/micabuild/mica/internal/seccomp"
)

// supervisor answers the calls of one step.
type supervisor struct {
	table     *Table
	registry  *registry
	abis      map[uint32]*abi
	proc, sys uint64 // the devices of the kernel's filesystems
}

// Run runs a command in this process's own root directory. Its ids, groups and capabilities are pretended, and what it does to files is in t
// afterwards. It returns what [chroot.Run] does, and when it returns, no process of the command runs.
func Run(ctx context.Context, c *chroot.Command, t *Table) error {
	filter, err := seccomp.CompileNotify(rules(), seccomp.ABIs())
	if err != nil {
		return fmt.Errorf("compile seccomp filter: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "listener"), os.NewFile(uintptr(fds[1]), "listener")
	s := &supervisor{table: t, registry: newRegistry(first(c)), abis: newABIs(), proc: deviceOf("/proc"), sys: deviceOf("/sys")}
	stop, served := make(chan struct{}), make(chan error, 1)
	go func() { served <- s.serve(ours, stop) }()
	pretended := *c
	pretended.Own, pretended.Filter, pretended.Listener = true, filter, theirs
	err = chroot.Run(ctx, &pretended)
	_ = theirs.Close() // if it could not start
	close(stop)
	if serveErr := <-served; serveErr != nil && err == nil {
		return serveErr
	}
	return err
}

// serve receives the listener from a socket and answers its calls until stop is closed.
func (s *supervisor) serve(socket *os.File, stop <-chan struct{}) error {
	conn, err := net.FileConn(socket)
	_ = socket.Close()
	if err != nil {
		return fmt.Errorf("receive listener: %w", err)
	}
	defer func() { _ = conn.Close() }()
	fd, err := receiveFD(conn.(*net.UnixConn)) //nolint:forcetypeassert // it is one
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	return (&listener{fd: uintptr(fd)}).serve(s.answer, stop)
}

var errNoListener = errors.New("no descriptor was sent")

func receiveFD(conn *net.UnixConn) (int, error) {
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errNoListener, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errNoListener, err)
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}

// first returns the credentials that a command begins with.
func first(c *chroot.Command) *credentials {
	cred := &credentials{identity: identity{uid: sameIDs(c.UID), gid: sameIDs(c.GID)}, groups: c.Groups}
	for _, n := range c.Capabilities {
		cred.bounding |= 1 << n
	}
	if c.UID == 0 {
		cred.permitted, cred.effective = cred.bounding, cred.bounding
	}
	return cred
}

func deviceOf(path string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, statMask, &st); err != nil {
		return ^uint64(0)
	}
	return device(&st)
}
