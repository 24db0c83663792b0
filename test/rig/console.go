package rig

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// Console is a terminal at which a test sits: it types, reads and changes the size.
type Console struct {
	t                testing.TB
	keeper, terminal *os.File
	shown            chan []byte
	rest             []byte
}

// NewConsole makes a terminal.
func NewConsole(t testing.TB) *Console {
	t.Helper()
	c := &Console{t: t, shown: make(chan []byte, 100)}
	c.keeper, c.terminal = terminaltest.Open(t)
	t.Cleanup(func() { _, _ = c.terminal.Close(), c.keeper.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.keeper.Read(buf)
			if err != nil {
				close(c.shown)
				return
			}
			c.shown <- bytes.Clone(buf[:n])
		}
	}()
	return c
}

// Start starts a command in the foreground of the terminal.
func (c *Console) Start(cmd *exec.Cmd) {
	c.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.terminal, c.terminal, c.terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
}

// Resize gives the terminal another size.
func (c *Console) Resize(rows, columns uint16) {
	c.t.Helper()
	if err := unix.IoctlSetWinsize(int(c.keeper.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		c.t.Fatal(err)
	}
}

// Type sends keys.
func (c *Console) Type(keys string) {
	c.t.Helper()
	if _, err := c.keeper.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// Expect reads until text is shown, and what came before it is forgotten.
func (c *Console) Expect(text string) {
	c.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if i := bytes.Index(c.rest, []byte(text)); i >= 0 {
			c.rest = c.rest[i+len(text):]
			return
		}
		select {
		case p, ok := <-c.shown:
			if !ok {
				c.t.Fatalf("the terminal ends with %q, before %q", c.rest, text)
			}
			c.rest = append(c.rest, p...)
		case <-deadline:
			c.t.Fatalf("the terminal shows %q, not %q", c.rest, text)
		}
	}
}

// Modes returns the modes of the terminal.
func (c *Console) Modes() unix.Termios {
	c.t.Helper()
	modes, err := unix.IoctlGetTermios(int(c.terminal.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return *modes
}
