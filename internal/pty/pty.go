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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Size is the size of a terminal in characters. The zero Size is unknown.
type Size struct{ Rows, Columns uint16 }

// Streams are those of the user of a terminal.
type Streams struct {
	In  io.Reader // nil for none; one that is not a terminal is read only if Remote is set
	Out io.Writer
	// Remote is set if the user has a terminal elsewhere: its size is that of Size and Resize.
	Remote bool
	Size   Size
	// Drain is how long output is awaited after the process has ended, if processes that it has started keep the terminal; 0 for no limit.
	Drain time.Duration
}

// Terminal is a pseudoterminal for a runtime, which copies between it and the process's own, or receives that from the runtime.
type Terminal struct {
	Streams
	slave *os.File
	// user is the user's own terminal, which determines the size; nil for none.
	user    *os.File
	resized chan os.Signal

	mu     sync.Mutex
	master *os.File // nil until the runtime has sent it
	size   Size     // of a remote user's terminal
	// deadline is when output is no longer awaited.
	deadline time.Time

	copied  chan error
	restore func()
	// socket receives the process's own terminal from crun. It replaces the pair, because crun sets the size only once.
	socket *net.UnixListener
}

// Open makes a pseudoterminal and gives its other end to a runtime for stdin and stdout.
func Open(cmd *exec.Cmd, s Streams) (*Terminal, error) {
	t := newTerminal(s)
	if err := t.open(); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	t.resize()
	cmd.Stdin, cmd.Stdout = t.slave, t.slave
	// A session of its own has the terminal for its controlling one: the runtime hears of its size.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return t, nil
}

func newTerminal(s Streams) *Terminal {
	t := &Terminal{Streams: s, size: s.Size, resized: make(chan os.Signal, 1), copied: make(chan error, 1), restore: func() {}}
	if !s.Remote {
		t.user = sizedTerminal(s.In, s.Out)
	}
	return t
}

// Listen listens on a socket in a directory, the bundle's, for the process's own terminal, which crun sends there (--console-socket). It
// changes the thread's working directory, because the path of a socket must be short: the thread must have one of its own.
func Listen(cmd *exec.Cmd, s Streams, dir, socket string) (*Terminal, error) {
	if err := unix.Chdir(dir); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	defer func() { _ = unix.Chdir("/") }()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	t := newTerminal(s)
	t.socket = l.(*net.UnixListener) //nolint:forcetypeassert // it is one
	t.socket.SetUnlinkOnClose(false)
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
	_ = unix.SetNonblock(fds[0], true) // so that Close can end a read
	t.mu.Lock()
	defer t.mu.Unlock()
	t.master = os.NewFile(uintptr(fds[0]), "terminal")
	_ = t.master.SetReadDeadline(t.deadline)
	return true
}

func (t *Terminal) setDeadline(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deadline = at
	if t.master != nil {
		_ = t.master.SetReadDeadline(at)
	}
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
	f := os.NewFile(uintptr(fd), "socket")
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
	var slave uintptr
	err = control(t.master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		slave = peer
		return nil
	})
	if err != nil {
		return err
	}
	t.slave = os.NewFile(slave, "terminal")
	if _, err = term.MakeRaw(int(slave)); err != nil {
		return errors.Join(err, t.slave.Close())
	}
	return nil
}

// control calls do with the descriptor of a file, which stays one that can be polled.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
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

// UserSize returns the size of the user's terminal, nil if it is unknown.
func (t *Terminal) UserSize() *unix.Winsize {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.userSize()
}

func (t *Terminal) userSize() *unix.Winsize {
	if t.Remote && t.size != (Size{}) {
		return &unix.Winsize{Row: t.size.Rows, Col: t.size.Columns}
	}
	if t.user == nil {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(t.user.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

// Resize sets the size of a remote user's terminal. The process gets a SIGWINCH.
func (t *Terminal) Resize(s Size) {
	t.mu.Lock()
	t.size = s
	t.mu.Unlock()
	t.resize()
}

func (t *Terminal) resize() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if size := t.userSize(); size != nil && t.master != nil {
		_ = control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
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

// follow takes the size from the user's own terminal and starts to copy from it. It becomes raw, so that keys reach the process unchanged.
func (t *Terminal) follow() {
	signal.Notify(t.resized, unix.SIGWINCH)
	go func() {
		for range t.resized {
			t.resize()
		}
	}()
	t.resize() // it may have changed before the signal was asked for
	if in, ok := t.In.(*os.File); ok && in != nil && term.IsTerminal(int(in.Fd())) {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			t.restore = func() { _ = term.Restore(int(in.Fd()), state) }
		}
		go func() { _, _ = io.Copy(t.master, in) }()
	}
}

// copy starts to copy in both directions.
func (t *Terminal) copy() {
	if t.Remote {
		t.resize() // it may have changed before the terminal was there
		if t.In != nil {
			go func() { _, _ = io.Copy(t.master, t.In) }()
		}
	} else {
		t.follow()
	}
	go func() {
		_, err := io.Copy(t.Out, t.master)
		if errors.Is(err, unix.EIO) || errors.Is(err, os.ErrDeadlineExceeded) { // the other end is closed, or Close waits no longer
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
	if t.Drain > 0 {
		t.setDeadline(time.Now().Add(t.Drain))
	}
	err := <-t.copied
	signal.Stop(t.resized)
	close(t.resized)
	t.restore()
	if t.master == nil { // the runtime has sent none
		return err
	}
	return errors.Join(err, t.master.Close())
}
