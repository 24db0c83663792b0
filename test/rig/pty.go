package rig

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// OnTerminal runs a command whose stdout and stderr are a terminal, of 80 columns, and returns what that is told to show, and
// the exit code.
func OnTerminal(t testing.TB, cmd *exec.Cmd) (string, int) {
	t.Helper()
	keeper, terminal := openPTY(t)
	defer func() { _ = keeper.Close() }()
	cmd.Stdout, cmd.Stderr = terminal, terminal
	err := cmd.Start()
	_ = terminal.Close()
	if err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	_, _ = io.Copy(&shown, keeper) // ends with EIO, when no process has the terminal any more
	_ = cmd.Wait()
	return shown.String(), cmd.ProcessState.ExitCode()
}

// openPTY opens a pseudoterminal (pts(4)).
func openPTY(t testing.TB) (keeper, terminal *os.File) {
	t.Helper()
	keeper, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(keeper.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keeper, terminal
}
