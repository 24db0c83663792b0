package localdir

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

var longAgo = time.Unix(1_000_000_000, 0)

// contents are the contents of a view's files, by tag.
type contents []string

func (c contents) Open(_ context.Context, _ *view.Entry, tag int) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader([]byte(c[tag]))), nil
}

func (c contents) Digest(_ context.Context, _ *view.Entry, tag int) (digest.Digest, error) {
	return digest.FromString(c[tag]), nil
}

// file is a file of a view: its entry, and its content.
type file struct {
	view.Entry
	data string
}

func regular(name, data string) file {
	return file{view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, Size: int64(len(data))}, data}
}

func entry(name string, t view.Type, mode uint32) file {
	return file{Entry: view.Entry{Path: name, Type: t, Mode: mode}}
}

func symlink(name, target string) file {
	return file{Entry: view.Entry{Path: name, Type: view.TypeSymlink, Mode: 0o777, Linkname: target}}
}

// link is another name of a file.
func link(first file, name string) file {
	first.Hardlink, first.Path = first.Path, name
	return first
}

// tree is a view of files that belong to this process's user and were changed long ago.
func tree(files ...file) view.View {
	c := make(contents, len(files))
	x := view.NewIndex(c, len(files))
	for i, f := range files {
		c[i] = f.data
		e := f.Entry
		e.ModTime, e.UID, e.GID = longAgo, os.Getuid(), os.Getgid()
		x.Put(&e, i)
	}
	return x.Freeze()
}

