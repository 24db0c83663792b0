package explore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/terminal/terminaltest"
)

// shownBy says, in the environment of a test that starts itself, that it is to show an image, and how the image's files are read.
const shownBy = "MICA_TEST_EXPLORE"

// exitHangup and exitPanic are exit codes of such a test.
const (
	exitHangup = 40 + iota
	exitPanic
	exitError
)

func TestMain(m *testing.M) {
	if how := os.Getenv(shownBy); how != "" {
		os.Exit(showImage(how))
	}
	// A signal that is handled here has its default in the programs that the tests start, under nohup(1), too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

func showImage(how string) int {
	img := &Image{Name: "app", Layers: []Layer{{Command: "COPY . ."}}}
	img.Load = func(context.Context) (*filetree.Tree, error) {
		if how == "panic in the background" {
			panic("a file that nobody expects")
		}
		return filetree.New(), nil
	}
	img.Analyze = func(context.Context, *filetree.Tree) (*analyze.Report, error) { return &analyze.Report{}, nil }
	if how == "panic" {
		img = nil
	}
	err := crash.Guard(func() error { return Run(context.Background(), img) })()
	var fault *crash.Error
	switch {
	case errors.Is(err, ErrHangup):
		return exitHangup
	case errors.As(err, &fault):
		return exitPanic
	case err != nil:
		return exitError
	}
	return 0
}

// over is on the terminal once the process has ended.
const over = "<the process has ended>"

// session is a process on a terminal.
type session struct {
	t              *testing.T
	cmd            *exec.Cmd
	keeper, device *os.File
	shown          bytes.Buffer
	before         *unix.Termios
	exited         chan struct{}
}

// start starts a command on a terminal of its own; how says what the test does if the command starts it.
func start(t *testing.T, how string, command ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: exec.Command(command[0], command[1:]...)}
	s.keeper, s.device = terminaltest.Open(t)
	s.before = s.termios()
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.device, s.device, s.device
	s.cmd.Env = append(os.Environ(), shownBy+"="+how, "TERM=xterm", "LC_ALL=C.UTF-8", "GOCOVERDIR="+t.TempDir())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait()
		_, _ = s.device.WriteString(over) // ends a wait
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.exited; _ = s.keeper.Close(); _ = s.device.Close() })
	return s
}

func (s *session) termios() *unix.Termios {
	s.t.Helper()
	got, err := unix.IoctlGetTermios(int(s.device.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// foreground is the process group that has the terminal.
func (s *session) foreground() int {
	s.t.Helper()
	group, err := unix.IoctlGetInt(int(s.keeper.Fd()), unix.TIOCGPGRP)
	if err != nil {
		s.t.Fatal(err)
	}
	return group
}

// wait reads until the terminal has shown a text since the last one.
func (s *session) wait(text string) {
	s.t.Helper()
	part := make([]byte, 4096)
	for !bytes.Contains(s.shown.Bytes(), []byte(text)) {
		if bytes.Contains(s.shown.Bytes(), []byte(over)) {
			s.t.Fatalf("%q was not shown\n%q", text, s.shown.String())
		}
		n, err := s.keeper.Read(part)
		if err != nil {
			s.t.Fatalf("%q was not shown: %v\n%q", text, err, s.shown.String())
		}
		s.shown.Write(part[:n])
	}
	s.shown.Next(bytes.Index(s.shown.Bytes(), []byte(text)) + len(text))
}

func (s *session) press(keys string) {
	s.t.Helper()
	if _, err := s.keeper.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// ended checks the exit code of the command, and that the terminal is as it was before.
func (s *session) ended(code int) {
	s.t.Helper()
	<-s.exited
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d\n%s", got, code, s.shown.String())
	}
	if after := s.termios(); *after != *s.before {
		s.t.Errorf("the terminal is %+v, was %+v", after, s.before)
	}
	if flags, err := unix.FcntlInt(s.device.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		s.t.Errorf("reads of the terminal do not wait: %#x, %v", flags, err)
	}
}

// TestTerminalIsRestored checks that the terminal is as before, whatever ends the program.
func TestTerminalIsRestored(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		how, keys string
		sig       syscall.Signal
		code      int
	}{
		"q":                       {"files", "q", 0, 0},
		"Ctrl-C":                  {"files", "\x03", 0, 0},
		"SIGHUP":                  {"files", "", syscall.SIGHUP, exitHangup},
		"panic":                   {"panic", "", 0, exitPanic},
		"panic in the background": {"panic in the background", "", 0, exitPanic},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.how, self)
			s.wait(entered)
			if c.code != exitPanic {
				s.wait("Layers")
				if *s.termios() == *s.before {
					t.Error("the terminal is not raw")
				}
			}
			s.press(c.keys)
			if c.sig != 0 {
				if err := s.cmd.Process.Signal(c.sig); err != nil {
					t.Fatal(err)
				}
			}
			s.wait(left)
			s.ended(c.code)
		})
	}
}

// The control sequences that begin and end the use of the whole screen.
const (
	entered = "\x1b[?1049h"
	left    = "\x1b[?1049l"
)

// TestSuspend checks that Ctrl-Z and SIGTSTP give the terminal to the shell, and that all keys count once the shell has continued the
// program.
func TestSuspend(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key", "signal"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := `set -m; "$0"; stty -a | grep -q ' icanon' && echo shell-1; fg; echo shell-2; fg; echo shell-3`
			s := start(t, "files", "/bin/sh", "-c", script, self)
			s.wait("Layers")
			for _, shell := range []string{"shell-1", "shell-2"} {
				if name == "key" {
					s.press("\x1a")
				} else if err := syscall.Kill(-s.foreground(), syscall.SIGTSTP); err != nil {
					t.Fatal(err)
				}
				s.wait(left)
				s.wait(shell)
				s.wait("Layers")
				s.press("?") // not lost
				s.wait("Everywhere")
				s.press("?")
				s.wait("^A")
			}
			s.press("q")
			s.wait("shell-3")
			s.ended(0)
		})
	}
}

// TestClosedTerminal checks that the program ends when its terminal does.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "files", self)
	s.wait("Layers")
	if err := errors.Join(s.device.Close(), s.keeper.Close()); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	if got := s.cmd.ProcessState.ExitCode(); got != exitHangup {
		t.Errorf("exit code %d, want %d", got, exitHangup)
	}
}
