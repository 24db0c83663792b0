package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/identity"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// die does to the record of a running build what the death of its process does. A program that another test starts may have the file for a
// moment, so that to close it is not enough.
func (w *Writer) die() error {
	return errors.Join(unix.Flock(int(w.running.Fd()), unix.LOCK_UN), w.running.Close())
}

// TestReadWhileItEnds: a build is read as what it is at any moment between the record of its end and the removal of the other.
func TestReadWhileItEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(b *Builds, w *Writer, path string) error
		want Status
		err  error
	}{
		"it runs": {func(*Builds, *Writer, string) error { return nil }, Running, nil},
		"both records": {func(b *Builds, w *Writer, path string) error {
			w.build.Status = Completed
			return b.store.WriteCacheFile(path, []byte(fmt.Sprintf(`{"ref":"r","line":"l","started":%q,"status":"Completed"}`, w.build.Started.Format(time.RFC3339Nano))))
		}, Completed, nil},
		"the end alone": {func(_ *Builds, w *Writer, _ string) error {
			w.build.Status = Failed
			return w.End()
		}, Failed, nil},
		"an end that says that it runs": {func(_ *Builds, w *Writer, _ string) error { return w.End() }, Interrupted, nil},
		"killed":                        {func(_ *Builds, w *Writer, _ string) error { return w.die() }, Interrupted, nil},
		"removed":                       {func(_ *Builds, _ *Writer, path string) error { return os.Remove(path + runningSuffix) }, "", ErrNotFound},
		"without a line":                {func(_ *Builds, _ *Writer, path string) error { return os.Truncate(path+runningSuffix, 5) }, "", &DamagedError{}},
	} {
		b := open(t)
		w, err := b.Begin(context.Background(), &Build{Ref: "r", Line: "l", Started: time.Now().UTC()})
		if err != nil {
			t.Fatal(err)
		}
		listed, err := b.files()
		if err != nil || len(listed) != 1 || !listed[0].running {
			t.Fatalf("%+v, %v", listed, err)
		}
		if err := tt.edit(b, w, filepath.Join(b.dir, fileName(w.build))); err != nil {
			t.Fatal(err)
		}
		got, err := b.find(listed[0], "r") // as it was listed
		var damaged *DamagedError
		switch {
		case tt.err == nil && (err != nil || got.Status != tt.want):
			t.Errorf("%s: %+v, %v, want %s", name, got, err, tt.want)
		case tt.err != nil && !errors.Is(err, tt.err) && !errors.As(err, &damaged):
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
		if files, err := b.files(); err != nil || len(files) > 1 {
			t.Errorf("%s: the build is listed as %+v, %v", name, files, err)
		}
	}
}

