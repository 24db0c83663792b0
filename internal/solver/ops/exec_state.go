package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/rootfs"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/store"
)

// State is the root filesystem of a process with its mounts, before the process has run or after it has failed. Other processes can
// run in it, one after the other, until it is closed. No layer is made of what they write.
type State struct {
	// Name is that of the step, as the progress shows it.
	Name string
	// Process is the process of the step.
	Process *sandbox.Process

	w      *Worker
	tmp    *store.Temp
	caches *cachemount.Locks
	trees  []*rootfs.Tree // in their place, where the host needs plain files
	root   *plainRoot     // of Process.Plain, until it is kept
	uppers []string       // of the mounts of the operation, by their indexes
	shown  []int          // the indexes of these mounts in Process.Mounts, -1 for one that is not there
}

// prepare makes the root filesystem and the mounts of the process.
func (o *execOp) prepare(ctx context.Context) (_ *State, err error) {
	if err := o.w.Host.Refused(); err != nil {
		return nil, fmt.Errorf("run process: %w", err)
	}
	p, err := o.process(ctx)
	if err != nil {
		return nil, err
	}
	if p.Network == sandbox.NetworkOwn {
		o.w.Host.StartNetwork()
	}
	tmp, err := o.w.execTemp()
	if err != nil {
		return nil, err
	}
	st := &State{Name: o.t.Vertex.Name, Process: p, w: o.w, tmp: tmp, uppers: make([]string, len(o.op.Mounts)), trees: make([]*rootfs.Tree, len(o.op.Mounts)), shown: make([]int, len(o.op.Mounts))}
	if err := o.addMounts(ctx, st); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return st, nil
}

// execTemp makes the directory for the mounts of a process.
func (w *Worker) execTemp() (*store.Temp, error) {
	if w.Host.Plain() {
		return w.Host.PlainTemp("exec")
	}
	return w.Store.TempDir("exec")
}

func (o *execOp) addMounts(ctx context.Context, st *State) (err error) {
	if st.caches, err = o.lockCaches(ctx); err != nil {
		return err
	}
	for _, i := range o.mountOrder() {
		m, before := o.op.Mounts[i], len(st.Process.Mounts)
		dir := filepath.Join(st.tmp.Path, fmt.Sprint(i))
		if m.MountType == pb.MountType_BIND && o.w.Host.Plain() {
			err = o.addPlain(ctx, st, i, dir)
		} else {
			st.uppers[i], err = o.addMount(ctx, st.Process, st.caches, m, dir)
		}
		if err != nil {
			return err
		}
		st.shown[i] = -1
		if len(st.Process.Mounts) > before {
			st.shown[i] = before
			st.Process.Mounts[before].Target = o.target(m)
		}
	}
	return nil
}

// target is the absolute path of a mount.
func (o *execOp) target(m *pb.Mount) string {
	if path.IsAbs(m.Dest) {
		return m.Dest
	}
	return path.Join("/", o.op.Meta.Cwd, m.Dest)
}

// mountOrder are the indexes of the mounts in the order in which they are mounted, a directory before what is in it: as in BuildKit.
func (o *execOp) mountOrder() []int {
	order := make([]int, len(o.op.Mounts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(o.target(o.op.Mounts[a]), o.target(o.op.Mounts[b])) })
	return order
}

// Shown is the index in Process.Mounts of a mount of the operation, and -1 for the root filesystem and for a mount that is left out.
func (st *State) Shown(mount int) int { return st.shown[mount] }

// Close removes a state of Prepare.
func (st *State) Close() error { return st.close() }

// close unlocks the cache mounts, and removes what is left of the root filesystem while other steps run.
func (st *State) close() error {
	st.w.removeLater(st.tmp)
	if st.root != nil {
		st.w.removeLater(st.root.temp)
		st.root = nil
	}
	return st.unlock()
}

// unlock unlocks the cache mounts.
func (st *State) unlock() error {
	caches := st.caches
	if caches == nil {
		return nil
	}
	st.caches = nil
	return caches.Unlock()
}

// Prepare returns the state that the process of an operation would begin with. The caller closes it.
func (w *Worker) Prepare(ctx context.Context, t *solver.Task) (*State, error) {
	op, err := newExecOp(w, t)
	if err != nil {
		return nil, err
	}
	return op.(*execOp).prepare(ctx) //nolint:forcetypeassert // it is one
}

// Before returns the state that the process of an operation would begin with. It is valid until Close.
func (w *Worker) Before(ctx context.Context, t *solver.Task) (*State, error) {
	st, err := w.Prepare(ctx, t)
	if err != nil {
		return nil, err
	}
	return st, w.keep(t.Vertex, st)
}

// keep keeps a state until Close.
func (w *Worker) keep(v *solver.Vertex, st *State) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.kept[v.Digest]
	w.kept[v.Digest] = st
	if old == nil {
		return nil
	}
	return old.close() // a later graph has tried it again
}

// Failed returns the state that the failed process of an operation has left, nil for none. It is valid until Close.
func (w *Worker) Failed(op digest.Digest) *State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept[op]
}
