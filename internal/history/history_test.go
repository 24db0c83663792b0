package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

func open(t *testing.T) *Builds {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return Open(s)
}

// record records a finished build that began n hours ago.
func record(t *testing.T, b *Builds, ref, line string, n int, steps ...*Step) *Build {
	t.Helper()
	build := &Build{Ref: ref, Line: line, Started: time.Now().Add(-time.Duration(n) * time.Hour).UTC(), Steps: steps}
	w, err := b.Begin(context.Background(), build)
	if err != nil {
		t.Fatal(err)
	}
	build.Status = Completed
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	return build
}

func refs(list []*Build) (refs []string) {
	for _, b := range list {
		refs = append(refs, b.Ref)
	}
	return refs
}

func list(t *testing.T, b *Builds) []string {
	t.Helper()
	l, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	return refs(l)
}

// TestFind: builds are listed with the newest first, and found by ref, by the beginning of one, and by their age.
func TestFind(t *testing.T) {
	t.Parallel()
	b := open(t)
	if _, err := b.Find(""); !errors.Is(err, ErrNotFound) {
		t.Errorf("in an empty store: %v", err)
	}
	record(t, b, "abc1", "aaaaaaaaaaaa", 3)
	record(t, b, "abd2", "bbbbbbbbbbbb", 2)
	record(t, b, "xyz3", "aaaaaaaaaaaa", 1)
	if got := list(t, b); !slices.Equal(got, []string{"xyz3", "abd2", "abc1"}) {
		t.Errorf("listed %q", got)
	}
	for name, want := range map[string]string{
		"": "xyz3", "^0": "xyz3", "^": "xyz3", "^2": "abc1", "abc": "abc1", "abd2": "abd2", "x": "xyz3",
		"ab":   "2 builds begin with ab: give more of the ref",
		"nope": "no such build: nope (mica builds lists them)",
		"^3":   "no such build: ^3 (the store remembers 3 builds)",
		"^-1":  `invalid build "^-1": use ^N, N builds before the newest`,
		"^a":   `invalid build "^a": use ^N, N builds before the newest`,
	} {
		got, err := b.Find(name)
		switch {
		case err != nil && err.Error() != want:
			t.Errorf("%q: %v, want %s", name, err, want)
		case err == nil && got.Ref != want:
			t.Errorf("%q: %s, want %s", name, got.Ref, want)
		}
	}
	if got := refs(slices.Collect(b.Earlier("aaaaaaaaaaaa"))); !slices.Equal(got, []string{"xyz3", "abc1"}) {
		t.Errorf("of one line: %q", got)
	}
}

