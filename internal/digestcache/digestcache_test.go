package digestcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// settledAt is a time at which the state of a file that changed at 1000.5 seconds is long settled.
var (
	someFile  = FileState{Dev: 1, Ino: 2, Size: 3, MTime: 4, CTime: 1000_500_000_000}
	settledAt = time.Unix(2000, 0)
	someSum   = digest.FromString("some content")
)

func open(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func save(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// saved is a directory with a cache that has someFile.
func saved(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache", "digests")
	c := open(t, dir)
	c.AddFile(someFile, someSum, settledAt)
	save(t, c)
	return dir
}

func has(t testing.TB, c *Cache, s FileState, want digest.Digest) {
	t.Helper()
	if got, ok := c.File(s); got != want || ok != (want != "") {
		t.Errorf("%+v has the digest %q, %v, want %q", s, got, ok, want)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := saved(t)
	for name, c := range map[string]struct {
		change func(*FileState)
		want   digest.Digest
	}{
		"the same": {func(*FileState) {}, someSum},
		"device":   {func(s *FileState) { s.Dev++ }, ""},
		"inode":    {func(s *FileState) { s.Ino++ }, ""},
		"size":     {func(s *FileState) { s.Size++ }, ""},
		"mtime":    {func(s *FileState) { s.MTime++ }, ""},
		"ctime":    {func(s *FileState) { s.CTime++ }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := someFile
			c.change(&s)
			has(t, open(t, dir), s, c.want)
		})
	}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	coarse, fine := int64(1000*time.Second), int64(1000*time.Second+1)
	for name, c := range map[string]struct {
		ctime int64
		age   time.Duration
		want  bool
	}{
		"long ago":      {fine, time.Hour, true},
		"just now":      {fine, 0, false},
		"in the future": {fine, -time.Hour, false},
		"within a tick": {fine, 100 * time.Millisecond, false},
		"after a tick":  {fine, 101 * time.Millisecond, true},
		"a filesystem of whole seconds, after a tick": {coarse, 101 * time.Millisecond, false},
		"a filesystem of whole seconds, two seconds":  {coarse, 2 * time.Second, false},
		"a filesystem of whole seconds, later":        {coarse, 2*time.Second + 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := FileState{Ino: 1, CTime: c.ctime}
			read := time.Unix(0, c.ctime).Add(c.age)
			if got := s.Settled(read); got != c.want {
				t.Errorf("settled: %v, want %v", got, c.want)
			}
			cache := open(t, t.TempDir())
			cache.AddFile(s, someSum, read)
			if _, ok := cache.File(s); ok != c.want {
				t.Errorf("cached: %v, want %v", ok, c.want)
			}
		})
	}
}

func TestStateOf(t *testing.T) {
	t.Parallel()
	st := unix.Stat_t{Dev: 1, Ino: 2, Size: 3, Mtim: unix.Timespec{Sec: 4, Nsec: 5}, Ctim: unix.Timespec{Sec: 6, Nsec: 7}}
	want := FileState{Dev: 1, Ino: 2, Size: 3, MTime: 4_000_000_005, CTime: 6_000_000_007}
	if got := StateOf(&st); got != want {
		t.Errorf("the state is %+v, want %+v", got, want)
	}
	if got := len(want.Append(nil)); got != stateSize {
		t.Errorf("a state has %d bytes, want %d", got, stateSize)
	}
}

func TestAddFileWithoutSHA256(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	for _, d := range []digest.Digest{"sha256:no", "sha512:" + digest.Digest(strings.Repeat("00", 64)), "sha256:"} {
		c.AddFile(someFile, d, settledAt)
		has(t, c, someFile, "")
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir)
	c.AddSelection(Sum{1}, someSum)
	save(t, c)
	c = open(t, dir)
	for state, want := range map[Sum]digest.Digest{{1}: someSum, {2}: ""} {
		if got, ok := c.Selection(state); got != want || ok != (want != "") {
			t.Errorf("the selection %x has the digest %q, %v, want %q", state[:1], got, ok, want)
		}
	}
}

// TestBound: what was neither added nor found is removed first.
func TestBound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func(i int) (s Sum) { s[0], s[1] = byte(i>>8), byte(i); return s }
	c := open(t, dir)
	for i := range maxSelections {
		c.AddSelection(key(i), someSum)
	}
	save(t, c)
	c = open(t, dir)
	if _, ok := c.Selection(key(7)); !ok {
		t.Fatal("a selection is missing")
	}
	c.AddSelection(key(maxSelections), someSum)
	save(t, c)
	c = open(t, dir)
	for i, want := range map[int]bool{7: true, maxSelections: true, 8: false} {
		if _, ok := c.Selection(key(i)); ok != want {
			t.Errorf("selection %d is there: %v, want %v", i, ok, want)
		}
	}
}

// TestEarlierVersion: the files of earlier versions, and damaged ones, count as empty and are replaced.
func TestEarlierVersion(t *testing.T) {
	t.Parallel()
	dir := saved(t)
	for _, name := range []string{"files", "selections"} {
		if err := os.WriteFile(filepath.Join(dir, name), append([]byte("mica-digests-2\n\x00"), make([]byte, 76)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, dir)
	has(t, c, someFile, "")
	c.AddFile(someFile, someSum, settledAt)
	save(t, c)
	has(t, open(t, dir), someFile, someSum)
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	dir := saved(t)
	c := open(t, dir)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				s := FileState{Ino: uint64(j), CTime: someFile.CTime}
				c.AddFile(s, someSum, settledAt)
				if _, ok := c.File(s); !ok {
					t.Errorf("goroutine %d does not find file %d", i, j)
				}
			}
			if err := c.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	has(t, open(t, dir), someFile, someSum)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "dir")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a cache below a file: %v, want %v", err, unix.ENOTDIR)
	}
	dir := t.TempDir()
	c := open(t, dir)
	save(t, c)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("nothing was added, and there are %v, %v", entries, err)
	}
	c.AddFile(someFile, someSum, settledAt)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that was removed: %v, want %v", err, os.ErrNotExist)
	}
}
