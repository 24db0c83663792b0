package explore

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/gdamore/tcell/v3"
	"golang.org/x/sys/unix"
)

// console is the terminal of the process, with the screen on it.
type console struct {
	tcell.Screen
	tty     *tty
	flags   int // of standard input, which tcell changes
	signals chan os.Signal
}

// handled are signals that would end or stop the process and leave the terminal as it is. One that is ignored, as by nohup(1), stays so.
var handled = []os.Signal{syscall.SIGHUP, syscall.SIGTSTP}

func openConsole() (c *console, err error) {
	c = &console{signals: make(chan os.Signal, 4)}
	if c.tty, err = openTTY(); err != nil {
		return nil, err
	}
	if c.flags, err = unix.FcntlInt(os.Stdin.Fd(), unix.F_GETFL, 0); err != nil {
		return nil, errors.Join(err, c.tty.release())
	}
	// Without negotiation: a terminal that does not answer would keep the first screen waiting for a second.
	if c.Screen, err = tcell.NewTerminfoScreenFromTty(c.tty, tcell.OptNegotiation(false)); err != nil {
		return nil, errors.Join(err, c.tty.release())
	}
	for char, text := range ascii {
		c.RegisterRuneFallback(char, text)
	}
	c.notify()
	if err := c.Init(); err != nil {
		signal.Stop(c.signals)
		return nil, errors.Join(err, c.tty.release())
	}
	return c, nil
}

func (c *console) notify() {
	for _, s := range handled {
		if !signal.Ignored(s) {
			signal.Notify(c.signals, s)
		}
	}
}

func (c *console) close() {
	c.Fini()
	c.restoreStdin()
	signal.Stop(c.signals)
	_ = c.tty.release()
}

// restoreStdin lets reads wait again: others that have the terminal open, as the shell, share the flag.
func (c *console) restoreStdin() { _, _ = unix.FcntlInt(os.Stdin.Fd(), unix.F_SETFL, c.flags) }

// suspend gives the terminal to the shell, until that continues the process.
func (c *console) suspend() error {
	if err := c.Suspend(); err != nil {
		return err
	}
	c.restoreStdin()
	if err := stop(); err != nil {
		return err
	}
	return c.Resume()
}

// stop stops the process group, as the terminal does for Ctrl-Z, until it is continued. Go's runtime ignores a SIGTSTP that it once
// handled, so the kernel has to be told that the default counts.
func stop() error {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	var byDefault, was [64]byte // more than a struct sigaction
	if err := sigaction(syscall.SIGTSTP, &byDefault, &was); err != nil {
		return err
	}
	err := syscall.Kill(0, syscall.SIGTSTP)
	select { // another thread may take the signal a moment later; without job control nothing stops
	case <-continued:
	case <-time.After(time.Second / 5):
	}
	return errors.Join(err, sigaction(syscall.SIGTSTP, &was, nil))
}

func sigaction(s syscall.Signal, action, old *[64]byte) error {
	//nolint:gosec // the kernel reads and writes the structures alone
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("rt_sigaction", errno)
	}
	return nil
}

// tty is standard input and output. When tcell gives up the terminal, its own would keep a read waiting, which would take the first key
// that is typed afterwards.
type tty struct {
	tcell.Tty
	reading sync.Mutex
	wake    [2]*os.File // a pipe that ends a read
	closed  bool
}

func openTTY() (t *tty, err error) {
	t = &tty{}
	if t.Tty, err = tcell.NewStdIoTty(); err != nil {
		return nil, err
	}
	t.wake[0], t.wake[1], err = os.Pipe()
	return t, err
}

// Read waits for input, or until Drain is called. It reads nothing then.
func (t *tty) Read(b []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.closed {
		return 0, io.EOF
	}
	wait := []unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}, {Fd: int32(t.wake[0].Fd()), Events: unix.POLLIN}}
	if _, err := unix.Poll(wait, -1); err != nil || wait[1].Revents != 0 {
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return 0, err
	}
	return t.Tty.Read(b)
}

// Drain ends a Read and all later ones, until Start.
func (t *tty) Drain() error {
	if _, err := t.wake[1].Write([]byte{0}); err != nil {
		return err
	}
	return t.Tty.Drain()
}

// Start lets Read read again.
func (t *tty) Start() error {
	t.reading.Lock() // the last Read has ended
	defer t.reading.Unlock()
	for {
		ready := []unix.PollFd{{Fd: int32(t.wake[0].Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		if n == 0 || err != nil {
			break
		}
		if _, err := t.wake[0].Read(make([]byte, 1)); err != nil {
			return err
		}
	}
	return t.Tty.Start()
}

// release frees what a tty has opened. Drain has ended the last Read.
func (t *tty) release() error {
	t.reading.Lock()
	defer t.reading.Unlock()
	t.closed = true
	return errors.Join(t.wake[0].Close(), t.wake[1].Close())
}