// TestRunning: a build runs as long as its process holds the lock; without that it was interrupted.
func TestRunning(t *testing.T) {
	t.Parallel()
	b := open(t)
	w, err := b.Begin(context.Background(), &Build{Ref: "r", Line: "l", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	build, err := b.Find("r")
	if err != nil || build.Status != Running {
		t.Fatalf("%+v, %v", build, err)
	}
	if removed, errs := b.Remove("r"); len(removed) != 0 || len(errs) != 1 || errs[0].Error() != "build r cannot be removed: it is running" {
		t.Errorf("a running build: %q, %v", removed, errs)
	}
	if _, err := b.Prune(Limits{}); err != nil || len(list(t, b)) != 1 {
		t.Errorf("a prune gives %v, and leaves %q", err, list(t, b))
	}
	if err := w.die(); err != nil {
		t.Fatal(err)
	}
	if build, err = b.Find("r"); err != nil || build.Status != Interrupted {
		t.Fatalf("%+v, %v", build, err)
	}
	if got := slices.Collect(b.Earlier("l")); len(got) != 0 {
		t.Errorf("an interrupted build explains others: %v", got)
	}
	if removed, errs := b.Remove("r"); len(errs) != 0 || len(removed) != 1 || len(list(t, b)) != 0 {
		t.Errorf("%q, %v, %q", removed, errs, list(t, b))
	}
}

// TestUpdates: a build that runs has the steps that it has announced, in the states that it has recorded, and one that was killed
// keeps them. The end of an update that was not written is left out.
func TestUpdates(t *testing.T) {
	t.Parallel()
	b := open(t)
	w, err := b.Begin(context.Background(), &Build{Ref: "r", Line: "l", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	from := &Step{Vertex: "sha256:from", Name: "FROM x", State: StepCached}
	run := &Step{Vertex: "sha256:run", Name: "RUN y", Inputs: []digest.Digest{from.Vertex}}
	err = errors.Join(w.Update("FROM x\n"), w.Update("", from, run))
	run.State, run.Started = StepRan, time.Now().UTC()
	if err := errors.Join(err, w.Update("", run)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.running.WriteAt([]byte(`{"steps":[{"vertex":"sha256:run","state":"fai`), w.end); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Status{Running, Interrupted} {
		build, err := b.Find("r")
		if err != nil || build.Status != want || build.Text != "FROM x\n" || len(build.Steps) != 2 {
			t.Fatalf("%s: %+v, %v", want, build, err)
		}
		if got := build.Steps[1]; got.State != StepRan || !got.Started.Equal(run.Started) || build.Steps[0].State != StepCached {
			t.Errorf("%s: %+v, %+v", want, build.Steps[0], got)
		}
		if want == Running {
			_ = w.die()
		}
	}
}

// TestLogs: the output of steps is kept in order, up to a limit, and the end of a line that was not written is left out.
func TestLogs(t *testing.T) {
	t.Parallel()
	b := open(t)
	build := &Build{Ref: "r", Line: "l", Started: time.Now()}
	w, err := b.Begin(context.Background(), build)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC()
	want := []Log{{"sha256:a", 1, at, []byte("one\x00\xff")}, {"sha256:b", 2, at, []byte("two\n")}}
	for _, l := range want {
		if err := w.Log(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.log.WriteString(`{"vertex":"sha`); err != nil {
		t.Fatal(err)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	var got []Log
	err = b.Logs(build, func(l Log) error { got = append(got, l); return nil })
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", err, got)
	}
	stop := errors.New("enough")
	if err := b.Logs(build, func(Log) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	var one []Log
	next, err := b.LogsFrom(build, 0, func(l Log) error {
		if len(one) == 1 {
			return stop
		}
		one = append(one, l)
		return nil
	})
	if !errors.Is(err, stop) || !reflect.DeepEqual(one, want[:1]) {
		t.Errorf("%v, %v", err, one)
	}
	var rest []Log
	end, err := b.LogsFrom(build, next, func(l Log) error { rest = append(rest, l); return nil })
	if err != nil || !reflect.DeepEqual(rest, want[1:]) {
		t.Errorf("from %d: %v, %v", next, err, rest)
	}
	if again, err := b.LogsFrom(build, end, func(Log) error { return stop }); err != nil || again != end {
		t.Errorf("from the end, %d: %d, %v", end, again, err)
	}
}

// TestLogIsBounded: what a build writes beyond the limit is left out.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	b := open(t)
	w, err := b.Begin(context.Background(), &Build{Ref: "r", Line: "l", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 4<<20)
	for range 6 {
		if err := w.Log(Log{Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := w.log.Stat()
	if err != nil || info.Size() > maxLog+8<<20 {
		t.Errorf("the log has %d bytes (%v)", info.Size(), err)
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
}

// TestDetails: ingredients and files are kept by their digests; what is damaged is missing.
func TestDetails(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := digest.FromString("key")
	want := []Ingredient{{"operation", "exec", "{}", -1}, {"layers", "/", "sha256:x", 0}}
	for range 2 { // the second time they are there
		if err := b.SaveIngredients(key, func() []Ingredient { return want }); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Ingredients(key); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := b.Ingredients(digest.FromString("other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of an unknown key: %v", err)
	}
	if _, err := b.Ingredients("sha256:../../x"); err == nil {
		t.Error("a key that is no digest is read")
	}
	sum := digest.FromString("files")
	if b.HasFiles(sum) {
		t.Error("it has files that were not saved")
	}
	files := []byte(strings.Repeat("a list of files ", 1000))
	if err := b.SaveFiles(sum, files); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Files(sum); err != nil || !slices.Equal(got, files) || !b.HasFiles(sum) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(b.path(filesDir, sum), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Files(sum); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("damaged: %v", err)
	}
}

// TestPrune: the oldest builds go, by number, age and size, and with them what only they need.
func TestPrune(t *testing.T) {
	t.Parallel()
	many := Limits{Builds: 100, Age: 1000 * time.Hour, Size: 1 << 40}
	for name, tt := range map[string]struct {
		limits func() Limits
		want   []string
	}{
		"nothing": {func() Limits { return many }, []string{"b0", "b1", "b2", "b3"}},
		"number":  {func() Limits { l := many; l.Builds = 2; return l }, []string{"b0", "b1"}},
		"age":     {func() Limits { l := many; l.Age = 150 * time.Minute; return l }, []string{"b0", "b1", "b2"}},
		"size":    {func() Limits { l := many; l.Size = 0; return l }, nil},
		"all":     {func() Limits { return Limits{} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			for i := range 4 {
				key := digest.FromString(fmt.Sprint(i))
				sum := digest.FromString(fmt.Sprint("files", i))
				err := errors.Join(
					b.SaveIngredients(key, func() []Ingredient { return []Ingredient{{"source", "/", sum.String(), 0}} }),
					b.SaveFiles(sum, make([]byte, 100)),
				)
				old := time.Now().Add(-2 * time.Hour)
				for _, path := range []string{b.path(stepsDir, key), b.path(filesDir, sum)} {
					err = errors.Join(err, os.Chtimes(path, old, old))
				}
				if err != nil {
					t.Fatal(err)
				}
				record(t, b, fmt.Sprintf("b%d", i), "l", i, &Step{Key: key})
			}
			freed, err := b.Prune(tt.limits())
			if err != nil {
				t.Fatal(err)
			}
			if got := list(t, b); !slices.Equal(got, tt.want) {
				t.Errorf("left %q, want %q", got, tt.want)
			}
			if (freed > 0) != (len(tt.want) < 4) {
				t.Errorf("freed %d bytes", freed)
			}
			for i := range 4 {
				_, err := b.Ingredients(digest.FromString(fmt.Sprint(i)))
				has := b.HasFiles(digest.FromString(fmt.Sprint("files", i)))
				if want := i < len(tt.want); (err == nil) != want || has != want {
					t.Errorf("build %d: ingredients %v, files %t", i, err, has)
				}
			}
		})
	}
}

// TestDamagedRecords: a record that cannot be read is left out of the list, and goes with a prune.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	b := open(t)
	build := record(t, b, "good", "l", 1)
	other := record(t, b, "other", "l", 2)
	for name, data := range map[string]string{
		fileName(other): "{",
		fileName(&Build{Ref: "stolen", Line: "l", Started: time.Now()}): `{"ref":"good","line":"l"}`,
		"not a build":          "",
		"zzzzzzzzzzzzzzzz-l-r": "",
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, b); !slices.Equal(got, []string{build.Ref}) {
		t.Errorf("listed %q", got)
	}
	var damaged *DamagedError
	if _, err := b.Find("other"); !errors.As(err, &damaged) || !strings.HasSuffix(err.Error(), "(mica builds rm other removes it)") {
		t.Errorf("a damaged record: %v", err)
	}
	if newest, err := b.Find(""); err != nil || newest.Ref != "good" {
		t.Errorf("the newest build that can be read: %v, %v", newest, err)
	}
	if _, err := b.Prune(Limits{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(b.dir, fileName(other))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged record stays: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(b.dir, "not a build")); err != nil {
		t.Errorf("a file that is no build was removed: %v", err)
	}
}
