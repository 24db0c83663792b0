package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/pty"
)

// command returns the runtime's command with args.
func (h *Host) command(dir string, args ...string) *exec.Cmd {
	return ociruntime.Command(h.runtime, dir, h.hasCgroups(), args...)
}

// hasCgroups reports whether the runtime can make cgroups: an ordinary user needs a delegated one.
func (h *Host) hasCgroups() bool { return !h.ids.Nested() || h.cgroup != "" }

func (h *Host) isCrun() bool { return ociruntime.IsCrun(h.runtime) }

// terminal gives the runtime a terminal: crun a socket of this name, others their end of a pair.
func (h *Host) terminal(cmd *exec.Cmd, b *bundle, socket string) (*pty.Terminal, error) {
	streams := pty.Streams{In: b.p.Stdin, Out: b.p.Stdout, Remote: b.remote, Size: b.size, Drain: b.drain}
	if h.isCrun() {
		return pty.Listen(cmd, streams, b.dir, socket)
	}
	return pty.Open(cmd, streams)
}

// child is a runtime in the foreground: it has the streams of the process that it runs, and its end.
type child struct {
	cmd      *exec.Cmd
	terminal *pty.Terminal // nil for none
	ended    chan error    // the result of the process
}

// exec runs the runtime to its end.
func (h *Host) exec(ctx context.Context, b *bundle, t *pty.Terminal, cmd *exec.Cmd) error {
	c, err := h.launch(ctx, b, t, cmd, ociruntime.LogPath(b.dir))
	if err != nil {
		return err
	}
	for {
		select {
		case err := <-c.ended:
			return err
		case sig := <-b.p.Signals:
			_ = cmd.Process.Signal(sig)
		case <-ctx.Done():
			h.remove(b, c)
			_ = <-c.ended //nolint:staticcheck // only that it has ended matters
			return context.Cause(ctx)
		}
	}
}

// remove ends the processes of the container. It is called on the container's thread: the runtime must see its process with the same
// process ID.
func (h *Host) remove(b *bundle, c *child) {
	_ = h.command(b.dir, "delete", "--force", containerID).Run()
	_ = c.cmd.Process.Kill()
}

// launch starts the runtime, whose log has the path logPath.
func (h *Host) launch(ctx context.Context, b *bundle, t *pty.Terminal, cmd *exec.Cmd, logPath string) (*child, error) {
	// Opened here: other threads do not see the bundle.
	log, err := os.OpenFile(logPath, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("prepare sandbox: %w", err)
	}
	stderr, err := b.connect(cmd, t, log)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = h.startRuntime(cmd)
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if t != nil {
		t.Run()
	}
	c := &child{cmd: cmd, terminal: t, ended: make(chan error, 1)}
	go func() {
		err := cmd.Wait()
		if errors.Is(err, exec.ErrWaitDelay) { // the process has ended
			err = nil
		}
		if t != nil {
			err = errors.Join(err, t.Close())
		}
		err = ociruntime.Outcome(errors.Join(err, stderr.Flush()), log)
		_ = log.Close()
		c.ended <- err
	}()
	return c, nil
}

func (h *Host) startRuntime(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return &ociruntime.StartError{Code: ociruntime.CodeOther, Reason: fmt.Sprintf("start %s: %v", h.runtime, cause(err))}
	}
	return nil
}

// connect sets the streams of the runtime. The process shares its stderr: the runtime's own messages are removed.
func (b *bundle) connect(cmd *exec.Cmd, t *pty.Terminal, log io.ReaderAt) (*ociruntime.Stderr, error) {
	d := ociruntime.NewStderr(b.p.Stderr, log, b.p.Args[0])
	cmd.Stderr, cmd.WaitDelay = d, b.drain
	if t != nil {
		return d, nil
	}
	cmd.Stdout = b.p.Stdout
	if sameFile(b.p.Stdout, b.p.Stderr) {
		cmd.Stdout = d // one pipe keeps the order
	}
	// A process in the foreground of a terminal must stay in its process group. A build step need not get Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: b.p.Stdin == nil || b.remote}
	return d, b.feed(cmd)
}

// feed connects stdin. The end of the process does not wait for a reader that is not a file: its user may keep it open.
func (b *bundle) feed(cmd *exec.Cmd) error {
	if _, file := b.p.Stdin.(*os.File); file || b.p.Stdin == nil {
		cmd.Stdin = b.p.Stdin
		return nil
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	go func() {
		_, _ = io.Copy(stdin, b.p.Stdin)
		_ = stdin.Close()
	}()
	return nil
}

// sameFile reports whether two streams are the same file.
func sameFile(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, okay := b.(*os.File)
	if !ok || !okay || f == nil || g == nil {
		return false
	}
	one, err := f.Stat()
	if err != nil {
		return false
	}
	other, err := g.Stat()
	return err == nil && os.SameFile(one, other)
}
