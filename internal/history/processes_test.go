package history

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// The environment of a child of a test, which records builds: the store, and how many.
const (
	childStore = "MICA_TEST_HISTORY_STORE"
	childCount = "MICA_TEST_HISTORY_COUNT"
)

// TestMain records builds, and does nothing else, in a child that a test has started.
func TestMain(m *testing.M) {
	root := os.Getenv(childStore)
	if root == "" {
		os.Exit(m.Run())
	}
	if err := recordMany(root, os.Getenv(childCount)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// recordMany records builds, and writes a line on stdout after each.
func recordMany(root, count string) error {
	s, err := store.Open(root)
	if err != nil {
		return err
	}
	many, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for n := range many {
		if err := recordOne(Open(s), fmt.Sprintf("p%dn%d", os.Getpid(), n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return nil
}

// recordOne records a build of two steps, of which one runs, as the recorder does.
func recordOne(b *Builds, ref string) error {
	build := &Build{Ref: ref, Line: "l", Started: time.Now().UTC()}
	w, err := b.Begin(context.Background(), build)
	if err != nil {
		return err
	}
	key, files := digest.FromString("key of "+ref), digest.FromString("files of "+ref)
	from := &Step{Vertex: "sha256:from", Name: "FROM x", State: StepCached}
	run := &Step{Vertex: "sha256:run", Name: "RUN y", Inputs: []digest.Digest{from.Vertex}, Key: key}
	build.Steps = []*Step{from, run}
	err = errors.Join(
		w.Update("FROM x\n", build.Steps...),
		b.SaveFiles(files, []byte(ref)),
		b.SaveIngredients(key, func() []Ingredient { return []Ingredient{{"source", "/", files.String(), 0}} }),
		w.Log(Log{Vertex: run.Vertex, Data: []byte(ref)}),
	)
	run.State = StepRan
	err = errors.Join(err, w.Update("", run))
	build.Status, build.Completed = Completed, time.Now().UTC()
	return errors.Join(err, w.End(), b.Trim(true))
}

// checkWhole fails for a build whose record lacks what recordOne wrote before it ended.
func checkWhole(t *testing.T, b *Builds, build *Build) {
	t.Helper()
	if build.Status != Completed || len(build.Steps) != 2 || build.Steps[1].State != StepRan {
		t.Errorf("%+v", build)
		return
	}
	list, err := b.Ingredients(build.Steps[1].Key)
	if err != nil {
		t.Errorf("%s: %v", build.Ref, err)
		return
	}
	if files, err := b.Files(digest.Digest(list[0].Value)); err != nil || string(files) != build.Ref {
		t.Errorf("%s: %q, %v", build.Ref, files, err)
	}
	var output string
	if err := b.Logs(build, func(l Log) error { output += string(l.Data); return nil }); err != nil || output != build.Ref {
		t.Errorf("%s: %q, %v", build.Ref, output, err)
	}
}

// startChild starts a process that records builds, and returns what it says after each.
func startChild(t *testing.T, b *Builds, count int) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childStore+"="+b.store.Root(), fmt.Sprintf("%s=%d", childCount, count))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// TestBuildsAtOnce: two processes and two goroutines record builds, and others list, remove and prune them at the same time. Every build is
// whole when it has ended. None is listed as interrupted, and none that was not removed is missing from a list.
func TestBuildsAtOnce(t *testing.T) {
	t.Parallel()
	b := open(t)
	const each = 20
	var recorders, others sync.WaitGroup
	for i := range 2 {
		cmd, said := startChild(t, b, each)
		recorders.Go(func() {
			n := 0
			for ; said.Scan(); n++ {
			}
			if err := cmd.Wait(); err != nil || n != each {
				t.Errorf("a child has recorded %d builds, %v", n, err)
			}
		})
		recorders.Go(func() {
			for n := range each {
				if err := recordOne(b, fmt.Sprintf("g%dn%d", i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	repeat := func(f func()) {
		others.Go(func() {
			for {
				f()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	removed := func(ref string) bool { return strings.HasSuffix(ref, "n3") }
	var last []string
	repeat(func() {
		l, err := b.List()
		if err != nil {
			t.Error(err)
		}
		for _, ref := range last {
			if !removed(ref) && !slices.Contains(refs(l), ref) {
				t.Errorf("%s is not listed", ref)
			}
		}
		last = refs(l)
		for _, build := range l {
			if build.Status == Interrupted {
				t.Errorf("%s is interrupted: %+v", build.Ref, build)
			}
			if removed(build.Ref) {
				if _, errs := b.Remove(build.Ref); errors.Is(errors.Join(errs...), errRunning) != (build.Status == Running) && len(errs) > 0 {
					t.Errorf("remove %s, %s: %v", build.Ref, build.Status, errs)
				}
			}
		}
	})
	repeat(func() {
		if _, err := b.Prune(Bounds); err != nil {
			t.Errorf("prune: %v", err)
		}
	})
	recorders.Wait()
	close(done)
	others.Wait()
	l, err := b.List()
	left := slices.DeleteFunc(l, func(build *Build) bool { return removed(build.Ref) })
	if err != nil || len(left) != 4*(each-1) { // without n3
		t.Fatalf("%d builds, %v", len(left), err)
	}
	for _, build := range left {
		checkWhole(t, b, build)
	}
}

// TestKilledRecorder: of the builds of a process that is killed at any moment, those that have ended are whole, and the last one was
// interrupted. Nothing stays of them when they are removed.
func TestKilledRecorder(t *testing.T) {
	t.Parallel()
	b := open(t)
	for i := range 4 {
		cmd, said := startChild(t, b, 1000)
		for range 2 * i {
			said.Scan()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		l, err := b.List()
		if err != nil || len(l) < i {
			t.Fatalf("%d builds, %v", len(l), err)
		}
		for n, build := range l {
			if n == 0 && build.Status == Interrupted {
				if removed, errs := b.Remove(build.Ref); len(removed) != 1 || len(errs) != 0 {
					t.Errorf("%q, %v", removed, errs)
				}
				continue
			}
			checkWhole(t, b, build)
		}
	}
	_, pruneErr := b.Prune(Limits{})
	_, staleErr := b.store.RemoveStaleTemp()
	if err := errors.Join(pruneErr, staleErr); err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "*"))
	temporary, tempErr := filepath.Glob(b.store.Path("tmp", "*"))
	for _, path := range append(files, temporary...) {
		if name := filepath.Base(path); name != filesDir && name != stepsDir && name != sweptMark && name != measuredMark {
			t.Errorf("%s stays", path)
		}
	}
	if err := errors.Join(err, tempErr); err != nil {
		t.Error(err)
	}
}
