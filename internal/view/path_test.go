package view

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": ".", ".": ".", "/": ".", "//": ".", "..": ".", "/../..": ".", "a/..": ".",
		"a": "a", "/a": "a", "./a/": "a", "a//b/./c": "a/b/c", "../a": "a", "/a/../../b": "b",
		"...": "...", "a/..b": "a/..b", " ": " ", "a\x00b": "a\x00b",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{".", "a", "a"}, {"a", "b", "a/b"}, {"a/b", "c", "a/b/c"}} {
		if got := Join(c[0], c[1]); got != c[2] {
			t.Errorf("Join(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestCompareOrdersAsAWalk(t *testing.T) {
	t.Parallel()
	walk := []string{"a", "a/a", "a/b", "a/b/c", "a/b-c", "a!", "a-", "a.b", "a.b/c", "a0", "b", "b/a", "é"}
	for i, a := range walk {
		for j, b := range walk {
			got := Compare(a, b)
			if (i < j && got >= 0) || (i == j && got != 0) || (i > j && got <= 0) {
				t.Errorf("Compare(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", ".", "..", "/", "a/../..", "//a/./b/", "a\x00/..", "...", "-x", "é/\xff"} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ca, cb := Clean(a), Clean(b)
		if ca != path.Clean(ca) || ca == "" || strings.HasPrefix(ca, "/") || ca == ".." || strings.HasPrefix(ca, "../") {
			t.Errorf("Clean(%q) = %q", a, ca)
		}
		if Clean(ca) != ca {
			t.Errorf("Clean(Clean(%q)) = %q", a, Clean(ca))
		}
		if ca != "." && Join(path.Dir(ca), path.Base(ca)) != ca {
			t.Errorf("%q is not its directory and name joined", ca)
		}
		there, back := Compare(ca, cb), Compare(cb, ca)
		if (there == 0) != (ca == cb) || (there < 0) != (back > 0) {
			t.Errorf("Compare(%q, %q) = %d, and the other way round %d", ca, cb, there, back)
		}
		if ca != "." && Compare(ca, Join(ca, "x")) >= 0 {
			t.Errorf("%q comes after what is in it", ca)
		}
	})
}

// linked is a tree with symlinks of all kinds.
func linked() View {
	return tree(
		directory("usr"), directory("usr/bin"), regular("usr/bin/sh", "sh"), regular("file", "data"),
		symlink("bin", "usr/bin"), symlink("abs", "/usr/bin"), symlink("up", "../../../usr"),
		symlink("usr/back", ".."), symlink("usr/sibling", "../file"), symlink("usr/self", "."),
		symlink("chain", "chain2"), symlink("chain2", "./chain3/"), symlink("chain3", "abs/sh"),
		symlink("dangling", "no/such"), symlink("usr/dangling", "/gone/../away"), symlink("root", "/"), symlink("empty", ""),
		symlink("loop", "loop"), symlink("ping", "usr/pong"), symlink("usr/pong", "/ping"), symlink("grow", "grow/x"),
	)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path  string
		last, first string // what is wanted with the last component followed, and without
	}{
		{"the root", "/", ".", "."},
		{"nothing", "", ".", "."},
		{"a plain path", "/usr/bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"what is missing", "no/such", "no/such", "no/such"},
		{"what is below a file", "file/a/b", "file/a/b", "file/a/b"},
		{"dots past the root", "../../usr/../../file", "file", "file"},
		{"dots are undone before links are followed", "bin/../file", "file", "file"},
		{"a relative link", "bin", "usr/bin", "bin"},
		{"a relative link on the way", "bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"a slash at the end changes nothing", "bin/", "usr/bin", "bin"},
		{"an absolute link", "abs", "usr/bin", "abs"},
		{"an absolute link on the way", "abs/sh", "usr/bin/sh", "usr/bin/sh"},
		{"a link past the root", "up/bin", "usr/bin", "usr/bin"},
		{"a link to the parent", "usr/back/file", "file", "file"},
		{"a link to a file beside the parent", "usr/sibling", "file", "usr/sibling"},
		{"a link to its own directory", "usr/self/self/self/bin", "usr/bin", "usr/bin"},
		{"a chain of links", "chain", "usr/bin/sh", "chain"},
		{"a dangling link", "dangling", "no/such", "dangling"},
		{"something below a dangling link", "dangling/x", "no/such/x", "no/such/x"},
		{"a dangling link with dots", "usr/dangling", "away", "usr/dangling"},
		{"a link to the root", "root/root/root", ".", "root"},
		{"a link to nothing", "empty/file", "file", "file"},
		{"a loop as the last component", "loop", "ELOOP", "loop"},
		{"a loop on the way", "loop/x", "ELOOP", "ELOOP"},
		{"a loop of two", "usr/pong", "ELOOP", "usr/pong"},
		{"a loop that grows", "grow/x", "ELOOP", "ELOOP"},
	} {
		for want, last := range map[string]bool{c.last + " followed": true, c.first + " not followed": false} {
			want, _, _ = strings.Cut(want, " ")
			t.Run(fmt.Sprintf("%s, last=%v", c.name, last), func(t *testing.T) {
				got, err := Resolve(t.Context(), linked(), c.path, last)
				if want == "ELOOP" {
					fails(t, err, syscall.ELOOP, "/"+c.path)
				} else if err != nil || got != want {
					t.Errorf("Resolve(%q) = %q, %v, want %q", c.path, got, err, want)
				}
			})
		}
	}
}

func TestResolveFollowsAsManyLinksAsContainerd(t *testing.T) {
	t.Parallel()
	var links []member
	for i := range maxLinks {
		links = append(links, symlink(fmt.Sprint(i), fmt.Sprint(i+1)))
	}
	v := tree(with(links, symlink("extra", "0"))...)
	if got, err := Resolve(t.Context(), v, "0", true); err != nil || got != fmt.Sprint(maxLinks) {
		t.Errorf("%d links lead to %q, %v", maxLinks, got, err)
	}
	_, err := Resolve(t.Context(), v, "extra", true)
	fails(t, err, syscall.ELOOP, "/extra")
}

func TestResolveBelow(t *testing.T) {
	t.Parallel()
	v := tree(directory("srv"), regular("secret", ""), regular("srv/etc/passwd", ""),
		symlink("srv/abs", "/etc"), symlink("srv/up", "../../secret"), symlink("srv/etc/root", "/"))
	for in, want := range map[string]string{
		"/": "srv", "": "srv", "..": "srv", "abs/passwd": "srv/etc/passwd", "up": "srv/secret",
		"etc/root/../../etc": "srv/etc", "etc/root/x": "srv/x", "/no": "srv/no",
	} {
		if got, err := resolveBelow(t.Context(), v, "srv", in, true); err != nil || got != want {
			t.Errorf("%q below srv is %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestResolveReportsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, err := Resolve(t.Context(), broken{linked(), "usr/bin"}, "bin/sh", true)
	fails(t, err, errBroken, "")
}

// FuzzResolve compares with another implementation, and checks that nothing that is left can be followed.
func FuzzResolve(f *testing.F) {
	f.Add("l/m/n", "d", "../..", true)
	f.Add("l", "/d/e/../m/", "//d/./e", true)
	f.Add("d/m/n/f/..", "../../../d/e/n", "", false)
	f.Add("l", "l/l", "x/../../f", true)
	f.Add("d/../../l/x", "d/m", "/l", true)
	f.Fuzz(func(t *testing.T, name, one, two string, last bool) {
		if len(name)+len(one)+len(two) > 4096 {
			return // more than a host's paths can hold
		}
		v := tree(directory("d"), directory("d/e"), regular("f", ""), symlink("l", one), symlink("d/m", two), symlink("d/e/n", one))
		got, err := Resolve(t.Context(), v, name, last)
		if err != nil {
			fails(t, err, syscall.ELOOP, "")
			return
		}
		if got != Clean(got) {
			t.Fatalf("Resolve(%q) = %q, which is not clean", name, got)
		}
		parts := strings.Split(got, "/")
		for i := range parts {
			at := strings.Join(parts[:i+1], "/")
			if e, err := v.Lstat(t.Context(), at); err == nil && e.Type == TypeSymlink && (last || i < len(parts)-1) {
				t.Errorf("Resolve(%q) = %q, where %q is a symlink", name, got, at)
			}
		}
		if !last {
			return
		}
		want, err := securejoin.SecureJoinVFS("/", Clean(name), viewVFS{t, v})
		if err != nil || got != Clean(want) {
			t.Errorf("Resolve(%q) = %q, and securejoin says %q, %v", name, got, want, err)
		}
	})
}

// viewVFS shows a view to securejoin.
type viewVFS struct {
	t *testing.T
	v View
}

func (v viewVFS) Lstat(name string) (os.FileInfo, error) {
	e, err := v.v.Lstat(v.t.Context(), Clean(name))
	if err != nil {
		return nil, err
	}
	return entryInfo{e}, nil
}

func (v viewVFS) Readlink(name string) (string, error) {
	e, err := v.v.Lstat(v.t.Context(), Clean(name))
	if err != nil {
		return "", err
	}
	return e.Linkname, nil
}

type entryInfo struct{ e *Entry }

func (i entryInfo) Name() string       { return path.Base(i.e.Path) }
func (i entryInfo) Size() int64        { return i.e.Size }
func (i entryInfo) ModTime() time.Time { return i.e.ModTime }
func (i entryInfo) IsDir() bool        { return i.e.IsDir() }
func (i entryInfo) Sys() any           { return nil }
func (i entryInfo) Mode() fs.FileMode {
	if i.e.Type == TypeSymlink {
		return fs.ModeSymlink | 0o777
	}
	return i.e.FileMode()
}

func TestHasWildcard(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"": false, "a.b": false, "a*": true, "?": true, "[ab]": true, `\*`: false, `\\*`: true, `a\`: false, "a]": false,
	} {
		if got := hasWildcard(in); got != want {
			t.Errorf("hasWildcard(%q) = %v", in, got)
		}
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	v := tree(regular("a1", ""), directory("a2"), regular("a2/a3", ""), regular("b/a1", ""), regular("b/c/a1", ""),
		symlink("link", "b"), regular("b/x[y]", ""))
	for pattern, want := range map[string][]string{
		"a1":      {"a1"},
		"missing": {"missing"},
		"a*":      {"a1", "a2"},
		"/a?":     {"a1", "a2"},
		"*/a*":    {"a2/a3", "b/a1"},
		"*/*/*":   {"b/c/a1"},
		"b/*":     {"b/a1", "b/c", "b/x[y]"},
		"link/a*": {"b/a1"},
		"[ab]*":   {"a1", "a2", "b"},
		"[^b]*":   {"a1", "a2", "link"},
		`b/x\[*`:  {"b/x[y]"},
		"z*":      nil,
		"../a*":   {"a1", "a2"},
		"[":       nil,
	} {
		if got, err := glob(t.Context(), v, pattern, true); err != nil || !slices.Equal(got, want) {
			t.Errorf("glob(%q) = %q, %v, want %q", pattern, got, err, want)
		}
	}
	_, err := glob(t.Context(), v, "no/*", true)
	fails(t, err, fs.ErrNotExist, "/no")
	_, err = glob(t.Context(), v, "link/*", false)
	fails(t, err, syscall.ENOTDIR, "/link")
	_, err = glob(t.Context(), broken{v, "b/c"}, "*/*/*", true)
	fails(t, err, errBroken, "")
}
