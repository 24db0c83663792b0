package sandbox

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

	"golang.org/x/sys/unix"
)

// pair makes a pseudoterminal.
func pair(t *testing.T) *terminal {
	t.Helper()
	p := &terminal{}
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	return p
}

// runc gets a terminal for its stdin and stdout, of the size of the user's.
func TestStartWithTerminal(t *testing.T) {
	t.Parallel()
	user := pair(t)
	if err := unix.IoctlSetWinsize(int(user.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 7, Col: 77}); err != nil {
		t.Fatal(err)
	}
	p := &Process{Args: []string{"x"}, TTY: true, Stdin: strings.NewReader(""), Stdout: user.slave}
	h := fakeRuntime(t, `[ -t 0 ] && [ -t 1 ] && stty size; grep -o '"consoleSize":{[^}]*}' "$3/config.json"; exit 4`)
	done := make(chan error, 1)
	b := newBundle(t, p, nil)
	go func() { done <- h.start(t.Context(), b) }()
	const want = `7 77
"consoleSize":{"height":7,"width":77}
`
	got := make([]byte, len(want))
	if _, err := io.ReadFull(user.master, got); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err == nil || err.Error() != "exit code: 4" {
		t.Errorf("%v", err)
	}
}

// What a terminal shows goes to any writer, and its size is that of no terminal.
func TestTerminalToFile(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &Process{Args: []string{"x"}, TTY: true, Stdout: &out}
	if err := fakeRuntime(t, "echo to stdout; tty >/dev/null && echo a terminal").start(t.Context(), newBundle(t, p, nil)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "to stdout\na terminal\n" {
		t.Errorf("%q", got)
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
		p    Process
		want *os.File
	}{
		"the output's":  {Process{Stdout: a.slave, Stdin: b.slave}, a.slave},
		"the input's":   {Process{Stdout: file, Stdin: b.slave}, b.slave},
		"of no file":    {Process{Stdout: &bytes.Buffer{}, Stdin: strings.NewReader("")}, nil},
		"of nil":        {Process{Stdout: none, Stdin: none}, nil},
		"of other file": {Process{Stdout: file, Stdin: file}, nil},
	} {
		if got := sizedTerminal(&c.p); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if size := (&terminal{}).size(); size != nil {
		t.Errorf("no terminal has the size %+v", size)
	}
	if size := (&terminal{user: file}).size(); size != nil {
		t.Errorf("a file has the size %+v", size)
	}
}

// crun sends the process's own terminal by a socket in the bundle.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // newConsole changes it
	var out bytes.Buffer
	p := &Process{Stdout: &out}
	console, err := newConsole(exec.Command("crun"), p, dir)
	if err != nil {
		t.Fatal(err)
	}
	process := pair(t)
	send(t, filepath.Join(dir, consoleSocket), unix.UnixRights(int(process.master.Fd())))
	if _, err := process.slave.WriteString("shown\n"); err != nil {
		t.Fatal(err)
	}
	// The process ends, and the runtime with it, before its connection is accepted.
	if err := errors.Join(process.slave.Close(), process.master.Close()); err != nil {
		t.Fatal(err)
	}
	console.run(p)
	if err := console.close(); err != nil || out.String() != "shown\n" {
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
		p := &Process{Stdout: io.Discard}
		console, err := newConsole(exec.Command("crun"), p, dir)
		if err != nil {
			t.Fatal(err)
		}
		console.run(p)
		before(filepath.Join(dir, consoleSocket))
		if err := console.close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		console.release()
		if err := os.Remove(filepath.Join(dir, consoleSocket)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newConsole(exec.Command("crun"), &Process{}, filepath.Join(dir, "nosuch")); err == nil {
		t.Error("a bundle that is missing has a console")
	}
}
