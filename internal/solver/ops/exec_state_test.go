package ops

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/sandbox"
)

// TestRootFailedState: what a failed step leaves is kept until the worker is closed, with the locks of its caches; only if it is wanted,
// and not if the step was canceled. No process can be started here, so that every step fails.
func TestRootFailedState(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ keep, canceled, want bool }{
		"kept": {keep: true, want: true}, "not wanted": {}, "canceled": {keep: true, canceled: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			r := rigOn(t, s, nil, func(o *Options) { o.KeepFailed = c.keep })
			task := execTask(func(op *pb.ExecOp) {
				op.Network, op.Meta.Cwd = pb.NetMode_NONE, "/w"
				op.Mounts = append(op.Mounts, &pb.Mount{
					Dest: "c", Input: -1, Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "one", Sharing: pb.CacheSharingOpt_LOCKED},
				})
			}, chain())
			task.Vertex.Digest = digest.FromString(name)
			op, err := newExecOp(r.worker, r.Task(task.Vertex, task.Inputs))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.canceled {
				cancel()
			}
			if _, err := op.Run(ctx); err == nil {
				t.Fatal("the process has run")
			}
			st := r.worker.Failed(task.Vertex.Digest)
			if (st != nil) != c.want {
				t.Fatalf("kept %v, want %v", st != nil, c.want)
			}
			if st != nil {
				checkState(t, st)
			}
			if err := r.worker.Close(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(s.Path("tmp")); len(left) > 0 || err != nil {
				t.Errorf("%v is left, %v", left, err)
			}
			if r.worker.Failed(task.Vertex.Digest) != nil {
				t.Error("it is known after the end")
			}
		})
	}
}

// checkState checks the state of the step of TestRootFailedState.
func checkState(t *testing.T, st *State) {
	t.Helper()
	p := st.Process
	if st.Name != "step" || p.Root.Upper == "" || len(p.Mounts) != 1 || p.Mounts[0].Type != sandbox.MountBind || p.Mounts[0].Target != "/w/c" {
		t.Errorf("%+v", p)
	}
	if err := os.WriteFile(filepath.Join(p.Root.Upper, "f"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if lock, ok, err := st.w.Store.TryLock("mount-" + filepath.Base(filepath.Dir(p.Mounts[0].Source))); ok || err != nil {
		t.Errorf("the cache is not locked: %v, %v", lock, err)
	}
}
