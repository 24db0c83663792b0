package containers

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/quota"
	"github.com/micabuild/mica/internal/sandbox"
)

// entry is an entry of a tar.
type entry struct {
	name, content, link string
	kind                byte
	mode                int64
}

func makeTar(t *testing.T, entries ...entry) *tar.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.content)), Mode: max(e.mode, 0o644), Uid: os.Getuid(), Gid: os.Getgid(), ModTime: time.Unix(1e9, 0)}
		if e.kind == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return tar.NewReader(&buf)
}

// extract extracts into a directory beside which there is a secret.
func extract(t *testing.T, o ExtractOptions, from *tar.Reader) (dir string, err error) {
	t.Helper()
	base := t.TempDir()
	dir = filepath.Join(base, "dir")
	if err := os.MkdirAll(filepath.Join(dir, "there"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secret": "kept", "dir/file": "old"} {
		if err := os.WriteFile(filepath.Join(base, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	x := &extractor{ctx: t.Context(), o: o, root: int(root.Fd()), dir: "/", quota: &quota.Quota{}, mounts: []sandbox.Mounted{{Path: "/mounted/here"}}}
	err = x.all(from)
	if got, readErr := os.ReadFile(filepath.Join(base, "secret")); readErr != nil || string(got) != "kept" {
		t.Errorf("the secret is %q, %v", got, readErr)
	}
	if list, _ := os.ReadDir(base); len(list) != 2 {
		t.Errorf("files outside: %v", list)
	}
	return dir, err
}

func TestExtract(t *testing.T) {
	t.Parallel()
	dir, err := extract(t, ExtractOptions{}, makeTar(t,
		entry{name: "./", kind: tar.TypeDir}, entry{name: "new/", kind: tar.TypeDir}, entry{name: "new/a", content: "text", mode: 0o4755},
		entry{name: "new/hard", kind: tar.TypeLink, link: "new/a"}, entry{name: "new/soft", kind: tar.TypeSymlink, link: "/etc/passwd"},
		entry{name: "deep/er/b", content: "b"}, entry{name: "file", content: "new"}, entry{name: "there", content: "a file now"}, entry{name: "pipe", kind: tar.TypeFifo},
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"new/a": "text", "new/hard": "text", "deep/er/b": "b", "file": "new", "there": "a file now"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	info, err := os.Lstat(filepath.Join(dir, "new/a"))
	if err != nil || info.Mode() != fs.ModeSetuid|0o755 || !info.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "pipe")); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("%v, %v", info, err)
	}
}

// A volume is not emptied by what would replace it.
func TestExtractOverMount(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"mounted": true, "mounted/here": true, "mounted/here/f": false, "mounted/f": false, "mounted/hereafter": false} {
		dir, err := extract(t, ExtractOptions{}, makeTar(t, entry{name: "mounted/here/kept", content: "text"}, entry{name: name, content: "text"}))
		if (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "mounted/here/kept")); string(got) != "text" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A path may be longer than those that the kernel takes.
func TestExtractLongPath(t *testing.T) {
	t.Parallel()
	name := strings.Repeat(strings.Repeat("d", 200)+"/", 50) + "f"
	dir, err := extract(t, ExtractOptions{}, makeTar(t, entry{name: name, content: "text"}, entry{name: path.Dir(name) + "/", kind: tar.TypeDir}, entry{name: "hard", kind: tar.TypeLink, link: name}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "hard")); string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
}

// Nothing is written or linked outside of the directory.
func TestExtractHostile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries []entry
		ok      bool
	}{
		"a parent":              {[]entry{{name: "../../secret", content: "x"}}, true}, // which is below the directory, as for tar
		"an absolute path":      {[]entry{{name: "/secret", content: "x"}}, true},
		"through a link":        {[]entry{{name: "l", kind: tar.TypeSymlink, link: ".."}, {name: "l/secret", content: "x"}}, true}, // whose root is the directory
		"by an absolute link":   {[]entry{{name: "l", kind: tar.TypeSymlink, link: "/"}, {name: "l/secret", content: "x"}}, true},
		"a link to a link":      {[]entry{{name: "l", kind: tar.TypeSymlink, link: "../secret"}, {name: "l", content: "x"}}, true},
		"a hard link outside":   {[]entry{{name: "h", kind: tar.TypeLink, link: "../secret"}, {name: "h", content: "x"}}, false},
		"a hard link by a link": {[]entry{{name: "l", kind: tar.TypeSymlink, link: ".."}, {name: "h", kind: tar.TypeLink, link: "l/secret"}}, false},
		"an odd type":           {[]entry{{name: "x", kind: 'Z'}}, false},
	} {
		if _, err := extract(t, ExtractOptions{}, makeTar(t, c.entries...)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, e := range map[string]entry{"a file on a directory": {name: "there", content: "x"}, "a directory on a file": {name: "file", kind: tar.TypeDir}} {
		if _, err := extract(t, ExtractOptions{KeepDirectories: true}, makeTar(t, e)); err == nil || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tree makes files of all kinds that a user may make.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	err := os.MkdirAll(filepath.Join(dir, "d/e"), 0o755)
	for name, text := range map[string]string{"d/a": "text", "d/e/b": "b"} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640)
		}
	}
	if err == nil {
		err = os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "d/hard"))
	}
	if err == nil {
		err = os.Symlink("/nowhere", filepath.Join(dir, "d/soft"))
	}
	if err == nil {
		err = os.Chtimes(filepath.Join(dir, "d"), time.Unix(1e9, 0), time.Unix(1e9, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// names are the entries of a tar, with the targets of links.
func names(t *testing.T, from io.Reader) (list []string) {
	t.Helper()
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uname != "" || h.Uid != os.Getuid() {
			t.Errorf("%s belongs to %s %d", h.Name, h.Uname, h.Uid)
		}
		list = append(list, strings.TrimSuffix(h.Name+" "+h.Linkname, " "))
	}
}

func TestArchiver(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for base, want := range map[string][]string{
		"":     {"d/", "d/a", "d/e/", "d/e/b", "d/hard d/a", "d/soft /nowhere"},
		".":    {"./d/", "./d/a", "./d/e/", "./d/e/b", "./d/hard ./d/a", "./d/soft /nowhere"},
		"/":    {"/d/", "/d/a", "/d/e/", "/d/e/b", "/d/hard /d/a", "/d/soft /nowhere"},
		"name": {"name/d/", "name/d/a", "name/d/e/", "name/d/e/b", "name/d/hard name/d/a", "name/d/soft /nowhere"},
	} {
		var buf bytes.Buffer
		w := &archiver{ctx: t.Context(), tar: tar.NewWriter(&buf), links: map[[2]uint64]string{}}
		if err := w.children(root, ".", base); err != nil {
			t.Fatal(err)
		}
		if err := w.tar.Close(); err != nil {
			t.Fatal(err)
		}
		if got := names(t, &buf); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", base, got, want)
		}
	}
}

// A copy of what a container has changed is the same, and another.
func TestCopyUpper(t *testing.T) {
	t.Parallel()
	from, to := tree(t), filepath.Join(t.TempDir(), "copy")
	if err := copyUpper(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(filepath.Join(to, "d/a"))
	if err != nil || a.Mode() != 0o640 {
		t.Fatalf("%v, %v", a, err)
	}
	hard, err := os.Stat(filepath.Join(to, "d/hard"))
	if err != nil || !os.SameFile(a, hard) {
		t.Errorf("hard links: %v", err)
	}
	if original, err := os.Stat(filepath.Join(from, "d/a")); err != nil || os.SameFile(a, original) {
		t.Errorf("the copy is the original: %v", err)
	}
	if target, err := os.Readlink(filepath.Join(to, "d/soft")); err != nil || target != "/nowhere" {
		t.Errorf("%q, %v", target, err)
	}
	if d, err := os.Stat(filepath.Join(to, "d")); err != nil || !d.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("%v, %v", d, err)
	}
	if treeSize(to) != 5 { // "text" once, and "b"
		t.Errorf("%d bytes", treeSize(to))
	}
}

// TestWalkLongPaths: what a container has changed may have paths of any length. Errors do not have the paths of the store.
func TestWalkLongPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	top, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = top.Close() }()
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 50)
	err = top.MkdirAll(long, 0o755)
	if err == nil {
		err = top.WriteFile(long+"f", []byte("text"), 0o600)
	}
	if err == nil {
		err = top.Link(long+"f", "hard")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := copyUpper(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	if treeSize(from) != 4 || treeSize(to) != 4 {
		t.Errorf("%d and %d bytes", treeSize(from), treeSize(to))
	}
	copied, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = copied.Close() }()
	if text, err := copied.ReadFile(long + "f"); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left: %v", list)
	}
	if err := copyUpper(t.Context(), from, to); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("a copy to what exists: %v", err)
	}
}

// TestWalkDepth: a walk refuses directories that are nested without end, before they use up the files of the server.
func TestWalkDepth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at, err := os.OpenRoot(dir)
	for range maxDepth + 2 {
		if err != nil {
			t.Fatal(err)
		}
		var below *os.Root
		if err = at.Mkdir("d", 0o755); err == nil {
			below, err = at.OpenRoot("d")
		}
		_ = at.Close()
		at = below
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = at.Close() }()
	if err := walkTree(t.Context(), dir, &sizeSum{seen: map[uint64]bool{}}); !errors.Is(err, errTooDeep) {
		t.Errorf("%v", err)
	}
}
