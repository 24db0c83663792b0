package ops

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// TestFileStepErrors: the error of a file operation says which action has failed, and what the actions have left.
func TestFileStepErrors(t *testing.T) {
	t.Parallel()
	made := llb.Mkdir("/d", 0o755).Mkfile("/d/f", 0o600, []byte("x"))
	left := map[string]string{"d": "d 755 0:0", "d/f": "f 600 0:0 x"}
	for name, c := range map[string]struct {
		st     llb.State
		index  int64
		inputs int
		mounts map[int]map[string]string
	}{
		"mkfile": {llb.Scratch().File(made.Mkfile("/no/f", 0o600, nil)), 2, 0, map[int]map[string]string{2: left}},
		"copy of an input": {
			file("a").File(llb.Copy(file("b"), "/b", "/no/b")), 0, 2, map[int]map[string]string{0: {"a": "f 600 0:0 a"}},
		},
		"copy of an action": {
			file("a").File(llb.Copy(made.WithState(llb.Scratch()), "/d/f", "/no/f")), 2, 1, map[int]map[string]string{1: left, 2: {"a": "f 600 0:0 a"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, newStore(t), nil, func(o *Options) { o.KeepMounts = true })
			_, err := r.solve(t, c.st)
			var failed *StepError
			if !errors.As(err, &failed) {
				t.Fatalf("%v", err)
			}
			subject, ok := failed.Subject.(*errdefs.Solve_File)
			if !ok || subject.File.Index != c.index || len(failed.Inputs) != c.inputs {
				t.Errorf("%v, %d inputs", failed.Subject, len(failed.Inputs))
			}
			got := map[int]map[string]string{}
			for i, find := range failed.Mounts {
				if find == nil {
					continue
				}
				res, err := find(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got[i] = r.list(t, res)
			}
			if diff := cmp.Diff(c.mounts, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestClientErrors: clients of BuildKit's API look for its words.
func TestClientErrors(t *testing.T) {
	t.Parallel()
	base := file("a")
	for name, c := range map[string]struct {
		st           llb.State
		short, words string
		cache        bool // the input could not be read
	}{
		"no source": {
			llb.Scratch().File(llb.Copy(llb.Local("context"), "/no", "/")),
			`failed to compute cache key: "/no": not found`, `failed to compute cache key: failed to calculate checksum of ref mica::`, true,
		},
		"in the filesystem that it changes": {base.File(llb.Copy(base, "/no", "/")), `"/no": not found`, "lstat /no: no such file or directory", false},
		"in an image without layers": {
			base.File(llb.Copy(llb.NewState(llb.NewPassthroughOp("empty", []llb.PassthroughInput{{State: llb.Diff(base, base), Output: true}}).Output()), "/no", "/")),
			`"/no": not found`, "lstat /no: no such file or directory", false,
		},
		"in an empty filesystem": {base.File(llb.Copy(llb.Scratch(), "/no", "/")), `"/no": not found`, "lstat /no: no such file or directory", false},
	} {
		for want, client := range map[string]bool{c.short: false, c.words: true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				_, err := rigOn(t, newStore(t), map[string][]byte{"f": nil}, func(o *Options) { o.ClientErrors = client }).solve(t, c.st)
				if err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
				var failed *StepError
				if errors.As(err, &failed) != c.cache {
					t.Errorf("%v is a StepError: %v", err, !c.cache)
				}
				if c.cache && (len(failed.Inputs) != 1 || failed.Inputs[0] == nil || failed.Subject.(*errdefs.Solve_Cache).Cache.Index != 0) {
					t.Errorf("%+v", failed)
				}
			})
		}
	}
	o := newExec(t, New(Options{ClientErrors: true}), func(op *pb.ExecOp) {
		op.Mounts = append(op.Mounts, &pb.Mount{Dest: "/ssh", Input: -1, MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: "x"}})
	})
	if err := o.addHostMount(t.Context(), nil, o.op.Mounts[1]); text(err) != `no SSH key "x" forwarded from the client: unset ssh forward key x` {
		t.Errorf("%v", err)
	}
}
