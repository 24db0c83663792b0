package view

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// host writes members to a new directory of the host; directories get their modes last.
func host(t testing.TB, members ...member) string {
	t.Helper()
	dir := t.TempDir()
	for _, m := range members {
		name := filepath.Join(dir, m.e.Path)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		switch {
		case err != nil:
		case m.e.Hardlink != "":
			err = os.Link(filepath.Join(dir, m.e.Hardlink), name)
		case m.e.Type == TypeDir:
			err = os.MkdirAll(name, 0o755)
		case m.e.Type == TypeRegular:
			err = os.WriteFile(name, []byte(m.data), 0o600)
		case m.e.Type == TypeSymlink:
			err = os.Symlink(m.e.Linkname, name)
		case m.e.Type == TypeFifo:
			err = unix.Mkfifo(name, m.e.Mode)
		case m.e.Type == TypeSocket:
			err = unix.Mknod(name, unix.S_IFSOCK|m.e.Mode, 0)
		}
		if err == nil && m.e.Type != TypeSymlink && m.e.Hardlink == "" {
			err = os.Chmod(name, m.e.FileMode())
		}
		if err == nil && m.e.Type == TypeRegular && m.e.Hardlink == "" {
			err = os.Chtimes(name, m.e.ModTime, m.e.ModTime)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// dirOf is a view of a host directory, as a build context is seen.
func dirOf(t testing.TB, dir string, opt DirOptions) View {
	t.Helper()
	opt.Anonymous = true
	v, err := Dir(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDir(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("b/x", "X").mode(0o4640), directory("b/empty").mode(0o1700), symlink("a", "../../outside"), regular("b-c", ""),
		device("pipe", TypeFifo, 0, 0).mode(0o600), device("socket", TypeSocket, 0, 0), regular("é \xff\n*", "odd"))
	v := dirOf(t, dir, DirOptions{})
	same(t, listing(t, v), []string{
		"a -> ../../outside", "b/", "b/empty/ 1700", `b/x = "X" 4640`, `b-c = ""`, "pipe fifo 0600", `socket = ""`, "é \xff\n* = \"odd\"",
	})
	if e, err := v.Lstat(t.Context(), "b/x"); err != nil || !e.ModTime.Equal(longAgo) {
		t.Errorf("b/x is of %v, %v", e.ModTime, err)
	}
}

func TestDirOwners(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("f", ""))
	attrs := map[string]string{}
	if err := unix.Lsetxattr(filepath.Join(dir, "f"), "user.k", []byte("v"), 0); err == nil {
		attrs["user.k"] = "v"
	} else if !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "f"), &st); err != nil {
		t.Fatal(err)
	}
	v, err := Dir(dir, DirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.Lstat(t.Context(), "f")
	if err != nil || e.UID != int(st.Uid) || e.GID != int(st.Gid) || e.Xattrs["user.k"] != attrs["user.k"] {
		t.Errorf("f is %+v, %v", e, err)
	}
	e, err = dirOf(t, dir, DirOptions{}).Lstat(t.Context(), "f")
	if err != nil || e.UID != 0 || e.GID != 0 || e.Xattrs != nil {
		t.Errorf("f, anonymous, is %+v, %v", e, err)
	}
}

func TestDirHardlinks(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("z", "X"), hardlink("b/y", "z"), hardlink("a", "z"), regular("other", "X"))
	same(t, listing(t, dirOf(t, dir, DirOptions{})), []string{`a = "X"`, "b/", "b/y is a", `other = "X"`, "z is a"})
	same(t, listing(t, dirOf(t, dir, DirOptions{Exclude: []string{"a"}})), []string{"b/", `b/y = "X"`, `other = "X"`, "z is b/y"})
	same(t, listing(t, dirOf(t, dir, DirOptions{Include: []string{"z"}})), []string{`z = "X"`})
}

// contextTree is what the filters below choose from.
var contextTree = []member{
	regular("Dockerfile", ""), regular("a/x.go", ""), regular("a/x.txt", ""), regular("a/sub/y.go", ""), regular("a/sub/deep/z.txt", ""),
	directory("a/empty"), regular("a.txt", ""), regular("node_modules/p/index.js", ""), regular("b/node_modules/q.js", ""), regular("b/keep", ""),
}

func TestDirFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		include, exclude []string
		want             string // names, separated by spaces
	}{
		{name: "all", want: "Dockerfile a/ a/empty/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/sub/y.go a/x.go a/x.txt a.txt b/ b/keep b/node_modules/ b/node_modules/q.js node_modules/ node_modules/p/ node_modules/p/index.js"},
		{name: "include a file", include: []string{"a/x.go"}, want: "a/ a/x.go"},
		{name: "include a directory", include: []string{"a/sub"}, want: "a/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/sub/y.go"},
		{name: "include what is in a directory", include: []string{"a/sub/**"}, want: "a/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/sub/y.go"},
		{name: "include an empty directory", include: []string{"a/empty"}, want: "a/ a/empty/"},
		{name: "include by wildcards", include: []string{"*.txt", "a/*.go"}, want: "a/ a/x.go a.txt"},
		{name: "include at any depth", include: []string{"**/*.txt"}, want: "a/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/x.txt a.txt"},
		{name: "include several", include: []string{"b/keep", "Dockerfile"}, want: "Dockerfile b/ b/keep"},
		{name: "include what is missing", include: []string{"no/such", "a/no"}},
		{name: "include a name that begins another", include: []string{"a"}, want: "a/ a/empty/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/sub/y.go a/x.go a/x.txt"},
		{name: "exclude a directory", exclude: []string{"a", "**/node_modules"}, want: "Dockerfile a.txt b/ b/keep"},
		{name: "exclude a directory at the top only", exclude: []string{"a", "node_modules"}, want: "Dockerfile a.txt b/ b/keep b/node_modules/ b/node_modules/q.js"},
		{name: "exclude what is in a directory", exclude: []string{"a/**", "b", "node_modules"}, want: "Dockerfile a/ a.txt"},
		{name: "exclude by wildcards", exclude: []string{"*.txt", "a/*/*", "b", "node*"}, want: "Dockerfile a/ a/empty/ a/sub/ a/x.go a/x.txt"},
		{name: "exclude with an exception", exclude: []string{"a", "!a/sub/y.go", "b", "node_modules"}, want: "Dockerfile a/ a/sub/ a/sub/y.go a.txt"},
		{name: "exclude with a directory as the exception", exclude: []string{"*", "!a/sub"}, want: "a/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/sub/y.go"},
		{name: "exclude with an exception by wildcards", exclude: []string{"*", "!**/*.txt"}, want: "a/ a/sub/ a/sub/deep/ a/sub/deep/z.txt a/x.txt a.txt"},
		{name: "exclude within an exception", exclude: []string{"*", "!a", "a/sub"}, want: "a/ a/empty/ a/x.go a/x.txt"},
		{name: "an exception that comes before its rule", exclude: []string{"!Dockerfile", "*"}},
		{name: "exclude all", exclude: []string{"*"}},
		{name: "exclude all, at any depth", exclude: []string{"**"}},
		{name: "include and exclude", include: []string{"a"}, exclude: []string{"**/*.txt", "a/empty"}, want: "a/ a/sub/ a/sub/deep/ a/sub/y.go a/x.go"},
		{name: "exclude wins over include", include: []string{"a/x.go", "Dockerfile"}, exclude: []string{"a"}, want: "Dockerfile"},
		{name: "an exception does not include", include: []string{"b"}, exclude: []string{"*", "!a", "!b/keep"}, want: "b/ b/keep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := dirOf(t, host(t, contextTree...), DirOptions{Include: c.include, Exclude: c.exclude})
			same(t, names(t, v), strings.Fields(c.want))
		})
	}
}

