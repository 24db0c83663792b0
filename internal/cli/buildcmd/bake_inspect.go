package buildcmd

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/progress"
)

// bakeInspection looks into the first target that fails, when all others have been stopped. The methods of a nil one do nothing.
type bakeInspection struct {
	look    func(context.Context, *builder.Container, error)
	targets map[string]chan struct{} // closed when a target has ended
	outer   context.Context          //nolint:containedctx // of the command, which ends by signals and not with the targets
	stop    context.CancelFunc

	claimed atomic.Bool // by the first target that fails
	err     error       // of that target
}

// newBakeInspection returns nil if nothing is to be looked into.
func newBakeInspection(i *inspection, display *progress.Build, targets map[string]*bakeTarget) *bakeInspection {
	if i == nil {
		return nil
	}
	i.display = display
	b := &bakeInspection{look: i.failed, targets: map[string]chan struct{}{}}
	for name := range targets {
		b.targets[name] = make(chan struct{})
	}
	return b
}

// stoppable returns the context of the targets.
func (b *bakeInspection) stoppable(ctx context.Context) (context.Context, context.CancelFunc) {
	if b == nil {
		return ctx, func() {}
	}
	b.outer = ctx
	ctx, b.stop = context.WithCancel(ctx)
	return ctx, b.stop
}

// ended notes that a target has ended.
func (b *bakeInspection) ended(target string) {
	if b != nil {
		close(b.targets[target])
	}
}

// onFailure is the builder.Options.OnFailure of a target, nil for none.
func (b *bakeInspection) onFailure(target string) func(context.Context, *builder.Container, error) {
	if b == nil {
		return nil
	}
	return func(_ context.Context, c *builder.Container, err error) {
		if !b.claimed.CompareAndSwap(false, true) {
			return // the first one waits for this one
		}
		b.err = fmt.Errorf("target %s: %w", target, err)
		b.stop()
		for name, ended := range b.targets {
			if name != target {
				<-ended
			}
		}
		b.look(b.outer, c, b.err)
	}
}

// failure returns the error of the target that was looked into, in place of those of the targets that were stopped for it.
func (b *bakeInspection) failure(err error) error {
	if b != nil && b.err != nil && b.outer.Err() == nil {
		return b.err
	}
	return err
}
