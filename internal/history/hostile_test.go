package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestHostileRecords: no record makes mica read, write or remove a file that is not the build's, or panic.
func TestHostileRecords(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	const ref, line = "zzzz", "aaaaaaaaaaaa"
	started := now.Format(time.RFC3339Nano)
	for name, record := range map[string]string{
		"another ref":       fmt.Sprintf(`{"ref":"/../../victim","line":%q,"started":%q}`, line, started),
		"another line":      fmt.Sprintf(`{"ref":%q,"line":"../../victim","started":%q}`, ref, started),
		"another time":      fmt.Sprintf(`{"ref":%q,"line":%q,"started":"2020-01-01T00:00:00Z"}`, ref, line),
		"no step":           fmt.Sprintf(`{"ref":%q,"line":%q,"started":%q,"steps":[null]}`, ref, line, started),
		"a bad key":         fmt.Sprintf(`{"ref":%q,"line":%q,"started":%q,"steps":[{"vertex":"a","key":"bad"}]}`, ref, line, started),
		"its own input":     fmt.Sprintf(`{"ref":%q,"line":%q,"started":%q,"steps":[{"vertex":"a","inputs":["a"]}]}`, ref, line, started),
		"a later input":     fmt.Sprintf(`{"ref":%q,"line":%q,"started":%q,"steps":[{"vertex":"a","inputs":["b"]},{"vertex":"b"}]}`, ref, line, started),
		"nothing":           "",
		"half of an object": `{"ref":"zz`,
	} {
		for _, suffix := range []string{"", runningSuffix} {
			b := open(t)
			if err := os.MkdirAll(b.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			victim := filepath.Join(filepath.Dir(b.dir), "victim")
			path := filepath.Join(b.dir, fileName(&Build{Ref: ref, Line: line, Started: now}))
			for file, data := range map[string]string{victim: "x", path + suffix: record} {
				if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := b.Find(ref); err == nil {
				t.Errorf("%s%s: it is read as %+v", name, suffix, got)
			}
			if removed, errs := b.Remove(ref); len(removed) != 1 || len(errs) != 0 {
				t.Errorf("%s%s: removed %q, %v", name, suffix, removed, errs)
			}
			if _, err := b.Prune(Limits{}); err != nil {
				t.Errorf("%s%s: %v", name, suffix, err)
			}
			if _, err := os.Lstat(victim); err != nil {
				t.Errorf("%s%s: %v", name, suffix, err)
			}
			if _, err := os.Lstat(path + suffix); err == nil {
				t.Errorf("%s%s: the record stays", name, suffix)
			}
		}
	}
}

// TestSweepBesideBuild: what a running build has written, or found, stays, although no record names it yet.
func TestSweepBesideBuild(t *testing.T) {
	t.Parallel()
	b := open(t)
	record(t, b, "old", "l", 1)
	w, err := b.Begin(context.Background(), &Build{Ref: "running", Line: "l", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	written, found := digest.FromString("written"), digest.FromString("found")
	for _, sum := range []digest.Digest{written, found} {
		if err := b.SaveFiles(sum, []byte("files")); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(b.path(filesDir, found), past, past); err != nil {
		t.Fatal(err)
	}
	if !b.HasFiles(found) { // the build has found it
		t.Fatal("the old list is gone")
	}
	if _, err := b.Prune(Limits{}); err != nil {
		t.Fatal(err)
	}
	if !b.HasFiles(written) || !b.HasFiles(found) || len(list(t, b)) != 1 {
		t.Errorf("written: %t, found: %t, builds: %q", b.HasFiles(written), b.HasFiles(found), list(t, b))
	}
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prune(Limits{}); err != nil || b.HasFiles(written) {
		t.Errorf("after the build its files stay: %v", err)
	}
}

// TestTrim: old builds, and those beyond the number, are removed after a build. What only they needed goes after a build that has written
// more than its record, when all builds of the last sweep are gone.
func TestTrim(t *testing.T) {
	t.Parallel()
	b := open(t)
	trim := func(grown bool, want int) {
		t.Helper()
		if err := b.Trim(grown); err != nil || len(list(t, b)) != want {
			t.Fatalf("%d builds are left, %v, want %d", len(list(t, b)), err, want)
		}
	}
	trim(true, 0)
	unneeded := digest.FromString("unneeded")
	save := func() {
		t.Helper()
		if err := b.SaveFiles(unneeded, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	record(t, b, "new", "l", 1)
	record(t, b, "old", "l", 24*100)
	save()
	trim(false, 1)
	if !b.HasFiles(unneeded) {
		t.Error("a build that is cached sweeps")
	}
	trim(true, 1)
	if b.HasFiles(unneeded) {
		t.Error("nothing was swept before, and what no build needs stays")
	}
	record(t, b, "older", "l", 24*101)
	save()
	trim(true, 1)
	if !b.HasFiles(unneeded) {
		t.Error("it is swept although a build of the last sweep is there")
	}
	for i := range Bounds.Builds + slack {
		record(t, b, fmt.Sprintf("n%d", i), "l", 0)
	}
	trim(false, Bounds.Builds)
	trim(true, Bounds.Builds)
	if b.HasFiles(unneeded) {
		t.Error("all builds of the last sweep are gone, and what no build needs stays")
	}
}

// TestTrimSize: after some builds, one that has written more than its record looks at the size of all files.
func TestTrimSize(t *testing.T) {
	t.Parallel()
	b := open(t)
	build := record(t, b, "large", "l", 2)
	log := filepath.Join(b.dir, fileName(build)+logSuffix)
	if err := errors.Join(os.WriteFile(log, nil, 0o600), os.Truncate(log, Bounds.Size)); err != nil {
		t.Fatal(err)
	}
	b.mark(measuredMark)
	for i := range checkEvery {
		record(t, b, fmt.Sprintf("n%d", i), "l", -1)
		want := i + 2
		if i == checkEvery-1 {
			want -= 2 // an eighth of all
		}
		if err := b.Trim(true); err != nil || len(list(t, b)) != want {
			t.Fatalf("%d builds after the look: %d are left, want %d, %v", i+1, len(list(t, b)), want, err)
		}
	}
}
