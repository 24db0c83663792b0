package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// put writes a file of some blocks and the directories that it is in.
func put(t testing.TB, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// forbid takes the owner's rights to a directory away.
func forbid(t testing.TB, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
}

func TestTempDir(t *testing.T) {
	s := newStore(t)
	a, err := s.TempDir("layer")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.TempDir("layer")
	if err != nil {
		t.Fatal(err)
	}
	if a.Path == b.Path {
		t.Errorf("two directories are one: %s", a.Path)
	}
	for _, d := range []*Temp{a, b} {
		if filepath.Dir(d.Path) != s.Path("tmp") || !strings.HasPrefix(filepath.Base(d.Path), "layer-") {
			t.Errorf("%s is not a directory for a layer in tmp", d.Path)
		}
		put(t, d.Path, "deep", "down", "file")
		forbid(t, filepath.Join(d.Path, "deep", "down"))
	}
	for _, d := range []*Temp{a, b} {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, s, "tmp")
}

func TestRemoveStaleTemp(t *testing.T) {
	s := newStore(t)
	live, err := s.TempDir("live")
	if err != nil {
		t.Fatal(err)
	}
	put(t, live.Path, "file")
	keep := []string{filepath.Base(live.Path), filepath.Base(live.Path) + lockSuffix}
	if freed, err := s.RemoveStaleTemp(); freed != 0 || err != nil {
		t.Errorf("freed %d, %v, with nothing stale", freed, err)
	}
	// What mica has not made: somebody has put it here, or mica was pointed at a directory that was somebody's.
	for _, name := range []string{"mine", "layer", "layer-", "layer-1.old", "Layer-1", "my-layer-1", "layer-1.lock.lock", "x.lock", "-1", "partial-1", "..1"} {
		put(t, s.Path("tmp", name))
		keep = append(keep, name)
	}
	put(t, s.Path("tmp", "photos"), "deep", "file")
	keep = append(keep, "photos")
	// What a process leaves that is killed here or there.
	put(t, s.Path("tmp", "layer-1"), "deep", "file")
	put(t, s.Path("tmp", "exec-2"), "deep", "file")
	put(t, s.Path("tmp", "exec-2"+lockSuffix))
	forbid(t, s.Path("tmp", "exec-2", "deep"))
	put(t, s.Path("tmp", "git-3"+lockSuffix))
	put(t, s.Path("tmp", "blob-123"))
	put(t, s.Path("tmp", "file-123"))
	// Times say nothing: a young file is as dead as its writer.
	put(t, s.Path("tmp", "file-456"))
	if err := os.Chtimes(s.Path("tmp", "file-456"), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	// One that is being written stays, however old.
	writing, err := s.tempFile("file-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(writing.Name(), time.Time{}, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	keep = append([]string{filepath.Base(writing.Name())}, keep...)
	if err := os.Symlink(live.Path, s.Path("tmp", "run-4")); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keep)
	freed, err := s.RemoveStaleTemp()
	if err != nil {
		t.Error(err)
	}
	if freed < 5*10_000 {
		t.Errorf("freed %d bytes, want those of five files", freed)
	}
	if got := inDir(t, s, "tmp"); !slices.Equal(got, keep) {
		t.Errorf("left are %q, want %q", got, keep)
	}
	if _, err := os.Stat(filepath.Join(live.Path, "file")); err != nil {
		t.Errorf("the live directory lost its file: %v", err)
	}
	if err := errors.Join(live.Remove(), os.Remove(writing.Name()), writing.Close()); err != nil {
		t.Error(err)
	}
}

// What a process has taken is there while it lives, and garbage once it is dead.
func TestTempOfAProcessThatDies(t *testing.T) {
	s := newStore(t)
	kill := otherProcess(t, s, "temp")
	if freed, err := s.RemoveStaleTemp(); freed != 0 || err != nil {
		t.Errorf("freed %d, %v, while it lives", freed, err)
	}
	if files := inDir(t, s, "tmp"); len(files) != 2 {
		t.Errorf("tmp holds %q, want a directory and its lock", files)
	}
	kill()
	if freed, err := s.RemoveStaleTemp(); freed < 10_000 || err != nil {
		t.Errorf("freed %d, %v, after it died", freed, err)
	}
	wantEmpty(t, s, "tmp")
}

func TestBlobOfAProcessThatDies(t *testing.T) {
	s := newStore(t)
	kill := otherProcess(t, s, "blob")
	if freed, err := s.RemoveStaleTemp(); freed != 0 || err != nil {
		t.Errorf("freed %d, %v, while it lives", freed, err)
	}
	if files := inDir(t, s, "tmp"); len(files) != 1 {
		t.Errorf("tmp holds %q, want the blob", files)
	}
	kill()
	wantEmpty(t, s, "blobs", "sha256")
	if _, err := s.StatBlob(digest.FromString("half of a blob")); !errors.Is(err, ErrNotFound) {
		t.Errorf("half a blob: %v", err)
	}
	if _, err := s.RemoveStaleTemp(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s, "tmp")
}

func TestRemoveTree(t *testing.T) {
	s := newStore(t)
	outside := filepath.Join(t.TempDir(), "outside")
	put(t, outside)
	tree := s.Path("layers", "abc")
	put(t, tree, "a", "b", "file")
	put(t, tree, "c")
	if err := os.Symlink(outside, filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	forbid(t, filepath.Join(tree, "a", "b"))
	forbid(t, filepath.Join(tree, "a"))
	freed, err := s.RemoveTree(tree)
	if err != nil || freed < 10_000 {
		t.Errorf("freed %d, %v", freed, err)
	}
	wantEmpty(t, s, "layers")
	wantEmpty(t, s, "tmp")
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("what a link points at: %v", err)
	}
	if _, err := s.RemoveTree(tree); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tree that is gone: %v", err)
	}
	wantEmpty(t, s, "tmp")
}

// Files get their names whole, and directories are theirs who made them, whatever others clean meanwhile.
func TestRemoveStaleTempBesideWriters(t *testing.T) {
	s := newStore(t)
	done := make(chan struct{})
	var cleaners, writers sync.WaitGroup
	for range 2 {
		cleaners.Go(func() {
			for {
				if _, err := s.RemoveStaleTemp(); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range 4 {
		writers.Go(func() {
			for i := range 200 {
				if err := writeOneOfEach(s, n*1000+i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	cleaners.Wait()
	wantEmpty(t, s, "tmp")
}

func writeOneOfEach(s *Store, n int) error {
	dir, err := s.TempDir("layer")
	if err != nil {
		return err
	}
	tree := filepath.Join(dir.Path, "tree")
	err = os.Mkdir(tree, 0o700)
	_, blobErr := s.WriteBlob(fmt.Appendf(nil, "blob %d", n))
	_, treeErr := s.RemoveTree(tree)
	return errors.Join(err, blobErr, treeErr, dir.Remove())
}
