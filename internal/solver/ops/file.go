package ops

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// fileOp is COPY, ADD, WORKDIR and heredoc files: actions computed on Views, one layer for each output.
//
// An action works on an input of the operation, on the state that an earlier action left, or on nothing; indexes count
// the inputs first and the actions after them (pb.FileAction).
type fileOp struct {
	w  *Worker
	t  *solver.Task
	op *pb.FileOp
}

var _ = register[*pb.Op_File](kind{
	open: newFileOp,
	Kind: solver.Kind{
		Name: func(v *solver.Vertex) string { return fileOpName(v.Op.GetFile().Actions) },
		Beneath: func(v *solver.Vertex) (list []solver.Edge) {
			for _, a := range v.Op.GetFile().Actions {
				if a.Input >= 0 && int(a.Input) < len(v.Inputs) {
					list = append(list, v.Inputs[a.Input])
				}
			}
			return list
		},
	},
})

func fileOpName(actions []*pb.FileAction) string {
	names := make([]string, 0, len(actions))
	for _, action := range actions {
		switch a := action.Action.(type) {
		case *pb.FileAction_Mkdir:
			names = append(names, "mkdir "+a.Mkdir.Path)
		case *pb.FileAction_Mkfile:
			names = append(names, "mkfile "+a.Mkfile.Path)
		case *pb.FileAction_Symlink:
			names = append(names, "symlink "+a.Symlink.Newpath+" -> "+a.Symlink.Oldpath)
		case *pb.FileAction_Rm:
			names = append(names, "rm "+a.Rm.Path)
		case *pb.FileAction_Copy:
			names = append(names, "copy "+a.Copy.Src+" "+a.Copy.Dest)
		}
	}
	return strings.Join(names, ", ")
}

func newFileOp(w *Worker, t *solver.Task) (solver.Operation, error) {
	o := &fileOp{w, t, t.Vertex.Op.GetFile()}
	outputs := map[int64]bool{}
	for i, a := range o.op.Actions {
		for _, in := range []int64{a.Input, a.SecondaryInput} {
			if in < -1 || int(in) >= len(t.Inputs)+i {
				return nil, fmt.Errorf("file operation has an invalid input %d", in)
			}
		}
		if a.Output >= 0 {
			outputs[a.Output] = true
		}
	}
	for i := range len(outputs) {
		if !outputs[int64(i)] {
			return nil, fmt.Errorf("file operation has no output %d", i)
		}
	}
	if len(outputs) == 0 {
		return nil, fmt.Errorf("file operation has no output")
	}
	return o, nil
}

// Key is made of the actions, of the content that they copy, and of the chains that they change.
func (o *fileOp) Key(ctx context.Context) (k buildcache.Key, ok bool, err error) {
	for _, a := range o.op.Actions {
		plain := a.CloneVT()
		if c := plain.GetCopy(); c != nil {
			c.Src = path.Base(c.Src)
		}
		if err := k.AddOperation("file", plain); err != nil {
			return k, false, err
		}
	}
	for _, a := range o.op.Actions {
		if err := o.addInputs(ctx, &k, a); err != nil {
			return k, false, err
		}
	}
	return k, true, nil
}

func (o *fileOp) addInputs(ctx context.Context, k *buildcache.Key, a *pb.FileAction) error {
	if in := o.input(a.Input); in != nil {
		k.AddLayers(int(a.Input), "base", in.Chain)
		if in.Local != nil {
			if err := k.AddFiles(ctx, int(a.Input), buildcache.KindSource, "base", in.Local, "/", contents()); err != nil {
				return err
			}
		}
	}
	if c := a.GetCopy(); c != nil {
		if in := o.input(a.SecondaryInput); in != nil && !o.changes(a.SecondaryInput) && !in.IsEmpty() {
			from, err := o.t.View(ctx, in)
			if err != nil {
				return err
			}
			if err := k.AddFiles(ctx, int(a.SecondaryInput), buildcache.KindSource, c.Src, from, c.Src, copyOptions(c, nil)); err != nil {
				return o.w.unreadable(o.t, int(a.SecondaryInput), missing(err, c.Src, c.AllowWildcard))
			}
		}
	}
	for _, u := range owners(actionOwner(a)) {
		// Owner names are resolved to ids with files of the image; no other content of it is read.
		if in := o.input(u.Input); in != nil {
			k.AddChain(int(u.Input), "owner", in.Chain)
		}
	}
	return nil
}

