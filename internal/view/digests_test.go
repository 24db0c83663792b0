package view

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/digestcache"
)

func openDigests(t testing.TB, dir string) *digestcache.Cache {
	t.Helper()
	c, err := digestcache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stateOf is what a view of a host directory has the digest of a file by.
func stateOf(t testing.TB, v View, name string) digestcache.FileState {
	t.Helper()
	x := v.(*hostDir).index()
	n, err := x.regular("test", name)
	if err != nil {
		t.Fatal(err)
	}
	return x.content.(*hostContent).keys[n.tag]
}

// TestDirUsesDigestCache puts a wrong digest into the cache, which shows whether the file was read.
func TestDirUsesDigestCache(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("a/f", "one"), regular("g", "other"))
	c := openDigests(t, t.TempDir())
	v := dirOf(t, dir, DirOptions{Digests: c})
	key := stateOf(t, v, "a/f")
	wrong := digest.FromString("wrong")
	c.AddFile(key, wrong, time.Unix(0, key.CTime).Add(time.Hour))
	sum := func(v View, name string, want digest.Digest) {
		t.Helper()
		if got, err := v.Digest(t.Context(), name); err != nil || got != want {
			t.Errorf("digest of %s is %v, %v, want %v", name, got, err, want)
		}
	}
	sum(v, "a/f", wrong)
	sum(v, "g", digest.FromString("other"))
	sum(dirOf(t, dir, DirOptions{Digests: c}), "a/f", wrong)
	sum(dirOf(t, dir, DirOptions{}), "a/f", digest.FromString("one"))

	for name, change := range map[string]func(file string) error{
		"written": func(file string) error { return os.WriteFile(file, []byte("longer"), 0o600) },
		"replaced": func(file string) error {
			return errors.Join(os.WriteFile(file+".new", []byte("two"), 0o600), os.Rename(file+".new", file))
		},
		"touched": func(file string) error { return os.Chtimes(file, now, now) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(host(t, regular("f", "one")), "f")
			key := stateOf(t, dirOf(t, filepath.Dir(file), DirOptions{}), "f")
			c := openDigests(t, t.TempDir())
			c.AddFile(key, wrong, time.Unix(0, key.CTime).Add(time.Hour))
			if err := change(file); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sum(dirOf(t, filepath.Dir(file), DirOptions{Digests: c}), "f", digest.FromBytes(data))
		})
	}
}

// TestDirFillsDigestCache digests a file that is not new: this one.
func TestDirFillsDigestCache(t *testing.T) {
	t.Parallel()
	c := openDigests(t, t.TempDir())
	v := dirOf(t, ".", DirOptions{Include: []string{"digests_test.go"}, Digests: c})
	want, err := v.Digest(t.Context(), "digests_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := c.File(stateOf(t, v, "digests_test.go")); !ok || got != want {
		t.Errorf("the cache has the digest %v, %v, want %v", got, ok, want)
	}
}

// TestSelectionUsesDigestCache puts a wrong digest of a selection into the cache, which shows whether it was computed.
func TestSelectionUsesDigestCache(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(dir string) error
		kept   bool
	}{
		"nothing":          {func(string) error { return nil }, true},
		"written":          {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a/f"), []byte("two"), 0o600) }, false},
		"touched":          {func(dir string) error { return os.Chtimes(filepath.Join(dir, "a/f"), now, now) }, false},
		"mode":             {func(dir string) error { return os.Chmod(filepath.Join(dir, "a/f"), 0o640) }, false},
		"directory's mode": {func(dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o700) }, false},
		"renamed":          {func(dir string) error { return os.Rename(filepath.Join(dir, "a/f"), filepath.Join(dir, "a/g")) }, false},
		"added":            {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a/g"), nil, 0o600) }, false},
		"removed":          {func(dir string) error { return os.Remove(filepath.Join(dir, "a/f")) }, false},
		"ignored":          {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ignored"), []byte("x"), 0o600) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, cacheDir := host(t, regular("a/f", "one"), regular("b", "other")), t.TempDir()
			digests := openDigests(t, cacheDir)
			opt := DirOptions{Digests: digests, Anonymous: true, Exclude: []string{"ignored"}}
			// The files are new: as if they had been there for long.
			settledDir := func() *hostDir {
				v := dirOf(t, dir, opt).(*hostDir)
				v.settled = true
				return v
			}
			all := CopyOptions{CreateDestPath: true, DirCopyContents: true}
			before, err := SelectionDigest(t.Context(), settledDir(), "/", all)
			if err != nil {
				t.Fatal(err)
			}
			key := selectionKey(settledDir(), "/", all)
			if got, ok := digests.Selection(key); !ok || got.String() != before {
				t.Errorf("the cache has the digest %v, %v, want %v", got, ok, before)
			}
			wrong := digest.FromString("wrong")
			digests.AddSelection(key, wrong)
			if err := errors.Join(c.change(dir), digests.Save(t.Context())); err != nil {
				t.Fatal(err)
			}
			opt.Digests = openDigests(t, cacheDir)
			after, err := SelectionDigest(t.Context(), settledDir(), "/", all)
			if err != nil {
				t.Fatal(err)
			}
			if kept := after == wrong.String(); kept != c.kept {
				t.Errorf("taken from the cache: %v, want %v (%s, %s)", kept, c.kept, before, after)
			}
			if other, err := SelectionDigest(t.Context(), settledDir(), "/a", CopyOptions{DirCopyContents: true}); err == nil && other == after {
				t.Error("another selection has the same digest")
			}
		})
	}
}

// TestSelectionOfNewFilesIsNotCached: their next states could not be distinguished from this one.
func TestSelectionOfNewFilesIsNotCached(t *testing.T) {
	t.Parallel()
	c := openDigests(t, t.TempDir())
	v := dirOf(t, host(t, regular("f", "one")), DirOptions{Digests: c, Anonymous: true})
	all := CopyOptions{CreateDestPath: true, DirCopyContents: true}
	if _, err := SelectionDigest(t.Context(), v, "/", all); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Selection(selectionKey(v.(*hostDir), "/", all)); ok {
		t.Error("the selection is in the cache")
	}
}
