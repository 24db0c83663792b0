// Package pty puts a pseudoterminal between the streams of a user, which may not be a terminal, and an OCI runtime. The runtime
// makes the process's own terminal.
package pty

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is a pseudoterminal for a runtime, which copies between it and the process's own, or receives that from the runtime.
type Terminal struct {
	in            io.Reader
	out           io.Writer
	master, slave *os.File
	// user is the user's own terminal, which determines the size; nil for none.
	user    *os.File
	resized chan os.Signal
	copied  chan error
	restore func()
	// socket receives the process's own terminal from crun. It replaces the pair, because crun sets the size only once.
	socket *net.UnixListener
}

// Open makes a pseudoterminal and gives its other end to a runtime for stdin and stdout.
func Open(cmd *exec.Cmd, in io.Reader, out io.Writer) (*Terminal, error) {
	t := &Terminal{in: in, out: out, resized: make(chan os.Signal, 1), copied: make(chan error, 1), restore: func() {}}
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	t.user = sizedTerminal(in, out)
	t.resize()
	cmd.Stdin, cmd.Stdout = t.slave, t.slave
	// A session of its own has the terminal for its controlling one: the runtime hears of its size.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return t, nil
}

// Socket is the name of the socket in the bundle (crun run --console-socket).
const Socket = "console"

// Listen listens in a directory, the bundle's, for the process's own terminal, which crun sends there. It changes the thread's
// working directory, because the path of a socket must be short: the thread must have one of its own.
func Listen(cmd *exec.Cmd, in io.Reader, out io.Writer, dir string) (*Terminal, error) {
	if err := unix.Chdir(dir); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	defer func() { _ = unix.Chdir("/") }()
	l, err := net.Listen("unix", Socket)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	t := &Terminal{in: in, out: out, resized: make(chan os.Signal, 1), copied: make(chan error, 1), restore: func() {}, socket: l.(*net.UnixListener)} //nolint:forcetypeassert // it is one
	t.socket.SetUnlinkOnClose(false)
	t.user = sizedTerminal(in, out)
	cmd.Dir = dir
	// Keys are copied, signals forwarded: the runtime need not be in the foreground.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return t, nil
}

// receive waits for the terminal from the runtime. It returns false if the runtime ends without sending one.
func (t *Terminal) receive() bool {
	c, err := t.accept()
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(data, oob)
	if err != nil {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return false
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return false
	}
	t.master = os.NewFile(uintptr(fds[0]), "terminal")
	return true
}

// accept waits for the runtime's connection until the deadline of the socket. After it, the connection of a process that was
// short may still wait to be accepted: its output must not be lost.
func (t *Terminal) accept() (*net.UnixConn, error) {
	c, err := t.socket.AcceptUnix()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return c, err
	}
	raw, err := t.socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var acceptErr error
	if err := raw.Control(func(l uintptr) { fd, _, acceptErr = unix.Accept4(int(l), unix.SOCK_CLOEXEC) }); err != nil || acceptErr != nil {
		return nil, errors.Join(err, acceptErr)
	}
	f := os.NewFile(uintptr(fd), Socket)
	defer func() { _ = f.Close() }()
	late, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return late.(*net.UnixConn), nil //nolint:forcetypeassert // it is one
}

// open makes the pair in raw mode: the process's own terminal echoes and turns keys into signals.
func (t *Terminal) open() (err error) {
	if t.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = t.master.Close()
		}
	}()
	fd := int(t.master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return errno
	}
	t.slave = os.NewFile(slave, "terminal")
	if _, err = term.MakeRaw(int(slave)); err != nil {
		return errors.Join(err, t.slave.Close())
	}
	return nil
}

// sizedTerminal returns the user's terminal that determines the size: that of the output, as in docker, else of the input.
func sizedTerminal(in io.Reader, out io.Writer) *os.File {
	for _, s := range []any{out, in} {
		if f, ok := s.(*os.File); ok && f != nil && term.IsTerminal(int(f.Fd())) {
			return f
		}
	}
	return nil
}

// Size returns the size of the user's terminal, nil if there is none.
func (t *Terminal) Size() *unix.Winsize {
	if t.user == nil {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(t.user.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

func (t *Terminal) resize() {
	if size := t.Size(); size != nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// Run starts to copy when the runtime has started.
func (t *Terminal) Run() {
	if t.socket != nil {
		go func() {
			if !t.receive() {
				t.copied <- nil
				return
			}
			t.copy()
		}()
		return
	}
	_ = t.slave.Close()
	t.copy()
}

// copy starts to copy in both directions. The user's terminal becomes raw, so that keys reach the process unchanged.
func (t *Terminal) copy() {
	signal.Notify(t.resized, unix.SIGWINCH)
	go func() {
		for range t.resized {
			t.resize()
		}
	}()
	t.resize() // it may have changed before the signal was asked for
	if in, ok := t.in.(*os.File); ok && in != nil && term.IsTerminal(int(in.Fd())) {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			t.restore = func() { _ = term.Restore(int(in.Fd()), state) }
		}
		go func() { _, _ = io.Copy(t.master, in) }()
	}
	go func() {
		_, err := io.Copy(t.out, t.master)
		if errors.Is(err, unix.EIO) { // the other end is closed
			err = nil
		}
		t.copied <- err
	}()
}

// Release closes the descriptors of a run that may not have started.
func (t *Terminal) Release() {
	for _, c := range []io.Closer{t.slave, t.master} {
		_ = c.Close()
	}
	if t.socket != nil {
		_ = t.socket.Close()
	}
}

// Close waits for the end of the output and restores the user's terminal. The runtime has ended.
func (t *Terminal) Close() error {
	if t.socket != nil {
		_ = t.socket.SetDeadline(time.Unix(0, 1)) // receive waits no longer
	}
	_ = t.slave.Close()
	err := <-t.copied
	signal.Stop(t.resized)
	close(t.resized)
	t.restore()
	if t.master == nil { // the runtime has sent none
		return err
	}
	return errors.Join(err, t.master.Close())
}
