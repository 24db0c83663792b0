package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/view"
)

// nestedHost is a host in a user namespace, or not.
func nestedHost(nested bool) *Host {
	h := NewHost(func() bool { return false })
	h.nested = func() bool { return nested }
	return h
}

// own is an entry that belongs to the user.
func own(name string, kind view.Type, mode uint32) *view.Entry {
	return &view.Entry{Path: name, Type: kind, Mode: mode, UID: os.Getuid(), GID: os.Getgid(), ModTime: testTime}
}

// makeTree makes files and directories, which end with a slash, and symlinks, "name>target".
func makeTree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		var err error
		link, target, isLink := strings.Cut(name, ">")
		switch {
		case isLink:
			err = os.Symlink(target, filepath.Join(root, link))
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(filepath.Join(root, name), 0o755)
		default:
			err = os.WriteFile(filepath.Join(root, name), []byte(name), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestDirs: directories are opened beneath the root alone, whatever directory is open already.
func TestDirs(t *testing.T) {
	t.Parallel()
	root, err := openRoot(makeTree(t, "a/b/c/", "a/bb/", "d/", "l>a", "a/up>..", "a/out>/", "a/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(root) }()
	inodes := map[string]uint64{}
	d := newDirs(root)
	defer d.close()
	for _, name := range []string{".", "a", "a/b", "a/b/c", "a/bb", "a/b", "d", "a/b/c", ".", "a"} {
		fd, err := d.open(name)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if ino, ok := inodes[name]; ok && ino != st.Ino {
			t.Errorf("%s is another directory than before", name)
		}
		inodes[name] = st.Ino
	}
	if len(slices.Compact(slices.Sorted(maps.Values(inodes)))) != len(inodes) {
		t.Errorf("two names are one directory: %v", inodes)
	}
	for name, want := range map[string]error{
		"no": unix.ENOENT, "a/no/x": unix.ENOENT, "l": unix.ENOTDIR, "l/b": unix.ENOTDIR, "a/up": unix.ENOTDIR, "a/up/d": unix.ENOTDIR,
		"a/out/etc": unix.ENOTDIR, "a/f": unix.ENOTDIR, "a/f/x": unix.ENOTDIR,
	} {
		var pathErr *fs.PathError
		if _, err := d.open(name); !errors.Is(err, want) || !errors.As(err, &pathErr) || pathErr.Path != name {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if fd, err := d.open("a/b"); err != nil || fd < 0 {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// TestOpenFiles: only regular files are read, without waiting, and never through a symlink.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	root := makeTree(t, "d/", "d/f", "l>d", "d/l>f")
	if err := unix.Mkfifo(filepath.Join(root, "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := nestedHost(false).OpenDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	f, err := tree.Open("d/f")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); string(data) != "d/f" || err != nil || f.Close() != nil {
		t.Errorf("%q, %v", data, err)
	}
	for _, name := range []string{"l/f", "d/l", "no", "d/no", "d/f/x"} {
		if f, err := tree.Open(name); err == nil {
			t.Errorf("%s is opened: %v", name, f)
		}
		if _, err := tree.Lstat(name); err == nil && name != "d/l" {
			t.Errorf("%s is described", name)
		}
	}
	if f, err := tree.Open("p"); err == nil { // a pipe gives nothing, at once
		if data, _ := io.ReadAll(f); len(data) != 0 {
			t.Errorf("a pipe has %q", data)
		}
		_ = f.Close()
	}
	if e, err := tree.Lstat("d/l"); err != nil || e.Type != view.TypeSymlink {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := nestedHost(false).OpenDirectory(filepath.Join(root, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestWalk(t *testing.T) {
	t.Parallel()
	root := makeTree(t, "b/", "b/c/", "b/c/f", "a", "l>b/c/f")
	if err := os.Link(filepath.Join(root, "b/c/f"), filepath.Join(root, "a0")); err != nil {
		t.Fatal(err)
	}
	tree, err := nestedHost(false).OpenDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	list, err := tree.Walk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		word := e.Path
		if e.Hardlink != "" {
			word += ">" + e.Hardlink
		}
		if e.Linkname != "" {
			word += "@" + e.Linkname
		}
		got = append(got, word)
	}
	if diff := cmp.Diff([]string{"a", "a0", "b", "b/c", "b/c/f>a0", "l@b/c/f"}, got); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree.Walk(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestSocketsAreRemoved: no layer can hold them. The time of their directory stays.
func TestSocketsAreRemoved(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("", "s") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	l, err := net.Listen("unix", filepath.Join(root, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Chtimes(root, testTime, testTime); err != nil {
		t.Fatal(err)
	}
	tree, err := nestedHost(false).OpenDirectory(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	list, err := tree.Walk(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	info, err := os.Stat(root)
	if err != nil || !sameTime(info.ModTime().UTC(), testTime) {
		t.Errorf("the directory is of %v, %v", info.ModTime(), err)
	}
	if names, err := os.ReadDir(root); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// TestAttributesOfTrees: in a user namespace, overlayfs's attributes are the user's.
func TestAttributesOfTrees(t *testing.T) {
	t.Parallel()
	set := func(root, name, attr, value string) {
		t.Helper()
		err := unix.Lsetxattr(filepath.Join(root, name), attr, []byte(value), 0)
		if errors.Is(err, unix.ENOTSUP) {
			t.Skip("the filesystem of the temporary directory has no attributes")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	walk := func(root string) (map[string]*view.Entry, error) {
		tree, err := nestedHost(true).OpenDirectory(root)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		list, err := tree.Walk(t.Context())
		all := map[string]*view.Entry{}
		for _, e := range list {
			all[e.Path] = e
		}
		return all, err
	}
	root := makeTree(t, "d/", "f", "e/")
	set(root, "d", "user.overlay.opaque", "y")
	set(root, "d", "user.kept", "1")
	set(root, "e", "user.overlay.opaque", "x")
	set(root, "f", "user.overlay.origin", "z")
	set(root, "f", "user.long", strings.Repeat("v", 3000))
	all, err := walk(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := all["d"]; !d.Opaque || !cmp.Equal(d.Xattrs, map[string]string{"user.kept": "1"}) {
		t.Errorf("%+v", d)
	}
	if e := all["e"]; e.Opaque || e.Xattrs != nil {
		t.Errorf("%+v", e)
	}
	if f := all["f"]; f.Opaque || !cmp.Equal(f.Xattrs, map[string]string{"user.long": strings.Repeat("v", 3000)}) {
		t.Errorf("%d attributes", len(f.Xattrs))
	}
	set(root, "d", "user.overlay.redirect", "/e")
	if _, err := walk(root); err == nil || !strings.Contains(err.Error(), `"d" was written through an overlay mount with redirect_dir or metacopy`) {
		t.Errorf("%v", err)
	}
}

func TestGrow(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	for size, want := range map[int]int{0: 1, 4: 1, 5: 2, 64: 2, 65: 3} {
		calls := 0
		got, err := grow(make([]byte, 4), func(b []byte) (int, error) {
			calls++
			if len(b) < size {
				return -1, unix.ERANGE
			}
			return size, nil
		})
		if len(got) != size || err != nil || calls != want {
			t.Errorf("%d bytes: %d in %d calls, %v", size, len(got), calls, err)
		}
	}
	if got, err := grow(make([]byte, 4), func([]byte) (int, error) { return -1, fault }); len(got) != 0 || !errors.Is(err, fault) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestModes: a file has its mode, whatever the umask and the bits that a chown clears.
func TestModes(t *testing.T) {
	t.Parallel()
	var entries []*view.Entry
	for name, mode := range map[string]uint32{"a": 0o4755, "b": 0o2711, "c": 0, "d": 0o777, "e": 0o444} {
		e := own(name, view.TypeRegular, mode)
		e.Size, e.Digest = 1, "sha256:0"
		entries = append(entries, e)
	}
	entries = append(entries, own("dir", view.TypeDir, 0o1700), own("shut", view.TypeDir, 0o500), own("p", view.TypeFifo, 0o622))
	for kind, h := range hosts() {
		tree, err := h.Open(write(t, h, entries))
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		for _, e := range entries {
			got, err := tree.Lstat(e.Path)
			if err != nil || got.Mode != e.Mode || !sameTime(got.ModTime, e.ModTime) || got.UID != e.UID {
				t.Errorf("%s: %s: %+v, %v", kind, e.Path, got, err)
			}
		}
	}
}

// TestHoles: long runs of zeros take no space, also at the end.
func TestHoles(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	data := make([]byte, size)
	copy(data[size/2:], "middle")
	for kind, h := range hosts() {
		dir := t.TempDir()
		w, err := h.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		e := own("f", view.TypeRegular, 0o600)
		e.Size = size
		files := w.Files()
		f, err := files.Create(e)
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(data, 100_000) {
			if _, err := f.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(CloseFile(f, nil), w.Finish([]*view.Entry{e}, []*view.Entry{own(".", view.TypeDir, 0o755)})); err != nil {
			t.Fatal(err)
		}
		files.Close()
		path := w.Path()
		w.Close()
		if kind == DirectoryName {
			path = filepath.Join(path, "f")
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > size/4 {
			t.Errorf("%s: %d bytes on disk, %v", kind, st.Blocks*512, err)
		}
		checkContent(t, h, dir, kind, data)
	}
}

// TestWriteErrors name the file in the tree.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	root := []*view.Entry{own(".", view.TypeDir, 0o755)}
	link := func(name, to string, kind view.Type) *view.Entry {
		e := own(name, kind, 0o600)
		e.Hardlink = to
		return e
	}
	for name, c := range map[string]struct {
		do   func(w Writer, files Files) error
		want string
	}{
		"file twice": {func(_ Writer, files Files) error {
			return errors.Join(WriteFile(files, own("f", view.TypeRegular, 0o600), nil), WriteFile(files, own("f", view.TypeRegular, 0o600), nil))
		}, "create f: file exists"},
		"directory twice": {func(_ Writer, files Files) error { return errors.Join(files.MakeDir("d"), files.MakeDir("d")) }, "make directory d: file exists"},
		"no directory":    {func(_ Writer, files Files) error { return files.MakeDir("d/e") }, "open d: no such file or directory"},
		"through a link": {func(w Writer, files Files) error {
			l := own("l", view.TypeSymlink, 0o777)
			l.Linkname = "/tmp"
			return errors.Join(w.Finish([]*view.Entry{l}, root), WriteFile(files, own("l/f", view.TypeRegular, 0o600), nil))
		}, "open l: not a directory"},
		"socket":           {func(w Writer, _ Files) error { return w.Finish([]*view.Entry{own("s", view.TypeSocket, 0o600)}, root) }, `"s" cannot be kept in a layer`},
		"link to nothing":  {func(w Writer, _ Files) error { return w.Finish([]*view.Entry{link("l", "f", view.TypeRegular)}, root) }, "link f l: no such file or directory"},
		"link to a device": {func(w Writer, _ Files) error { return w.Finish([]*view.Entry{link("l", "n", view.TypeChar)}, root) }, ""},
		"directory of a link": {func(w Writer, _ Files) error {
			return w.Finish([]*view.Entry{link("l", "d/f", view.TypeRegular)}, root)
		}, "open d: no such file or directory"},
		"no such directory": {func(w Writer, _ Files) error { return w.Finish(nil, []*view.Entry{own("d", view.TypeDir, 0o755)}) }, "chmod d: no such file or directory"},
		"earlier error": {func(_ Writer, files Files) error {
			f, err := files.Create(own("f", view.TypeRegular, 0o600))
			return errors.Join(err, CloseFile(f, fault))
		}, "a fault"},
	} {
		w, err := nestedHost(false).CreateDirectory(filepath.Join(t.TempDir(), "tree"))
		if err != nil {
			t.Fatal(err)
		}
		files := w.Files()
		err = c.do(w, files)
		if os.Getuid() != 0 && name == "no such directory" {
			c.want = "chown d: no such file or directory"
		}
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		files.Close()
		w.Close()
	}
	dir := t.TempDir()
	for i := range 2 {
		if w, err := nestedHost(false).Create(dir); (err != nil) != (i == 1) || err != nil && !errors.Is(err, fs.ErrExist) {
			t.Errorf("tree %d in a directory: %v, %v", i, w, err)
		}
	}
}

// TestLeftOut: what a user namespace does not allow is left out, and noted; other errors stay errors.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	e := own("f", view.TypeRegular, 0o600)
	for name, c := range map[string]struct {
		nested bool
		do     func(w *directoryWriter) error
		ok     bool
		note   string
	}{
		"owner":                  {false, func(w *directoryWriter) error { return w.owner(e, nil) }, true, ""},
		"owner, not allowed":     {false, func(w *directoryWriter) error { return w.owner(e, unix.EPERM) }, false, ""},
		"owner, not mapped":      {true, func(w *directoryWriter) error { return w.owner(e, unix.EINVAL) }, true, "do not cover"},
		"owner, nested":          {true, func(w *directoryWriter) error { return w.owner(e, unix.EPERM) }, true, "do not cover"},
		"owner, disk":            {true, func(w *directoryWriter) error { return w.owner(e, unix.EIO) }, false, ""},
		"attribute":              {false, func(w *directoryWriter) error { return w.xattr(e, "user.a", nil) }, true, ""},
		"attribute, unknown":     {false, func(w *directoryWriter) error { return w.xattr(e, "user.a", unix.ENOTSUP) }, true, "user.a cannot be set here"},
		"attribute, not allowed": {false, func(w *directoryWriter) error { return w.xattr(e, "user.a", unix.EPERM) }, false, ""},
		"attribute, nested":      {true, func(w *directoryWriter) error { return w.xattr(e, "user.a", unix.EPERM) }, true, "user.a cannot be set here"},
		"attribute, disk":        {true, func(w *directoryWriter) error { return w.xattr(e, "user.a", unix.ENOSPC) }, false, ""},
	} {
		h := nestedHost(c.nested)
		err := c.do(&directoryWriter{host: h})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), " f: ") {
			t.Errorf("%s: the error names no file: %v", name, err)
		}
		notes := h.Notes()
		if len(notes) > 1 || (len(notes) == 1) != (c.note != "") || len(notes) == 1 && !strings.Contains(notes[0], c.note) {
			t.Errorf("%s: notes %q", name, notes)
		}
	}
	h := nestedHost(true)
	for range 2 {
		h.note("the same")
	}
	if notes := h.Notes(); len(notes) != 1 {
		t.Errorf("%q", notes)
	}
	if nestedHost(true).OverlayXattr("x") != "user.overlay.x" || nestedHost(false).OverlayXattr("x") != "trusted.overlay.x" {
		t.Error("overlayfs's attributes")
	}
}

// TestClone: a file that could share the blocks of another has its content, on any filesystem.
func TestClone(t *testing.T) {
	t.Parallel()
	source := filepath.Join(t.TempDir(), "source")
	data := []byte(strings.Repeat("0123456789abcdef", 4096))
	if err := os.WriteFile(source, data, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	for kind, h := range hosts() {
		dir := t.TempDir()
		w, err := h.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		e := own("f", view.TypeRegular, 0o600)
		e.Size = int64(len(data))
		files := w.Files()
		f, err := files.Create(e)
		if err != nil {
			t.Fatal(err)
		}
		f.Clone(from.Fd())
		_, err = f.Write(data)
		err = errors.Join(CloseFile(f, err), w.Finish([]*view.Entry{e}, []*view.Entry{own(".", view.TypeDir, 0o755)}))
		files.Close()
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		checkContent(t, h, dir, kind, data)
	}
}

func TestMakeDirs(t *testing.T) {
	t.Parallel()
	w, err := nestedHost(false).CreateDirectory(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := func(name string) *view.Entry { return own(name, view.TypeDir, 0o755) }
	if err := MakeDirs(w, []*view.Entry{dir("."), dir("a"), dir("a/b")}, nil); err != nil {
		t.Error(err)
	}
	if err := MakeDirs(w, []*view.Entry{dir("a"), dir("a/c")}, map[string]bool{"a": true}); err != nil {
		t.Error(err)
	}
	if err := MakeDirs(w, []*view.Entry{dir("a")}, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
}

func TestTimesOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   time.Time
		want unix.Timespec
	}{{time.Time{}, unix.Timespec{}}, {time.Unix(5, 7), unix.Timespec{Sec: 5, Nsec: 7}}, {time.Unix(-5, 7), unix.Timespec{Sec: -5, Nsec: 7}}} {
		if got := timesOf(&view.Entry{ModTime: c.at}); got != [2]unix.Timespec{c.want, c.want} {
			t.Errorf("%v: %v", c.at, got)
		}
	}
}

// checkContent checks what file f of the tree in dir has.
func checkContent(t *testing.T, h *Host, dir, kind string, data []byte) {
	t.Helper()
	tree, err := h.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	r, err := tree.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != string(data) {
		t.Errorf("%s: %d bytes, %v", kind, len(got), err)
	}
	_ = r.Close()
}
