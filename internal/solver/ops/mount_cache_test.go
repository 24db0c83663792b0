package ops

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/view"
)

// TestRootEmptyCaches: the caches of a step that is not to be cached are emptied once in a build.
func TestRootEmptyCaches(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	op := &pb.ExecOp{Mounts: []*pb.Mount{
		{Dest: "/", Output: 0}, {Dest: "/a", Input: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: "one"}},
		{Dest: "/b", Input: -1, MountType: pb.MountType_CACHE},
	}}
	file := func(id string) string {
		dir, err := r.worker.mounts.Open(t.Context(), cachemount.Name(id, nil), id, func() (view.View, error) { return view.Empty(), nil })
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "f")
	}
	for i, want := range []bool{false, true} { // whether the file is still there
		for _, id := range []string{"one", "two"} {
			if err := os.WriteFile(file(id), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.worker.emptyCaches(op); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]bool{"one": want, "two": true} {
			if _, err := os.Lstat(file(id)); (err == nil) != want {
				t.Errorf("%d: %s: %v, want the file %t", i, id, err, want)
			}
		}
	}
}

// TestRootCacheMounts: a cache is known by its ID and initial content, and a step that mounts it twice has it once.
func TestRootCacheMounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	cache := func(dest, id string, input int64, sharing pb.CacheSharingOpt) *pb.Mount {
		return &pb.Mount{Dest: dest, Input: input, Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: id, Sharing: sharing}}
	}
	mounts := []*pb.Mount{
		cache("/a", "one", -1, pb.CacheSharingOpt_SHARED), cache("/b", "one", -1, pb.CacheSharingOpt_LOCKED),
		cache("/c", "one", 1, pb.CacheSharingOpt_SHARED), cache("/d", "two", -1, pb.CacheSharingOpt_SHARED),
	}
	mounts[1].Readonly, mounts[1].Selector = true, "sub"
	task := execTask(func(op *pb.ExecOp) { op.Mounts = append(op.Mounts, mounts...) }, chain(), local(map[string]string{"f": "1"}))
	op, err := newExecOp(r.worker, r.Task(task.Vertex, task.Inputs))
	if err != nil {
		t.Fatal(err)
	}
	o := op.(*execOp)
	locks, err := o.lockCaches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []sandbox.Mount
	dirs := map[string]string{}
	for _, m := range mounts {
		mount, err := o.cacheMount(t.Context(), locks, m)
		if err != nil {
			t.Fatal(err)
		}
		dirs[m.Dest], mount.Source = mount.Source, ""
		got = append(got, mount)
	}
	want := []sandbox.Mount{
		{Type: sandbox.MountBind, Target: "/a", Shared: true}, {Type: sandbox.MountBind, Target: "/b", Shared: true, ReadOnly: true, Selector: "sub"},
		{Type: sandbox.MountBind, Target: "/c", Shared: true}, {Type: sandbox.MountBind, Target: "/d", Shared: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if dirs["/a"] != dirs["/b"] || dirs["/a"] == dirs["/c"] || dirs["/a"] == dirs["/d"] {
		t.Errorf("%v", dirs)
	}
	if data, err := os.ReadFile(filepath.Join(dirs["/c"], "f")); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	// It is locked in the strictest of the two modes.
	if lock, ok, err := r.store.TryLock("mount-" + filepath.Base(filepath.Dir(dirs["/a"]))); ok || err != nil {
		t.Errorf("%v, %v", lock, err)
	}
	if err := locks.Unlock(); err != nil {
		t.Error(err)
	}
}
