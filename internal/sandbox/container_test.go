package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/store"
)

// runtimes are the OCI runtimes of this host.
func runtimes(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	var found []string
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err == nil {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		t.Fatal("this test needs an OCI runtime")
	}
	return found
}

// programs are mounts of the host's programs.
func programs() []Mount {
	var mounts []Mount
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			mounts = append(mounts, Mount{Type: MountBind, Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return mounts
}

// realHost returns a host with a runtime, and a process with the host's programs in a root filesystem that can be written to.
func realHost(t *testing.T, runtime string) (*Host, *Process) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHost(s, runtime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	disk := t.TempDir()
	p := &Process{Network: NetworkNone, Mounts: programs(), Root: overlay.Options{Upper: filepath.Join(disk, "upper"), Work: filepath.Join(disk, "work")}}
	if err := errors.Join(os.Mkdir(p.Root.Upper, 0o755), os.Mkdir(p.Root.Work, 0o755)); err != nil {
		t.Fatal(err)
	}
	return h, p
}

// sh is a command of a shell.
func sh(script string) Command {
	return Command{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

// buffer is written to by a process while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan bool
}

func newBuffer() *buffer { return &buffer{more: make(chan bool, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() {
		select {
		case b.more <- true:
		default:
		}
	}()
	return b.text.Write(p)
}

// String is what was written. runc may write the first lines of a terminal before it has told the terminal to leave the ends of lines to it: they
// have two carriage returns then.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.ReplaceAll(b.text.String(), "\r\r\n", "\r\n")
}

// await waits for a text.
func (b *buffer) await(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(b.String(), text) {
		select {
		case <-b.more:
		case <-t.Context().Done():
			t.Fatalf("%q has no %q", b.String(), text)
		}
	}
}

// TestRootContainer runs processes beside each other in one container, with each runtime.
func TestRootContainer(t *testing.T) {
	for _, runtime := range runtimes(t) {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			h, p := realHost(t, runtime)
			c, err := h.Open(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Exec(t.Context(), sh("true")); !errors.Is(err, ErrNotRunning) {
				t.Errorf("before the start: %v", err)
			}
			out := newBuffer()
			cmd := sh("trap 'echo usr1' USR1; echo first >/file; echo started; while :; do sleep 0.01; done")
			cmd.Stdout = out
			first, err := c.Start(t.Context(), cmd)
			if err != nil {
				t.Fatal(err)
			}
			out.await(t, "started")
			if _, err := c.Start(t.Context(), sh("true")); err == nil {
				t.Error("it is started twice")
			}
			t.Run("streams", func(t *testing.T) { checkStreams(t, c) })
			t.Run("results", func(t *testing.T) { checkResults(t, c) })
			t.Run("signals", func(t *testing.T) { checkSignals(t, c, first, out) })
			t.Run("terminal", func(t *testing.T) { checkTerminal(t, c) })
			if runtime == "crun" { // runc copies the streams, and ends with them
				t.Run("background", func(t *testing.T) { checkBackground(t, c) })
			}
			last, err := c.Exec(t.Context(), sh("sleep 1000"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := last.Wait(); !errors.Is(err, ErrClosed) {
				t.Errorf("another process after the end: %v", err)
			}
			if err := first.Wait(); !errors.Is(err, ErrClosed) {
				t.Errorf("the first process after the end: %v", err)
			}
			if _, err := c.Exec(t.Context(), sh("true")); !errors.Is(err, ErrClosed) {
				t.Errorf("after the end: %v", err)
			}
			if got := fileTree(t, p.Root.Upper); got != "file" {
				t.Errorf("the container left %s", got)
			}
		})
	}
}

func checkStreams(t *testing.T, c *Container) {
	out, stderr := newBuffer(), newBuffer()
	cmd := sh("read line; echo \"$line $A $(cat /file) $(id -u) $(pwd)\"; echo problem >&2")
	r, w := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.User, cmd.Cwd = r, out, stderr, "7:8", "/usr"
	cmd.Env = append(cmd.Env, "A=b")
	p, err := c.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "typed\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil { // though stdin stays open
		t.Error(err)
	}
	if out.String() != "typed b first 7 /usr\n" || stderr.String() != "problem\n" {
		t.Errorf("%q, %q", out, stderr)
	}
	_ = w.Close()
}

func checkResults(t *testing.T, c *Container) {
	for name, want := range map[string]struct {
		cmd  Command
		want error
	}{
		"success": {sh("true"), nil},
		"a code":  {sh("exit 99"), &ociruntime.ExitError{Code: 99}},
		"missing": {Command{Args: []string{"/nosuch"}}, &ociruntime.StartError{Code: 127}},
	} {
		p, err := c.Exec(t.Context(), want.cmd)
		if err == nil {
			err = p.Wait()
		}
		var start *ociruntime.StartError
		if errors.As(err, &start) {
			err = &ociruntime.StartError{Code: start.Code}
		}
		if fmt.Sprintf("%#v", err) != fmt.Sprintf("%#v", want.want) && fmt.Sprint(err) != fmt.Sprint(want.want) {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func checkSignals(t *testing.T, c *Container, first *RunningProcess, out *buffer) {
	if err := first.Signal(unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	out.await(t, "usr1")
	for name, end := range map[string]func(p *RunningProcess, cancel func()) error{
		"exit code: 143":         func(p *RunningProcess, _ func()) error { return p.Signal(unix.SIGTERM) },
		"exit code: 137":         func(p *RunningProcess, _ func()) error { return p.Signal(unix.SIGKILL) },
		context.Canceled.Error(): func(_ *RunningProcess, cancel func()) error { cancel(); return nil },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p, err := c.Exec(ctx, Command{Args: []string{"/bin/sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := end(p, cancel); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err == nil || err.Error() != name {
			t.Errorf("%v, want %s", err, name)
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Errorf("after the end: %v", err)
		}
	}
}

func checkTerminal(t *testing.T, c *Container) {
	out := newBuffer()
	// A signal may end a read. Some shells run the trap only after a line.
	cmd := sh("trap 'stty size' WINCH; tty; stty size; until [ \"$line\" = quit ]; do read line && echo \"<$line>\"; done")
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	cmd.TTY, cmd.Size, cmd.Stdin, cmd.Stdout = true, pty.Size{Rows: 7, Columns: 77}, r, out
	p, err := c.Exec(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "7 77\r\n")
	p.Resize(pty.Size{Rows: 8, Columns: 88})
	for n := 0; !strings.Contains(out.String(), "8 88\r\n"); n++ {
		if _, err := fmt.Fprintf(w, "line %d\n", n); err != nil {
			t.Fatal(err)
		}
		out.await(t, fmt.Sprintf("<line %d>\r\n", n))
	}
	if _, err := io.WriteString(w, "quit\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got := out.String(); !strings.Contains(got, "/dev/pts/") || !strings.HasSuffix(got, "<quit>\r\n") {
		t.Errorf("%q", got)
	}
}

// A process that stays behind with the output does not keep its parent from ending.
func checkBackground(t *testing.T, c *Container) {
	shorten := func() error {
		c.b.drain = 300 * time.Millisecond
		return nil
	}
	if err := c.do(shorten); err != nil {
		t.Fatal(err)
	}
	for _, tty := range []bool{false, true} {
		out := newBuffer()
		cmd := sh("trap '' HUP; sleep 1000 & echo $!")
		cmd.Stdout, cmd.TTY = out, tty
		p, err := c.Exec(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil || out.String() == "" {
			t.Errorf("terminal %t: %q, %v", tty, out, err)
		}
	}
}

// TestRootContainerResults: the first process ends a container, in whatever way it ends.
func TestRootContainerResults(t *testing.T) {
	for _, runtime := range runtimes(t) {
		for name, k := range map[string]struct {
			cmd         Command
			start, wait string
		}{
			"success": {sh("true"), "", ""},
			"a code":  {sh("exit 3"), "", "exit code: 3"},
			"missing": {Command{Args: []string{"/nosuch"}}, `exec: "/nosuch": no such file or directory`, ""},
			"no args": {Command{}, "process has no arguments", ""},
		} {
			t.Run(runtime+" "+name, func(t *testing.T) {
				t.Parallel()
				h, p := realHost(t, runtime)
				c, err := h.Open(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				text := func(err error) string {
					if err == nil {
						return ""
					}
					return err.Error()
				}
				first, err := c.Start(t.Context(), k.cmd)
				if text(err) != k.start {
					t.Errorf("start: %v", err)
				}
				if err == nil {
					if err := first.Wait(); text(err) != k.wait {
						t.Errorf("wait: %v", err)
					}
					if _, err := c.Exec(t.Context(), sh("true")); !errors.Is(err, ErrNotRunning) {
						t.Errorf("after its end: %v", err)
					}
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestRootContainerEnds: the end of the context ends everything.
func TestRootContainerEnds(t *testing.T) {
	for _, runtime := range runtimes(t) {
		h, p := realHost(t, runtime)
		ctx, cancel := context.WithCancel(t.Context())
		c, err := h.Open(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		first, err := c.Start(t.Context(), sh("sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		other, err := c.Exec(t.Context(), sh("sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-c.Done()
		for _, p := range []*RunningProcess{first, other} {
			if err := p.Wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", runtime, err)
			}
		}
	}
}