// changes reports whether an action changes an input, whose chain is then in the key.
func (o *fileOp) changes(input int64) bool {
	return slices.ContainsFunc(o.op.Actions, func(a *pb.FileAction) bool { return a.Input == input })
}

// input returns the operation's own input i; nil for a state that an action left, and for none.
func (o *fileOp) input(i int64) *solver.Result {
	if i < 0 || int(i) >= len(o.t.Inputs) {
		return nil
	}
	return o.t.Inputs[i]
}

// fileState is an unfinished filesystem: committed layers, and changes on top of them.
type fileState struct {
	base    *solver.Result
	overlay *view.Overlay // nil once committed
}

// fileRun is one execution of the operation.
type fileRun struct {
	*fileOp
	uses   []int // how often each action's state is used again; a state used twice, or put out, is its own layer
	states []*fileState
}

func (o *fileOp) Run(ctx context.Context) ([]*solver.Result, error) {
	r := &fileRun{fileOp: o, uses: make([]int, len(o.op.Actions)), states: make([]*fileState, len(o.op.Actions))}
	for _, a := range o.op.Actions {
		for _, in := range []int64{a.Input, a.SecondaryInput} {
			if i := int(in) - len(o.t.Inputs); i >= 0 {
				r.uses[i]++
			}
		}
	}
	outs := map[int64]*solver.Result{}
	for i, a := range o.op.Actions {
		st, err := r.state(ctx, a.Input)
		if err != nil {
			return nil, err
		}
		if err := r.apply(ctx, st.overlay, a); err != nil {
			return nil, r.explain(ctx, err, i, st)
		}
		r.states[i] = st
		if a.Output < 0 && r.uses[i] < 2 {
			continue
		}
		if err := r.commit(ctx, st); err != nil {
			return nil, err
		}
		if a.Output >= 0 {
			outs[a.Output] = st.base
		}
	}
	list := make([]*solver.Result, len(outs))
	for i, res := range outs {
		list[i] = res
	}
	return list, nil
}

// state returns the filesystem that an action starts from, ready to be changed.
func (r *fileRun) state(ctx context.Context, in int64) (*fileState, error) {
	base := &solver.Result{}
	if i := int(in) - len(r.t.Inputs); i >= 0 {
		if st := r.states[i]; st.overlay != nil {
			return st, nil
		}
		base = r.states[i].base
	} else if res := r.input(in); res != nil {
		var err error
		if base, err = r.w.asLayers(ctx, res, "/"); err != nil {
			return nil, err
		}
	}
	v, err := r.t.View(ctx, base)
	if err != nil {
		return nil, err
	}
	return &fileState{base: base, overlay: view.NewOverlay(v)}, nil
}

func (r *fileRun) commit(ctx context.Context, st *fileState) error {
	changes, err := st.overlay.Changes(ctx)
	if err != nil {
		return err
	}
	link, err := r.w.write(ctx, changes, r.t.Vertex)
	if err != nil {
		return err
	}
	st.base, st.overlay = &solver.Result{Chain: st.base.Chain.On(link)}, nil
	return nil
}

