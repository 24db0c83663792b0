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
	cgroups := !h.ids.Nested() || h.cgroup != "" // an ordinary user needs a delegated one
	return ociruntime.Command(h.runtime, dir, cgroups, args...)
}

func (h *Host) isCrun() bool { return ociruntime.IsCrun(h.runtime) }

// terminal gives the runtime a terminal: crun a socket, others their end of a pair.
func (h *Host) terminal(cmd *exec.Cmd, b *bundle) (*pty.Terminal, error) {
	if h.isCrun() {
		return pty.Listen(cmd, b.p.Stdin, b.p.Stdout, b.dir)
	}
	return pty.Open(cmd, b.p.Stdin, b.p.Stdout)
}

// exec runs the runtime in the foreground and translates its result.
func (h *Host) exec(ctx context.Context, b *bundle, t *pty.Terminal, cmd *exec.Cmd) error {
	// Opened here: other threads do not see the bundle.
	log, err := os.OpenFile(ociruntime.LogPath(b.dir), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	defer func() { _ = log.Close() }()
	stderr := b.connect(cmd, t, log)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return &ociruntime.StartError{Code: 125, Reason: fmt.Sprintf("start %s: %v", h.runtime, cause(err))}
	}
	if t != nil {
		t.Run()
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if t != nil {
			err = errors.Join(err, t.Close())
		}
		done <- errors.Join(err, stderr.Flush())
	}()
	for {
		select {
		case err := <-done:
			return ociruntime.Outcome(err, log)
		case sig := <-b.p.Signals:
			_ = cmd.Process.Signal(sig)
		case <-ctx.Done():
			// From this thread: the runtime must see the process with the same process id.
			_ = h.command(b.dir, "delete", "--force", containerID).Run()
			_ = cmd.Process.Kill()
			_ = <-done //nolint:staticcheck // only that it has ended matters
			return context.Cause(ctx)
		}
	}
}

// connect sets the streams of the runtime. The process shares its stderr: the runtime's own messages are removed.
func (b *bundle) connect(cmd *exec.Cmd, t *pty.Terminal, log io.ReaderAt) *ociruntime.Stderr {
	d := ociruntime.NewStderr(b.p.Stderr, log, b.p.Args[0])
	cmd.Stderr = d
	if t != nil {
		return d
	}
	cmd.Stdin, cmd.Stdout = b.p.Stdin, b.p.Stdout
	if sameFile(b.p.Stdout, b.p.Stderr) {
		cmd.Stdout = d // one pipe keeps the order
	}
	// A process in the foreground of a terminal must stay in its process group. A build step need not get Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: b.p.Stdin == nil}
	return d
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
