// Package terminaltest opens terminals for tests.
package terminaltest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Open opens a pseudoterminal (pts(4)) of 24 rows and 80 columns. What is written to terminal is read from keeper, and what is
// written to keeper is typed.
func Open(t testing.TB) (keeper, terminal *os.File) {
	t.Helper()
	keeper, terminal, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return keeper, terminal
}

// New is Open outside of tests.
func New() (keeper, terminal *os.File, err error) {
	keeper, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
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
		_ = keeper.Close()
		return nil, nil, err
	}
	return keeper, terminal, nil
}

// Screen opens a terminal, and returns with it a function that closes it and returns what was written to it.
func Screen(t testing.TB) (terminal *os.File, shown func() string) {
	t.Helper()
	keeper, terminal := Open(t)
	var all bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&all, keeper) // ends with EIO, when nobody has the terminal any more
	}()
	shown = func() string {
		_ = terminal.Close()
		<-done
		return all.String()
	}
	t.Cleanup(func() { _, _ = terminal.Close(), keeper.Close() })
	return terminal, shown
}
