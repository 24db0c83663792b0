package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// exec runs the runtime in the foreground and translates how it ends.
func (h *Host) exec(ctx context.Context, b *bundle, t *terminal, cmd *exec.Cmd) error {
	// Opened here: other threads do not see the bundle.
	log, err := os.OpenFile(logPath(b.dir), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	defer func() { _ = log.Close() }()
	said := b.connect(cmd, t, log)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return &StartError{125, fmt.Sprintf("start %s: %v", h.runtime, cause(err))}
	}
	if t != nil {
		t.run(b.p)
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if t != nil {
			err = errors.Join(err, t.close())
		}
		done <- errors.Join(err, said.flush())
	}()
	for {
		select {
		case err := <-done:
			return outcome(err, log)
		case sig := <-b.p.Signals:
			_ = cmd.Process.Signal(sig)
		case <-ctx.Done():
			// From this thread: the runtime must see the process under the number that it knows.
			_ = h.command(b.dir, "delete", "--force", containerID).Run()
			_ = cmd.Process.Kill()
			_ = <-done //nolint:staticcheck // only that it has ended matters
			return context.Cause(ctx)
		}
	}
}

// connect gives the runtime its streams. Its stderr is the process's as well: what it says there itself is taken out.
func (b *bundle) connect(cmd *exec.Cmd, t *terminal, log io.ReaderAt) *diagnostics {
	said := &diagnostics{to: b.p.Stderr, log: log, command: b.p.Args[0]}
	if said.to == nil {
		said.to = io.Discard
	}
	cmd.Stderr = said
	if t != nil {
		return said
	}
	cmd.Stdin, cmd.Stdout = b.p.Stdin, b.p.Stdout
	if sameFile(b.p.Stdout, b.p.Stderr) {
		cmd.Stdout = said // one pipe keeps the order
	}
	// What runs in the foreground of a terminal must stay in its process group; a build step need not see Ctrl-C.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: b.p.Stdin == nil}
	return said
}

// sameFile reports whether two streams lead to one place.
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

// outcome tells a process's own end from the runtime's failure to start it, of which its log speaks.
func outcome(err error, log io.ReaderAt) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("wait for process: %w", err)
	}
	if reason := runtimeError(log); reason != "" {
		return startError(reason)
	}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return &ExitError{128 + int(st.Signal())}
	}
	return &ExitError{exit.ExitCode()}
}
