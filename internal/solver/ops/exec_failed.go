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

// ExecError is the error of a process that failed, with what its mounts showed and show.
type ExecError struct {
	err error
	// Inputs are what the mounts of the operation show before the process, nil for one that shows no result.
	Inputs []*solver.Result

	w     *Worker
	name  string
	state *State // nil if the process was not prepared

	mu    sync.Mutex
	after []*solver.Result
}

func (e *ExecError) Error() string { return e.err.Error() }
func (e *ExecError) Unwrap() error { return e.err }

// Mount returns what a mount shows after the process. It makes a layer of what the process has written.
func (e *ExecError) Mount(ctx context.Context, i int) (*solver.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == nil || e.state.uppers[i] == "" {
		return e.Inputs[i], nil
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
	in := e.Inputs[i]
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
	failed := &ExecError{err: err, Inputs: make([]*solver.Result, len(mounts)), w: o.w, name: o.t.Vertex.Name, state: st, after: make([]*solver.Result, len(mounts))}
	for i, m := range mounts {
		if m.MountType == pb.MountType_BIND || m.MountType == pb.MountType_CACHE {
			failed.Inputs[i] = o.input(m)
		}
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
