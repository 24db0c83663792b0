package sources

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"

	"github.com/micabuild/mica/internal/hostfiles"
)

// program is git, on PATH.
const program = "git"

// run runs git in a process group, which ends with ctx, or when it writes too much: the server may have as many refs as it likes.
func (r *repository) run(ctx context.Context, cmd *exec.Cmd) error {
	return hostfiles.With(ctx, func() error {
		cmd.Path, cmd.Err = exec.LookPath(program)
		return r.runAlone(ctx, cmd)
	})
}

func (r *repository) runAlone(ctx context.Context, cmd *exec.Cmd) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.authHeader != "" {
		cmd.Env = append(cmd.Env, authVariable+"="+r.authHeader)
	}
	cmd.Env = append(cmd.Env, r.credentials()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = &limitedOutput{w: cmd.Stdout, exceeded: cancel}
	cmd.Stderr = &limitedOutput{w: cmd.Stderr, exceeded: func(error) {}} // messages of a fetch that succeeds, too
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = <-done //nolint:staticcheck // only that it has ended matters
		return context.Cause(ctx)
	}
}

// maxOutput bounds what is kept of each output of one run of git, in bytes.
const maxOutput = 16 << 20

// limitedOutput is an output of a program. What the program writes after the limit is dropped.
type limitedOutput struct {
	w        io.Writer
	size     int
	exceeded func(error)
}

func (o *limitedOutput) Write(data []byte) (int, error) {
	if o.size += len(data); o.size <= maxOutput {
		return o.w.Write(data)
	}
	o.exceeded(fmt.Errorf("git has written more than %d MiB", maxOutput>>20))
	return len(data), nil
}