func TestDirFollow(t *testing.T) {
	t.Parallel()
	tree := []member{
		regular("real/a", ""), regular("real/b", ""), regular("real/c/d", ""), symlink("real/up", "../other"), regular("other", ""),
		symlink("link", "real"), symlink("abs", "/real/c"), symlink("chain", "link2"), symlink("link2", "link/a"), symlink("out", "../../../real/b"),
		symlink("loop", "loop"), symlink("ping", "pong"), symlink("pong", "ping"), symlink("grow", "grow/x"), symlink("dangling", "no/such"),
		symlink("root", "/"), symlink("l1.txt", "real/a"), symlink("l2.txt", "other"), regular("l3.txt", ""),
	}
	everything := names(t, dirOf(t, host(t, tree...), DirOptions{}))
	for _, c := range []struct {
		name   string
		follow []string
		want   string
	}{
		{name: "a file", follow: []string{"real/a"}, want: "real/ real/a"},
		{name: "from the root, with dots", follow: []string{"/../real/./a/"}, want: "real/ real/a"},
		{name: "a directory", follow: []string{"real/c"}, want: "real/ real/c/ real/c/d"},
		{name: "what is missing", follow: []string{"no/such"}},
		{name: "below a file", follow: []string{"other/x"}},
		{name: "a link", follow: []string{"real/up"}, want: "other real/ real/up"},
		{name: "a link to a directory", follow: []string{"abs"}, want: "abs real/ real/c/ real/c/d"},
		{name: "through a link", follow: []string{"link/a"}, want: "link real/ real/a"},
		{name: "through an absolute link", follow: []string{"abs/d"}, want: "abs real/ real/c/ real/c/d"},
		{name: "through a link to a link", follow: []string{"link/up"}, want: "link other real/ real/up"},
		{name: "a chain", follow: []string{"chain"}, want: "chain link link2 real/ real/a"},
		{name: "a link to the outside stays inside", follow: []string{"out"}, want: "out real/ real/b"},
		{name: "a dangling link", follow: []string{"dangling"}, want: "dangling"},
		{name: "a loop", follow: []string{"loop", "loop/x"}, want: "loop"},
		{name: "a loop of two", follow: []string{"ping/x"}, want: "ping pong"},
		{name: "a loop that grows", follow: []string{"grow/y"}, want: "grow"},
		{name: "wildcards", follow: []string{"real/[ab]"}, want: "real/ real/a real/b"},
		{name: "wildcards that match links", follow: []string{"l*.txt"}, want: "l1.txt l2.txt l3.txt other real/ real/a"},
		{name: "wildcards below a link", follow: []string{"link/[a]"}, want: "link real/ real/a"},
		{name: "wildcards in a missing directory", follow: []string{"no/*"}},
		{name: "several", follow: []string{"real/b", "l1.txt", "other"}, want: "l1.txt other real/ real/a real/b"},
		{name: "the root", follow: []string{"."}, want: strings.Join(everything, " ")},
		{name: "a link to the root", follow: []string{"root", "other"}, want: strings.Join(everything, " ")},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, names(t, dirOf(t, host(t, tree...), DirOptions{Follow: c.follow})), strings.Fields(c.want))
		})
	}
	t.Run("together with the other filters", func(t *testing.T) {
		v := dirOf(t, host(t, tree...), DirOptions{Follow: []string{"link/[ab]"}, Include: []string{"other"}, Exclude: []string{"**/b"}})
		same(t, names(t, v), []string{"link", "other", "real/", "real/a"})
	})
	t.Run("a link out of the host's directory", func(t *testing.T) {
		outside := host(t, regular("secret", ""))
		v := dirOf(t, host(t, symlink("out", outside), regular("in", "")), DirOptions{Follow: []string{"out/secret", "out/*", "in"}})
		same(t, names(t, v), []string{"in", "out"})
	})
	t.Run("below a link out of the host's directory", func(t *testing.T) {
		// A wildcard does not match a name that is written as itself, so the link is not followed before.
		v := dirOf(t, host(t, symlink("[a]", host(t, regular("secret", ""))), regular("in", "")), DirOptions{Follow: []string{"[a]/secret", "[a]/*", "in"}})
		same(t, names(t, v), []string{"in"})
	})
}

