package pty

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socket is the name of the socket in the bundle.
const socket = "console"

// pair makes a pseudoterminal.
func pair(t *testing.T) *Terminal {
	t.Helper()
	p := &Terminal{}
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

// A runtime gets a terminal for its stdin and stdout, of the size of the user's, in a session of its own.
func TestOpen(t *testing.T) {
	t.Parallel()
	user := pair(t)
	if err := unix.IoctlSetWinsize(int(user.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 7, Col: 77}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `[ -t 0 ] && [ -t 1 ] && stty size && read line </dev/tty && echo "$line"`)
	terminal, err := Open(cmd, Streams{In: user.slave, Out: user.slave})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Release()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Run()
	const size, line = "7 77\n", "typed\n"
	got := make([]byte, len(size))
	if _, err := io.ReadFull(user.master, got); err != nil || string(got) != size {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := user.master.WriteString(line); err != nil {
		t.Fatal(err)
	}
	got = make([]byte, len(line))
	if _, err := io.ReadFull(user.master, got); err != nil || string(got) != line {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(cmd.Wait(), terminal.Close()); err != nil {
		t.Error(err)
	}
}

func TestSizedTerminal(t *testing.T) {
	t.Parallel()
	a, b := pair(t), pair(t)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var none *os.File
	for name, c := range map[string]struct {
		out  io.Writer
		in   io.Reader
		want *os.File
	}{
		"the output's":  {a.slave, b.slave, a.slave},
		"the input's":   {file, b.slave, b.slave},
		"of no file":    {&bytes.Buffer{}, strings.NewReader(""), nil},
		"of nil":        {none, none, nil},
		"of other file": {file, file, nil},
	} {
		if got := sizedTerminal(c.in, c.out); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if size := (&Terminal{}).UserSize(); size != nil {
		t.Errorf("no terminal has the size %+v", size)
	}
	if size := (&Terminal{user: file}).UserSize(); size != nil {
		t.Errorf("a file has the size %+v", size)
	}
}

// crun sends the process's own terminal by a socket in the bundle.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // Listen changes it
	var out bytes.Buffer
	console, err := Listen(exec.Command("crun"), Streams{Out: &out}, dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	process := pair(t)
	send(t, filepath.Join(dir, socket), unix.UnixRights(int(process.master.Fd())))
	if _, err := process.slave.WriteString("shown\n"); err != nil {
		t.Fatal(err)
	}
	// The process ends, and the runtime with it, before its connection is accepted.
	if err := errors.Join(process.slave.Close(), process.master.Close()); err != nil {
		t.Fatal(err)
	}
	console.Run()
	if err := console.Close(); err != nil || out.String() != "shown\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// send connects to a socket and sends control data, if there is any.
func send(t *testing.T, socket string, oob []byte) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if oob != nil {
		if _, _, err := c.(*net.UnixConn).WriteMsgUnix([]byte("/dev/pts/0"), oob, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// A runtime that ends without sending a terminal leaves nothing waiting.
func TestConsoleWithoutTerminal(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, before := range map[string]func(socket string){
		"no connection": func(string) {},
		"no message":    func(socket string) { send(t, socket, nil) },
	} {
		console, err := Listen(exec.Command("crun"), Streams{Out: io.Discard}, dir, socket)
		if err != nil {
			t.Fatal(err)
		}
		console.Run()
		before(filepath.Join(dir, socket))
		if err := console.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		console.Release()
		if err := os.Remove(filepath.Join(dir, socket)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Listen(exec.Command("crun"), Streams{}, filepath.Join(dir, "nosuch"), socket); err == nil {
		t.Error("a bundle that is missing has a console")
	}
}

// A user elsewhere has any streams, and says the size of the terminal, also before there is one.
func TestRemote(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	in, keys := io.Pipe()
	cmd := exec.Command("sh", "-c", `read line; stty size; echo "$line"`)
	terminal, err := Open(cmd, Streams{In: in, Out: &out, Remote: true, Size: Size{Rows: 7, Columns: 77}})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Release()
	if size := terminal.UserSize(); size == nil || size.Row != 7 || size.Col != 77 {
		t.Errorf("%+v", size)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Run()
	terminal.Resize(Size{Rows: 8, Columns: 88})
	if _, err := io.WriteString(keys, "typed\n"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Wait(), terminal.Close()); err != nil { // though the user types on
		t.Error(err)
	}
	if got := out.String(); got != "8 88\ntyped\n" {
		t.Errorf("%q", got)
	}
	terminal.Resize(Size{Rows: 9, Columns: 99}) // it is gone
}

// The end does not wait for processes that keep the terminal longer than it has to.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // Listen changes it
	console, err := Listen(exec.Command("crun"), Streams{Out: io.Discard, Remote: true, Drain: time.Millisecond}, dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	process := pair(t) // stays open
	send(t, filepath.Join(dir, socket), unix.UnixRights(int(process.master.Fd())))
	console.Run()
	if err := console.Close(); err != nil {
		t.Error(err)
	}
}