// TestBeginErrors: a build that cannot be recorded leaves nothing behind.
func TestBeginErrors(t *testing.T) {
	t.Parallel()
	build := func() *Build { return &Build{Ref: "r", Line: "l", Started: time.Now()} }
	b := open(t)
	if err := os.WriteFile(b.dir, nil, 0o600); err != nil { // in the place of the directory
		t.Fatal(err)
	}
	if _, err := b.Begin(context.Background(), build()); err == nil || !strings.HasPrefix(err.Error(), "record build: ") {
		t.Errorf("%v", err)
	}
	left, err := filepath.Glob(b.store.Path("tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%q is left, %v", left, err)
	}
	b = open(t)
	lock, _, err := b.store.TryLock(sweepLock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Begin(ctx, build()); !errors.Is(err, context.Canceled) {
		t.Errorf("while another sweeps: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if w, err := b.Begin(context.Background(), build()); err != nil || w.End() != nil {
		t.Errorf("after the sweep: %v", err)
	}
	if files, err := b.files(); err != nil || len(files) != 1 {
		t.Errorf("%+v, %v", files, err)
	}
}

// TestSweepLocked: a sweep beside another removes nothing, and is made up for later.
func TestSweepLocked(t *testing.T) {
	t.Parallel()
	b := open(t)
	record(t, b, "one", "l", 1)
	sum := digest.FromString("files")
	if err := b.SaveFiles(sum, []byte("x")); err != nil {
		t.Fatal(err)
	}
	lock, ok, err := b.store.TryLock(sweepLock)
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	if err := b.Trim(true); err != nil || !b.HasFiles(sum) || !b.marked(sweptMark).IsZero() {
		t.Errorf("beside another sweep: %v, the files are there: %t", err, b.HasFiles(sum))
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := b.Trim(true); err != nil || b.HasFiles(sum) || b.marked(sweptMark).IsZero() {
		t.Errorf("after it: %v, the files are there: %t", err, b.HasFiles(sum))
	}
}

// TestApply: updates in order make the build, whatever they repeat.
func TestApply(t *testing.T) {
	t.Parallel()
	b := &Build{}
	b.apply(update{Text: "FROM a\n", Steps: []*Step{{Vertex: "a", Name: "one"}, nil, {Vertex: "b", Name: "two"}}})
	b.apply(update{Steps: []*Step{{Vertex: "a", Name: "one", State: StepCached}, {Vertex: "c", Name: "three", Inputs: []digest.Digest{"a"}}}})
	b.apply(update{})
	var got []string
	for _, s := range b.Steps {
		got = append(got, s.Name+":"+string(s.State))
	}
	if strings.Join(got, " ") != "one:cached two: three:" || b.Text != "FROM a\n" || b.Step("c").Name != "three" || b.Step("d") != nil {
		t.Errorf("%q, %q", got, b.Text)
	}
}

// TestWriteErrors: what cannot be written is an error that says so, and the end is still recorded.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	b := open(t)
	build := &Build{Ref: "r", Line: "l", Started: time.Now().UTC()}
	w, err := b.Begin(context.Background(), build)
	if err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(filepath.Join(b.dir, fileName(build)+runningSuffix))
	if err := errors.Join(err, w.die()); err != nil {
		t.Fatal(err)
	}
	w.running = readOnly
	if err := w.Update("text"); err == nil || !strings.HasPrefix(err.Error(), "record build: ") {
		t.Errorf("an update: %v", err)
	}
	log, err := os.Open(readOnly.Name())
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	if err := w.Log(Log{Data: []byte("x")}); err == nil || !strings.HasPrefix(err.Error(), "record build: ") {
		t.Errorf("a log: %v", err)
	}
	build.Status = Completed
	if err := w.End(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if err := w.Log(Log{Data: []byte("x")}); err != nil {
		t.Errorf("after the end: %v", err)
	}
	if got, err := b.Find("r"); err != nil || got.Status != Completed {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestInvalidDigests: no digest names a file elsewhere.
func TestInvalidDigests(t *testing.T) {
	t.Parallel()
	b := open(t)
	for _, d := range []digest.Digest{"", "x", "sha256:../../x", "sha256:" + digest.Digest(strings.Repeat("A", 64))} {
		if err := b.SaveFiles(d, []byte("x")); err == nil {
			t.Errorf("%q: files are saved", d)
		}
		if err := b.SaveIngredients(d, func() []Ingredient { return nil }); err == nil {
			t.Errorf("%q: ingredients are saved", d)
		}
		if _, err := b.Files(d); err == nil {
			t.Errorf("%q: files are found", d)
		}
	}
	if _, err := os.Lstat(b.dir); err == nil {
		t.Error("something was written")
	}
}

// TestInvalidRefs: a build whose files nothing would find is not recorded.
func TestInvalidRefs(t *testing.T) {
	t.Parallel()
	b := open(t)
	for ref, want := range map[string]bool{
		identity.NewID(): true, "a1": true, strings.Repeat("r", maxRef): true, strings.Repeat("r", maxRef+1): false, "A1": false, "a-b": false, "../a": false, "": false,
	} {
		w, err := b.Begin(t.Context(), &Build{Ref: ref, Line: "l", Started: time.Now().UTC()})
		if (err == nil) != want || ValidRef(ref) != want {
			t.Errorf("%q: %v, valid: %t", ref, err, ValidRef(ref))
		}
		if err == nil {
			if err := w.End(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestEndOnFullDisk: a build whose end finds no room for a file has ended as it did; a later End writes all of it.
func TestEndOnFullDisk(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{"short": "no space left on device", "long": strings.Repeat("\x01é", 10000), "none": ""} {
		b := open(t)
		w, err := b.Begin(t.Context(), &Build{Ref: "r", Line: "l", Started: time.Now().UTC()})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Update("FROM x", &Step{Name: "step"}); err != nil {
			t.Fatal(err)
		}
		w.build.Text, w.build.Steps = "FROM x", []*Step{{Name: "step"}}
		w.build.Completed, w.build.Status, w.build.Error = time.Now().UTC(), Failed, message
		tmp := b.store.Path("tmp")
		if err := os.Rename(tmp, tmp+".away"); err != nil {
			t.Fatal(err)
		}
		if w.End() == nil {
			t.Fatal("a file could be made")
		}
		got, err := b.Find("r")
		if err != nil || got.Status != Failed || !got.Completed.Equal(w.build.Completed) || !strings.HasPrefix(message, got.Error) || got.Error == "" && message != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err == nil && (got.Text != "FROM x" || len(got.Steps) != 1) {
			t.Errorf("%s: the updates are lost: %+v", name, got)
		}
		if err := os.Rename(tmp+".away", tmp); err != nil {
			t.Fatal(err)
		}
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Find("r"); err != nil || got.Status != Failed || got.Error != message {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