// explain adds to the error of an action what it has left, if the build wants it: layers are made of it when it is read.
func (r *fileRun) explain(ctx context.Context, err error, failed int, st *fileState) error {
	if !r.w.keepMounts.Load() || ctx.Err() != nil {
		return err
	}
	e := &StepError{
		err: err, Inputs: r.t.Inputs, Mounts: make([]func(context.Context) (*solver.Result, error), len(r.op.Actions)),
		Subject: &errdefs.Solve_File{File: &errdefs.FileAction{Index: int64(failed)}},
	}
	var mu sync.Mutex
	left := func(st *fileState) func(context.Context) (*solver.Result, error) {
		return func(ctx context.Context) (*solver.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			if st.overlay != nil {
				if err := r.commit(ctx, st); err != nil {
					return nil, err
				}
			}
			return st.base, nil
		}
	}
	e.Mounts[failed] = left(st)
	if i := int(r.op.Actions[failed].SecondaryInput) - len(r.t.Inputs); i >= 0 {
		e.Mounts[i] = left(r.states[i])
	}
	return e
}

// source is the filesystem that an action copies from.
func (r *fileRun) source(ctx context.Context, in int64) (view.View, error) {
	if i := int(in) - len(r.t.Inputs); i >= 0 {
		if st := r.states[i]; st.overlay != nil {
			return st.overlay, nil
		}
		return r.t.View(ctx, r.states[i].base)
	}
	if res := r.input(in); res != nil {
		return r.t.View(ctx, res)
	}
	return view.Empty(), nil
}

// apply does one action.
func (r *fileRun) apply(ctx context.Context, o *view.Overlay, action *pb.FileAction) error {
	owner, err := r.owner(ctx, actionOwner(action))
	if err != nil {
		return err
	}
	switch a := action.Action.(type) {
	case *pb.FileAction_Copy:
		from, err := r.source(ctx, action.SecondaryInput)
		if err != nil {
			return err
		}
		opt := copyOptions(a.Copy, owner)
		if a.Copy.AttemptUnpackDockerCompatibility {
			tmp, err := r.w.Store.TempDir("unpack")
			if err != nil {
				return err
			}
			r.w.removeAtEnd(tmp)
			opt.TempDir = tmp.Path
		}
		return r.w.uncopied(o.Copy(ctx, from, a.Copy.Src, a.Copy.Dest, opt), a.Copy.Src, a.Copy.AllowWildcard)
	case *pb.FileAction_Mkdir:
		return o.Mkdir(ctx, a.Mkdir.Path, uint32(a.Mkdir.Mode), a.Mkdir.MakeParents, owner, timestamp(a.Mkdir.Timestamp))
	case *pb.FileAction_Mkfile:
		return o.Mkfile(ctx, a.Mkfile.Path, uint32(a.Mkfile.Mode), a.Mkfile.Data, owner, timestamp(a.Mkfile.Timestamp))
	case *pb.FileAction_Symlink:
		return o.Symlink(ctx, a.Symlink.Oldpath, a.Symlink.Newpath, owner, timestamp(a.Symlink.Timestamp))
	case *pb.FileAction_Rm:
		return o.Remove(ctx, a.Rm.Path, a.Rm.AllowNotFound, a.Rm.AllowWildcard)
	}
	return fmt.Errorf("file action %T is not supported", action.Action)
}

func copyOptions(c *pb.FileActionCopy, owner *view.Chown) view.CopyOptions {
	opt := view.CopyOptions{
		Owner: owner, ModeStr: c.ModeStr, FollowSymlink: c.FollowSymlink, DirCopyContents: c.DirCopyContents,
		AttemptUnpack: c.AttemptUnpackDockerCompatibility, CreateDestPath: c.CreateDestPath,
		AllowWildcard: c.AllowWildcard, AllowEmptyWildcard: c.AllowEmptyWildcard, ModTime: timestamp(c.Timestamp),
		IncludePatterns: c.IncludePatterns, ExcludePatterns: c.ExcludePatterns, RequiredPaths: c.RequiredPaths,
		AlwaysReplaceExistingDestPaths: c.AlwaysReplaceExistingDestPaths,
	}
	if c.Mode >= 0 {
		mode := uint32(c.Mode)
		opt.Mode = &mode
	}
	return opt
}

// timestamp is LLB's optional time: nanoseconds since 1970, or -1 for none.
func timestamp(ns int64) *int64 {
	if ns == -1 {
		return nil
	}
	return &ns
}