// directory is a directory with the content of the files that are named; a name that ends with "/" is a directory.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// listing is what a directory has: names, modes, contents, targets.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		rest := ""
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rest = fmt.Sprintf(" %q", data)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			list = append(list, name+" -> "+target)
			return nil
		}
		list = append(list, fmt.Sprintf("%s %v%s", name, info.Mode(), rest))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func stat(t *testing.T, dir, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestWrite(t *testing.T) {
	t.Parallel()
	a, l, p := regular("a", "A"), symlink("l", "a"), entry("p", view.TypeFifo, 0o644)
	for name, c := range map[string]struct {
		before map[string]string
		link   string // a symlink to /etc in the directory
		files  []file
		remove bool
		want   []string
	}{
		"nothing":                {want: nil},
		"every type":             {files: []file{a, entry("d", view.TypeDir, 0o1777), regular("d/b", "B"), l, p}, want: []string{`a -rw-r--r-- "A"`, "d dtrwxrwxrwx", `d/b -rw-r--r-- "B"`, "l -> a", "p prw-r--r--"}},
		"other names":            {files: []file{a, link(a, "a2"), l, link(l, "l2")}, want: []string{`a -rw-r--r-- "A"`, `a2 -rw-r--r-- "A"`, "l -> a", "l2 -> a"}},
		"files that stay":        {before: map[string]string{"kept": "K"}, files: []file{a}, want: []string{`a -rw-r--r-- "A"`, `kept -rw------- "K"`}},
		"a file is replaced":     {before: map[string]string{"a": "old"}, files: []file{a}, want: []string{`a -rw-r--r-- "A"`}},
		"a directory is":         {before: map[string]string{"a/in": "old"}, files: []file{a}, want: []string{`a -rw-r--r-- "A"`}},
		"a symlink is":           {link: "a", files: []file{a}, want: []string{`a -rw-r--r-- "A"`}},
		"a symlink to elsewhere": {link: "d", files: []file{regular("d/b", "B")}, want: []string{"d drwxr-xr-x", `d/b -rw-r--r-- "B"`}},
		"the rest is removed": {
			before: map[string]string{"old": "", "d/old": "", "gone/x/y": "", "a": "old"}, link: "link", remove: true,
			files: []file{entry("d", view.TypeDir, 0o755), regular("d/new", "N"), a}, want: []string{`a -rw-r--r-- "A"`, "d drwxr-xr-x", `d/new -rw-r--r-- "N"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := directory(t, c.before)
			if c.link != "" {
				if err := os.Symlink("/etc", filepath.Join(dir, c.link)); err != nil {
					t.Fatal(err)
				}
			}
			if err := Write(t.Context(), tree(c.files...), dir, c.remove); err != nil {
				t.Fatal(err)
			}
			same(t, listing(t, dir), c.want)
			for _, f := range c.files {
				if at := stat(t, dir, f.Path).ModTime(); !at.Equal(longAgo) {
					t.Errorf("%s has the time %v, want %v", f.Path, at, longAgo)
				}
				if f.Hardlink != "" && !os.SameFile(stat(t, dir, f.Path), stat(t, dir, f.Hardlink)) {
					t.Errorf("%s and %s are two files", f.Path, f.Hardlink)
				}
			}
		})
	}
}

// TestWriteDevices: devices are left out where the user may not make them.
func TestWriteDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	may := unix.Mknod(filepath.Join(t.TempDir(), "probe"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil
	null, disk := entry("null", view.TypeChar, 0o644), entry("disk", view.TypeBlock, 0o644)
	null.Major, null.Minor, disk.Major = 1, 3, 7
	if err := Write(t.Context(), tree(null, link(null, "null2"), disk, regular("z", "Z")), dir, false); err != nil {
		t.Fatal(err)
	}
	want := []string{`z -rw-r--r-- "Z"`}
	if may {
		want = append([]string{"disk Drw-r--r--", "null Dcrw-r--r--", "null2 Dcrw-r--r--"}, want...)
	}
	same(t, listing(t, dir), want)
}

type copyCase struct {
	from string
	want []string
	mode fs.FileMode
}

func TestCopy(t *testing.T) {
	t.Parallel()
	l, f := symlink("a/l", "x"), regular("b/f", "F")
	v := tree(entry(".", view.TypeDir, 0o711), entry("a", view.TypeDir, 0o700), l, entry("b", view.TypeDir, 0o750), link(l, "b/l"), f, link(f, "b/g"), regular("c", "C"))
	testCopy(t, v, map[string]copyCase{
		"a directory":      {"b", []string{`f -rw-r--r-- "F"`, `g -rw-r--r-- "F"`, "l -> x"}, fs.ModeDir | 0o750},
		"a file":           {"c", nil, fs.ModeDir | 0o755},
		"a missing name":   {"no", nil, fs.ModeDir | 0o755},
		"the whole of all": {".", []string{"a drwx------", "a/l -> x", "b drwxr-x---", `b/f -rw-r--r-- "F"`, `b/g -rw-r--r-- "F"`, "b/l -> x", `c -rw-r--r-- "C"`}, fs.ModeDir | 0o711},
	})
}

// TestRootCopyImplied: directories that have no entry of their own belong to root.
func TestRootCopyImplied(t *testing.T) {
	t.Parallel()
	testCopy(t, tree(symlink("a/l", "x")), map[string]copyCase{
		"a directory": {"a", []string{"l -> x"}, fs.ModeDir | 0o755},
		"the whole":   {".", []string{"a drwxr-xr-x", "a/l -> x"}, fs.ModeDir | 0o755},
	})
}

func testCopy(t *testing.T, v view.View, cases map[string]copyCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "new")
			if err := Copy(t.Context(), v, c.from, dir); err != nil {
				t.Fatal(err)
			}
			same(t, listing(t, dir), c.want)
			if got := stat(t, filepath.Dir(dir), "new").Mode(); got != c.mode {
				t.Errorf("the directory has the mode %v, want %v", got, c.mode)
			}
			if err := Copy(t.Context(), v, c.from, dir); err == nil {
				t.Error("a directory that is there is written to")
			}
		})
	}
}

func TestWriteStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, tree(regular("a", "A")), t.TempDir(), false); err == nil {
		t.Error("no error after the context ended")
	}
}
