package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// newStore returns an empty store.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inDir lists the files of one of the store's directories.
func inDir(t testing.TB, s *Store, elem ...string) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Path(elem...))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func wantEmpty(t testing.TB, s *Store, elem ...string) {
	t.Helper()
	if files := inDir(t, s, elem...); len(files) > 0 {
		t.Errorf("%s holds %q, want nothing", filepath.Join(elem...), files)
	}
}

// snapshot is every path beneath dir, with the content of files.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			files[p] = "directory"
			return nil
		}
		data, err := os.ReadFile(p)
		files[p] = "file " + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The environment of another process that uses a store: see otherProcess.
const (
	otherRoot = "MICA_TEST_STORE"
	otherKind = "MICA_TEST_HOLD"
)

// TestMain lets the test's binary be another process that uses a store until it is killed.
func TestMain(m *testing.M) {
	if root := os.Getenv(otherRoot); root != "" {
		if err := hold(root, os.Getenv(otherKind)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// held keeps what another process has taken from the garbage collector, which would close it.
var held []any

func hold(root, kind string) error {
	s, err := Open(root)
	if err != nil {
		return err
	}
	switch kind {
	case "lock":
		l, ok, err := s.TryLock("shared by all")
		if err != nil || !ok {
			return fmt.Errorf("no lock: %w", err)
		}
		held = append(held, l)
	case "use":
		u, err := s.Use(context.Background())
		if err != nil {
			return err
		}
		held = append(held, u)
		_, err = s.WriteBlob([]byte("made by another process"))
		return err
	case "temp":
		d, err := s.TempDir("other")
		if err != nil {
			return err
		}
		held = append(held, d)
		return os.WriteFile(filepath.Join(d.Path, "file"), bytes.Repeat([]byte("x"), 10_000), 0o600)
	case "blob":
		w, err := s.NewBlob()
		if err != nil {
			return err
		}
		held = append(held, w)
		_, err = w.Write([]byte("half of a blob"))
		return err
	}
	return nil
}

// otherProcess starts a process that takes something of the store and keeps it until it is killed.
func otherProcess(t *testing.T, s *Store, kind string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), otherRoot+"="+s.Root(), otherKind+"="+kind)
	in, err := cmd.StdinPipe() // closed with this process, so that the other never outlives it
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q: %v", line, err)
	}
	return kill
}

func TestOpenMakesAStoreAndFindsItAgain(t *testing.T) {
	root := filepath.Join(t.TempDir(), "deep", "down")
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.WriteBlob([]byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"blobs/sha256", "layers", "refs/names", "refs/images", "cache", "mounts", "tmp", "locks"} {
		if info, err := os.Stat(s.Path(dir)); err != nil || !info.IsDir() {
			t.Errorf("directory %s: %v", dir, err)
		}
	}
	again, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := again.ReadBlob(d); err != nil || string(data) != "kept" {
		t.Errorf("the blob is %q: %v", data, err)
	}
	if again.Root() != root {
		t.Errorf("root is %s, want %s", again.Root(), root)
	}
}

func TestOpenOfARelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s, err := Open("store")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/") // a store stays where it is
	if _, err := s.WriteBlob([]byte("x")); err != nil {
		t.Error(err)
	}
	if !filepath.IsAbs(s.Root()) {
		t.Errorf("root %s is relative", s.Root())
	}
}

func TestOpenByManyAtOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			s, err := Open(root)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if _, err := s.WriteBlob(fmt.Appendf(nil, "blob %d", i)); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	wg.Wait()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if blobs := inDir(t, s, "blobs", "sha256"); len(blobs) != 16 {
		t.Errorf("%d blobs, want 16", len(blobs))
	}
	wantEmpty(t, s, "tmp")
}

func TestOpenRefusesAnotherFormat(t *testing.T) {
	for name, version := range map[string]string{
		"a later one":   "mica store 3\n",
		"empty":         "",
		"no newline":    "mica store 2",
		"something new": "mica store 2\nand more\n",
		"not mica's":    "\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "version"), []byte(version), 0o600); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, root)
			if _, err := Open(root); err == nil || !strings.Contains(err.Error(), "another format") {
				t.Errorf("error %v, want another format", err)
			}
			if after := snapshot(t, root); len(after) != len(before) {
				t.Errorf("the directory is touched: %q", after)
			}
		})
	}
}

func TestOpenWhereNoStoreCanBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	versionDir := t.TempDir()
	if err := os.Mkdir(filepath.Join(versionDir, "version"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, root := range map[string]string{
		"a file":                 file,
		"in a file":              filepath.Join(file, "store"),
		"version is a directory": versionDir,
	} {
		if _, err := Open(root); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	for name, tt := range map[string]struct {
		mica, data, home string
		root             bool
		want             string
	}{
		"MICA_ROOT wins":            {mica: "/m", data: "/d", home: "/h", want: "/m"},
		"MICA_ROOT wins for root":   {mica: "/m", root: true, want: "/m"},
		"root":                      {data: "/d", home: "/h", root: true, want: "/var/lib/mica"},
		"XDG_DATA_HOME":             {data: "/d", home: "/h", want: "/d/mica"},
		"relative XDG_DATA_HOME":    {data: "d", home: "/h", want: "/h/.local/share/mica"},
		"home":                      {home: "/h", want: "/h/.local/share/mica"},
		"nowhere":                   {want: ""},
		"MICA_ROOT is cleaned":      {mica: "/m/../n/", want: "/n"},
		"root asks for no home":     {root: true, want: "/var/lib/mica"},
		"XDG_DATA_HOME and no home": {data: "/d", want: "/d/mica"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MICA_ROOT", tt.mica)
			t.Setenv("XDG_DATA_HOME", tt.data)
			t.Setenv("HOME", tt.home)
			got, err := DefaultRoot(tt.root)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestWriteFileAtomic(t *testing.T) {
	s := newStore(t)
	path := s.Path("cache", "file")
	for _, content := range []string{"first", "", "a longer second one"} {
		if err := s.WriteFileAtomic(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("content %q: %v; want %q", got, err, content)
		}
	}
	wantEmpty(t, s, "tmp")
}

func TestWriteFileAtomicThatFailsChangesNothing(t *testing.T) {
	s := newStore(t)
	if err := os.MkdirAll(s.Path("cache", "full", "file"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, s.Root())
	for name, path := range map[string]string{
		"no such directory":    s.Path("cache", "none", "file"),
		"a directory is there": s.Path("cache", "full"),
	} {
		if err := s.WriteFileAtomic(path, []byte("x")); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if after := snapshot(t, s.Root()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the store is now %q", after)
	}
}

// Whoever reads while a file is replaced sees one content or the other, whole.
func TestWriteFileAtomicUnderReaders(t *testing.T) {
	s := newStore(t)
	path := s.Path("cache", "file")
	old, replacement := bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)
	if err := s.WriteFileAtomic(path, old); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				data, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(data, old) && !bytes.Equal(data, replacement) {
					t.Errorf("a reader sees %d bytes: %v", len(data), err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 40 {
		if err := s.WriteFileAtomic(path, [][]byte{replacement, old}[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// A directory that is somebody else's does not become a store: what is in its tmp/ would be removed.
func TestOpenRefusesOtherDirectories(t *testing.T) {
	for name, files := range map[string][]string{
		"a root directory":        {"bin/sh", "tmp/file"},
		"a tmp alone":             {"tmp/file"},
		"a home directory":        {".profile"},
		"a file beside a store's": {"blobs/sha256/x", "notes"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range files {
				put(t, filepath.Join(root, f))
			}
			if _, err := Open(root); err == nil || !strings.Contains(err.Error(), "is not a store") {
				t.Errorf("opened: %v", err)
			}
			for _, f := range files {
				if _, err := os.Stat(filepath.Join(root, f)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	unfinished := t.TempDir()
	put(t, filepath.Join(unfinished, "tmp", "file-123"))
	put(t, filepath.Join(unfinished, "lost+found", "x"))
	if _, err := Open(unfinished); err != nil {
		t.Errorf("one that was not finished: %v", err)
	}
}
