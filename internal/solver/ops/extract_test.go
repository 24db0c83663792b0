package ops

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/network"
)

// archiveOf is a tar with one file.
func archiveOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Uid: 7, Size: int64(len(content))})
	if _, writeErr := w.Write([]byte(content)); err == nil {
		err = writeErr
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestExtraction: ADD extracts archives, compressed or not. What it needs for that goes with the build.
func TestExtraction(t *testing.T) {
	t.Parallel()
	plain := archiveOf(t, "d/f", strings.Repeat("content", 100_000))
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	r := newRig(t, map[string][]byte{"a.tar": plain, "a.tar.gz": packed.Bytes(), "a.txt": []byte("text")})
	for name, want := range map[string]map[string]string{
		"/a.tar":    {"d": "d 755 0:0", "d/f": "f 640 7:0 " + strings.Repeat("content", 100_000)},
		"/a.tar.gz": {"d": "d 755 0:0", "d/f": "f 640 7:0 " + strings.Repeat("content", 100_000)},
		"/a.txt":    {"a.txt": "f 644 0:0 text"},
	} {
		res := r.mustSolve(t, llb.Scratch().File(llb.Copy(llb.Local("context"), name, "/", &llb.CopyInfo{AttemptUnpack: true})))
		if diff := cmp.Diff(want, r.list(t, res)); diff != "" {
			t.Errorf("%s: %.500s", name, diff)
		}
	}
	if err := r.worker.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(r.store.Path("tmp")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCopyOfAnEarlierState: an action copies from what an earlier one has made.
func TestCopyOfAnEarlierState(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	op := fileTask([]*pb.FileAction{
		{Input: -1, SecondaryInput: -1, Output: -1, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: "/a", Mode: 0o600, Data: []byte("1"), Timestamp: -1}}},
		{Input: -1, SecondaryInput: 0, Output: 0, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/a", Dest: "/b", Mode: -1, Timestamp: -1}}},
		{Input: 1, SecondaryInput: 1, Output: 1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/b", Dest: "/c", Mode: 0o640, Timestamp: -1}}},
	}).Vertex.Op
	for i, want := range []map[string]string{{"b": "f 600 0:0 1"}, {"b": "f 600 0:0 1", "c": "f 640 0:0 1"}} {
		res, err := r.Solve(t.Context(), output(t, op, i))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.list(t, res)); diff != "" {
			t.Errorf("output %d: %s", i, diff)
		}
	}
}

// TestNetworkWarning: a build says once that steps use the host's network.
func TestNetworkWarning(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	task := execTask(nil)
	for range 2 {
		op, err := newExecOp(r.worker, r.Task(task.Vertex, nil))
		if err != nil {
			t.Fatal(err)
		}
		o := op.(*execOp)
		if err := errors.Join(o.reportNetwork(&network.Namespace{}, nil), o.reportNetwork(nil, errors.New("no pasta"))); err != nil {
			t.Error(err)
		}
	}
	if got := r.said(); got != "WARNING: RUN uses the host's network: no pasta\n" {
		t.Errorf("%q", got)
	}
}
