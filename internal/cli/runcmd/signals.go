package runcmd

import (
	"cmp"
	"context"
	"os"
	ossignal "os/signal"
	"syscall"
	"time"

	"github.com/moby/sys/signal"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/ociruntime"
)

// forwardSignals gives the process the signals that mica receives, for as long as it runs: it decides when to end.
// SIGTERM is what `docker stop` does: the process gets its stop signal, and is killed if it has not ended when the stop
// timeout is over. The context ends then. So it is when the terminal of a process is closed: a shell that is process 1 ignores
// SIGHUP, and nobody can attach to it.
func (f *runFlags) forwardSignals(ctx context.Context, img *image.Image) (context.Context, <-chan os.Signal, func()) {
	if !f.sigProxy {
		return ctx, nil, func() {}
	}
	stop := syscall.SIGTERM
	if sig, err := signal.ParseSignal(cmp.Or(f.stopSignal, img.Config.Config.StopSignal)); err == nil {
		stop = sig
	}
	ctx, cancel := context.WithCancelCause(ctx)
	in, out := make(chan os.Signal, 16), make(chan os.Signal, 16)
	ossignal.Reset(syscall.SIGINT, syscall.SIGTERM)
	ossignal.Notify(in, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-in:
				ends := sig == syscall.SIGTERM || sig == syscall.SIGHUP && f.tty
				if sig == syscall.SIGTERM {
					sig = stop
				}
				select {
				case out <- sig:
				case <-ctx.Done():
				}
				if ends && f.stopTimeout >= 0 {
					time.AfterFunc(time.Duration(f.stopTimeout)*time.Second, func() { cancel(killed) })
				}
			}
		}
	}()
	return ctx, out, func() {
		ossignal.Stop(in)
		cancel(nil)
	}
}

// killed is the end of a process that the stop timeout has killed.
var killed = &ociruntime.ExitError{Code: 128 + int(syscall.SIGKILL)}
