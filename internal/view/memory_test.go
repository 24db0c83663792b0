package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// settledAt is a time at which a file that changed at 1000.5 seconds is long known not to have changed since.
var (
	someKey   = fileKey{Dev: 1, Ino: 2, Size: 3, MTime: 4, CTime: 1000_500_000_000}
	settledAt = time.Unix(2000, 0)
	someSum   = digest.FromString("some content")
)

func openMemory(t testing.TB, dir string) *Memory {
	t.Helper()
	m, err := OpenMemory(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// saved is a folder with a memory that knows someKey.
func saved(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache", "digests")
	m := openMemory(t, dir)
	m.learn(someKey, someSum, settledAt)
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func remembers(t testing.TB, m *Memory, k fileKey, want digest.Digest) {
	t.Helper()
	if got, ok := m.lookup(k); got != want || ok != (want != "") {
		t.Errorf("%+v is remembered as %q, %v, want %q", k, got, ok, want)
	}
}

func TestMemoryRemembers(t *testing.T) {
	dir := saved(t)
	for range 2 {
		m := openMemory(t, dir)
		remembers(t, m, someKey, someSum)
		remembers(t, m, someKey, someSum)
		if err := m.Save(); err != nil { // nothing is new
			t.Fatal(err)
		}
	}
}

func TestMemoryForgetsWhatChanged(t *testing.T) {
	m := openMemory(t, saved(t))
	for name, change := range map[string]func(*fileKey){
		"device": func(k *fileKey) { k.Dev++ },
		"inode":  func(k *fileKey) { k.Ino++ },
		"size":   func(k *fileKey) { k.Size++ },
		"mtime":  func(k *fileKey) { k.MTime++ },
		"ctime":  func(k *fileKey) { k.CTime++ },
	} {
		t.Run(name, func(t *testing.T) {
			k := someKey
			change(&k)
			remembers(t, m, k, "")
		})
	}
}

func TestMemoryLearnsOnlyWhatIsSettled(t *testing.T) {
	coarse, fine := int64(1000*time.Second), int64(1000*time.Second+1)
	for _, c := range []struct {
		name  string
		ctime int64
		age   time.Duration
		want  bool
	}{
		{"long ago", fine, time.Hour, true},
		{"just now", fine, 0, false},
		{"in the future", fine, -time.Hour, false},
		{"within a tick", fine, 100 * time.Millisecond, false},
		{"after a tick", fine, 101 * time.Millisecond, true},
		{"a filesystem of whole seconds, after a tick", coarse, 101 * time.Millisecond, false},
		{"a filesystem of whole seconds, two seconds", coarse, 2 * time.Second, false},
		{"a filesystem of whole seconds, later", coarse, 2*time.Second + 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := openMemory(t, t.TempDir())
			k := someKey
			k.CTime = c.ctime
			m.learn(k, someSum, time.Unix(0, c.ctime).Add(c.age))
			if _, ok := m.lookup(k); ok != c.want {
				t.Errorf("learned: %v, want %v", ok, c.want)
			}
		})
	}
	m := openMemory(t, t.TempDir())
	m.learn(someKey, "sha256:no", settledAt)
	remembers(t, m, someKey, "")
}

func TestMemoryFileDamaged(t *testing.T) {
	const record = fileKeySize + sumSize + crcSize
	for name, damage := range map[string]func([]byte) []byte{
		"empty":               func([]byte) []byte { return nil },
		"rubbish":             func([]byte) []byte { return bytes.Repeat([]byte("rubbish"), 100) },
		"another version":     func(b []byte) []byte { b[len("mica-digests-")]++; return b },
		"cut off":             func(b []byte) []byte { return b[:len(b)-1] },
		"cut off by a record": func(b []byte) []byte { return b[:len(b)-record] },
		"only the magic":      func([]byte) []byte { return []byte(filesMagic) },
		"longer":              func(b []byte) []byte { return append(b, 0) },
		"a digest changed":    func(b []byte) []byte { b[len(filesMagic)+41] ^= 1; return b },
		"a key changed":       func(b []byte) []byte { b[len(filesMagic)] ^= 1; return b },
		"a checksum changed":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"zeros":               func(b []byte) []byte { return append(b[:len(filesMagic)], make([]byte, record)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := saved(t)
			file := filepath.Join(dir, "files")
			data, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, damage(data), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			m := openMemory(t, dir)
			remembers(t, m, someKey, "")
			m.learn(someKey, someSum, settledAt)
			if err := m.Save(); err != nil {
				t.Fatal(err)
			}
			remembers(t, openMemory(t, dir), someKey, someSum)
		})
	}
}

// TestMemoryKeepsToItsBound: what was neither learned nor found goes first.
func TestMemoryKeepsToItsBound(t *testing.T) {
	dir := t.TempDir()
	key := func(i int) (k sum) { k[0], k[1] = byte(i>>8), byte(i); return k }
	m := openMemory(t, dir)
	for i := range maxSelections {
		m.learnSelection(key(i), someSum)
	}
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	m = openMemory(t, dir)
	if _, ok := m.selection(key(7)); !ok {
		t.Fatal("a selection is not remembered")
	}
	m.learnSelection(key(maxSelections), someSum)
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	m = openMemory(t, dir)
	for i, want := range map[int]bool{7: true, maxSelections: true, 8: false} {
		if _, ok := m.selection(key(i)); ok != want {
			t.Errorf("%d is remembered: %v, want %v", i, ok, want)
		}
	}
}

func TestMemoryOfManyProcesses(t *testing.T) {
	dir := saved(t)
	var wg sync.WaitGroup
	for i := range 20 {
		m := openMemory(t, dir)
		wg.Go(func() {
			m.learn(fileKey{Ino: uint64(i)}, digest.FromString(fmt.Sprint(i)), settledAt)
			if err := m.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m := openMemory(t, dir)
	remembers(t, m, someKey, someSum)
	for i := range 20 {
		remembers(t, m, fileKey{Ino: uint64(i)}, digest.FromString(fmt.Sprint(i)))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
		t.Errorf("%q are left over", left)
	}
}

func TestMemoryIsSafeForConcurrentUse(t *testing.T) {
	m := openMemory(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				k := fileKey{Ino: uint64(j)}
				m.learn(k, someSum, settledAt)
				if _, ok := m.lookup(k); !ok {
					t.Errorf("%d does not remember %d", i, j)
				}
			}
			if err := m.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestMemoryErrors(t *testing.T) {
	file := filepath.Join(host(t, regular("f", "")), "f")
	_, err := OpenMemory(filepath.Join(file, "dir"))
	fails(t, err, unix.ENOTDIR, "remembered digests")

	dir := t.TempDir()
	m := openMemory(t, dir)
	if err := m.Save(); err != nil { // nothing to save, nothing written
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v is written, %v, though nothing was learned", entries, err)
	}
	m.learn(someKey, someSum, settledAt)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	fails(t, m.Save(), os.ErrNotExist, "remember digests")
}

// stateOf is what a view of a host folder knows a file by.
func stateOf(t testing.TB, v View, name string) fileKey {
	t.Helper()
	x := v.(*hostDir).index()
	n, err := x.regular("test", name)
	if err != nil {
		t.Fatal(err)
	}
	return x.content.(*hostContent).keys[n.tag]
}

// TestDirUsesItsMemory gives the memory a wrong digest, which tells whether the file was read.
func TestDirUsesItsMemory(t *testing.T) {
	dir := host(t, regular("a/f", "one"), regular("g", "other"))
	m := openMemory(t, t.TempDir())
	v := dirOf(t, dir, DirOptions{Memory: m})
	key := stateOf(t, v, "a/f")
	wrong := digest.FromString("wrong")
	m.learn(key, wrong, time.Unix(0, key.CTime).Add(time.Hour))
	sum := func(v View, name string, want digest.Digest) {
		t.Helper()
		if got, err := v.Digest(t.Context(), name); err != nil || got != want {
			t.Errorf("digest of %s is %v, %v, want %v", name, got, err, want)
		}
	}
	sum(v, "a/f", wrong)
	sum(v, "g", digest.FromString("other"))
	sum(dirOf(t, dir, DirOptions{Memory: m}), "a/f", wrong)
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
			m := openMemory(t, t.TempDir())
			m.learn(key, wrong, time.Unix(0, key.CTime).Add(time.Hour))
			if err := change(file); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sum(dirOf(t, filepath.Dir(file), DirOptions{Memory: m}), "f", digest.FromBytes(data))
		})
	}
}

// TestDirTeachesItsMemory digests a file that has long been there: this one.
func TestDirTeachesItsMemory(t *testing.T) {
	m := openMemory(t, t.TempDir())
	v := dirOf(t, ".", DirOptions{Include: []string{"memory_test.go"}, Memory: m})
	want, err := v.Digest(t.Context(), "memory_test.go")
	if err != nil {
		t.Fatal(err)
	}
	remembers(t, m, stateOf(t, v, "memory_test.go"), want)
}

// TestSelectionIsRemembered gives the memory a wrong digest of a folder's selection, which tells whether it was computed.
func TestSelectionIsRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		kept   bool
	}{
		"nothing":       {func(string) error { return nil }, true},
		"written":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a/f"), []byte("two"), 0o600) }, false},
		"touched":       {func(dir string) error { return os.Chtimes(filepath.Join(dir, "a/f"), now, now) }, false},
		"mode":          {func(dir string) error { return os.Chmod(filepath.Join(dir, "a/f"), 0o640) }, false},
		"folder's mode": {func(dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o700) }, false},
		"renamed":       {func(dir string) error { return os.Rename(filepath.Join(dir, "a/f"), filepath.Join(dir, "a/g")) }, false},
		"added":         {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a/g"), nil, 0o600) }, false},
		"removed":       {func(dir string) error { return os.Remove(filepath.Join(dir, "a/f")) }, false},
		"ignored":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ignored"), []byte("x"), 0o600) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := host(t, regular("a/f", "one"), regular("b", "other"))
			m := openMemory(t, t.TempDir())
			opt := DirOptions{Memory: m, Anonymous: true, Exclude: []string{"ignored"}}
			// The files are new: as if they had been there for long.
			settledDir := func() *hostDir {
				v := dirOf(t, dir, opt).(*hostDir)
				v.settled = true
				return v
			}
			before, err := SelectionDigest(t.Context(), settledDir(), "/", CopyOptions{DirCopyContents: true})
			if err != nil {
				t.Fatal(err)
			}
			wrong := sum(bytes.Repeat([]byte{7}, sumSize))
			for k := range m.newSelections {
				m.newSelections[k] = wrong
			}
			if err := errors.Join(c.change(dir), m.Save()); err != nil {
				t.Fatal(err)
			}
			m = openMemory(t, m.dir)
			opt.Memory = m
			after, err := SelectionDigest(t.Context(), settledDir(), "/", CopyOptions{DirCopyContents: true})
			if err != nil {
				t.Fatal(err)
			}
			if kept := after == digest.NewDigestFromBytes(digest.SHA256, wrong[:]).String(); kept != c.kept {
				t.Errorf("remembered: %v, want %v (%s, %s)", kept, c.kept, before, after)
			}
			if other, err := SelectionDigest(t.Context(), settledDir(), "/a", CopyOptions{DirCopyContents: true}); err == nil && other == after {
				t.Error("another selection has the same digest")
			}
		})
	}
}

// TestSelectionOfNewFilesIsNotRemembered: their states could not be told from the next.
func TestSelectionOfNewFilesIsNotRemembered(t *testing.T) {
	m := openMemory(t, t.TempDir())
	v := dirOf(t, host(t, regular("f", "one")), DirOptions{Memory: m, Anonymous: true})
	if _, err := SelectionDigest(t.Context(), v, "/", CopyOptions{DirCopyContents: true}); err != nil {
		t.Fatal(err)
	}
	if len(m.newSelections) != 0 {
		t.Error("the selection is remembered")
	}
}
