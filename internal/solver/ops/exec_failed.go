package ops

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
)

// failedProcess is what a process that failed has left.
type failedProcess struct {
	w      *Worker
	name   string
	state  *State // nil if the process was not prepared
	inputs []*solver.Result

	mu    sync.Mutex
	after []*solver.Result
}

// mount returns what a mount shows after the process. It makes a layer of what the process has written.
func (e *failedProcess) mount(ctx context.Context, i int) (*solver.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == nil || e.state.uppers[i] == "" {
		return e.inputs[i], nil
	}
	if e.after[i] != nil {
		return e.after[i], nil
	}
	if !e.w.isKept(e.state) {
		return nil, errors.New("what the process has left is no longer there")
	}
	l, err := e.w.Layers.Commit(ctx, e.state.uppers[i], nil)
	if err != nil {
		return nil, err
	}
	in := e.inputs[i]
	if in == nil {
		in = &solver.Result{}
	}
	made := buildcache.Link{DiffID: l.DiffID, Created: time.Now().UTC(), Description: e.name}
	e.after[i] = &solver.Result{Chain: in.Chain.On(made)}
	return e.after[i], nil
}

// explain adds to the error of a process what its mounts show, if the build wants it. The state is kept then, without its caches: others may
// wait for them.
func (o *execOp) explain(ctx context.Context, err error, st *State) error {
	if !o.w.keepMounts.Load() || ctx.Err() != nil {
		if st != nil {
			err = errors.Join(err, st.close())
		}
		return err
	}
	mounts := o.op.Mounts
	left := &failedProcess{w: o.w, name: o.t.Vertex.Name, state: st, inputs: make([]*solver.Result, len(mounts)), after: make([]*solver.Result, len(mounts))}
	failed := &StepError{err: err, Inputs: left.inputs}
	for i, m := range mounts {
		if m.MountType == pb.MountType_BIND || m.MountType == pb.MountType_CACHE {
			left.inputs[i] = o.input(m)
		}
		failed.Mounts = append(failed.Mounts, func(ctx context.Context) (*solver.Result, error) { return left.mount(ctx, i) })
	}
	if st == nil {
		return failed
	}
	if unlockErr := st.unlock(); unlockErr != nil {
		failed.err = errors.Join(err, unlockErr)
	}
	if keepErr := o.w.keep(o.t.Vertex, st); keepErr != nil {
		failed.err = errors.Join(failed.err, keepErr)
	}
	return failed
}

func (w *Worker) isKept(st *State) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kept := range w.kept {
		if kept == st {
			return true
		}
	}
	return false
}