func TestDirErrors(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("f", ""))
	for _, c := range []struct {
		name, dir string
		opt       DirOptions
		kind      error
		says      string
	}{
		{"a missing directory", dir + "/no", DirOptions{}, fs.ErrNotExist, "open " + dir + "/no: "},
		{"a file", dir + "/f", DirOptions{}, nil, "not a directory"},
		{"include is no pattern", dir, DirOptions{Include: []string{"["}}, nil, "invalid include patterns"},
		{"exclude is no pattern", dir, DirOptions{Exclude: []string{"["}}, nil, "invalid ignore patterns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Dir(c.dir, c.opt)
			fails(t, err, c.kind, c.says)
		})
	}
}

func TestDirIgnoresWhatItMayNotRead(t *testing.T) {
	t.Parallel()
	dir := host(t, regular("private/x", ""), regular("f", ""))
	private := filepath.Join(dir, "private")
	if err := os.Chmod(private, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(private, 0o700) })
	same(t, names(t, dirOf(t, dir, DirOptions{Exclude: []string{"private", "!private/no/*"}})), []string{"f"})
}

func TestDirFilesChangedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		become func(name string) error
		kind   error
		says   string
	}{
		{"gone", func(string) error { return nil }, fs.ErrNotExist, "f"},
		{"another file", func(name string) error { return os.WriteFile(name, []byte("other data"), 0o600) }, nil, "f changed while"},
		{"a directory", func(name string) error { return os.Mkdir(name, 0o755) }, nil, "f changed while"},
		{"a pipe", func(name string) error { return unix.Mkfifo(name, 0o600) }, nil, "f changed while"},
		{"a link to another file", func(name string) error { return os.Symlink("ignored", name) }, nil, "f changed while"},
		{"a link to the outside", func(name string) error { return os.Symlink("/etc/passwd", name) }, nil, "f changed while"},
		{"a loop", func(name string) error { return os.Symlink("f", name) }, nil, "f changed while"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := host(t, regular("f", "data"), regular("ignored", "not the same"))
			v := dirOf(t, dir, DirOptions{Exclude: []string{"ignored"}})
			name := filepath.Join(dir, "f")
			if err := errors.Join(os.Remove(name), c.become(name)); err != nil {
				t.Fatal(err)
			}
			_, err := v.Open(t.Context(), "f")
			fails(t, err, c.kind, c.says)
			_, err = v.Digest(t.Context(), "f")
			fails(t, err, c.kind, c.says)
		})
	}
}

func TestDirFilesChangedWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(io.Reader) error{
		"read all": func(r io.Reader) error { _, err := io.ReadAll(r); return err },
		"copied":   func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err },
	} {
		t.Run(name, func(t *testing.T) {
			dir := host(t, regular("f", "data")) // not changed a moment ago, as a file that may grow
			f, err := dirOf(t, dir, DirOptions{}).Open(t.Context(), "f")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte("more data for "+name), 0o600); err != nil {
				t.Fatal(err)
			}
			fails(t, read(f), nil, "f changed while")
		})
	}
}

func TestDirOfManyDirectories(t *testing.T) {
	t.Parallel()
	var members []member
	var want []string
	for _, a := range "abcdefghijklmnop" {
		want = append(want, string(a)+"/")
		for _, b := range "abcdefgh" {
			name := path.Join(string(a), string(b), "f")
			members = append(members, regular(name, name))
			want = append(want, path.Dir(name)+"/", name)
		}
	}
	same(t, names(t, dirOf(t, host(t, members...), DirOptions{})), want)
}

func TestReadXattrs(t *testing.T) {
	t.Parallel()
	name := filepath.Join(host(t, regular("f", ""), symlink("l", "f")), "f")
	long := strings.Repeat("v", 3000)
	want := map[string]string{}
	for k, v := range map[string]string{"user.a": "b", "user.long": long, "user.empty": "", "user.overlay.opaque": "y"} {
		switch err := unix.Lsetxattr(name, k, []byte(v), 0); {
		case errors.Is(err, unix.ENOTSUP): // on this filesystem no file has any
		case err != nil:
			t.Fatal(err)
		case !strings.HasPrefix(k, "user.overlay."):
			want[k] = v
		}
	}
	got, err := ReadXattrs(name)
	if err != nil || len(got) != len(want) {
		t.Fatalf("attributes %v, %v, want %v", got, err, want)
	}
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			t.Errorf("%s = %q, want %q", k, g, v)
		}
	}
	if got, err := ReadXattrs(filepath.Join(filepath.Dir(name), "l")); err != nil || got["user.a"] != "" {
		t.Errorf("a link has the attributes of its target: %v, %v", got, err)
	}
	_, err = ReadXattrs(name + "/no")
	fails(t, err, unix.ENOTDIR, "")
}

func TestReadXattrsOfManyNames(t *testing.T) {
	t.Parallel()
	name := filepath.Join(host(t, regular("f", "")), "f")
	var want, got []string
	for i := range 30 { // their names do not fit a first guess
		k := "user." + strings.Repeat("n", 60) + string(rune('a'+i))
		if err := unix.Lsetxattr(name, k, nil, 0); errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		want = append(want, k)
	}
	attrs, err := ReadXattrs(name)
	if err != nil {
		t.Fatal(err)
	}
	for k := range attrs {
		if strings.HasPrefix(k, "user.") {
			got = append(got, k)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	same(t, got, want)
}
