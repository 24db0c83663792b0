package view

import (
	"io/fs"
	"syscall"
	"testing"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	v := Files(map[string][]byte{"/etc/passwd": []byte("root"), "b": nil, "etc/../a": []byte("A")})
	same(t, listing(t, v), []string{`a = "A"`, `b = ""`, `etc/`, `etc/passwd = "root"`})
	same(t, listing(t, Empty()), nil)
}

func TestIndexErrors(t *testing.T) {
	t.Parallel()
	v := tree(directory("dir"), regular("file", ""), symlink("link", "dir"))
	for _, c := range []struct {
		name, path           string
		lstat, readDir, open error
	}{
		{"missing", "no", fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist},
		{"missing in a directory", "dir/no", fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist},
		{"below a file", "file/x/y", syscall.ENOTDIR, syscall.ENOTDIR, syscall.ENOTDIR},
		{"below a link", "link/x", syscall.ENOTDIR, syscall.ENOTDIR, syscall.ENOTDIR},
		{"a directory", "dir", nil, nil, syscall.EISDIR},
		{"a file", "file", nil, syscall.ENOTDIR, nil},
		{"a link", "link", nil, syscall.ENOTDIR, syscall.EINVAL},
		{"the root", ".", nil, nil, syscall.EISDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(op string, err, want error) {
				t.Helper()
				if want != nil {
					fails(t, err, want, "/"+Clean(c.path))
				} else if err != nil {
					t.Errorf("%s: %v", op, err)
				}
			}
			_, err := v.Lstat(t.Context(), c.path)
			check("lstat", err, c.lstat)
			_, err = v.ReadDir(t.Context(), c.path)
			check("readdir", err, c.readDir)
			_, err = v.Open(t.Context(), c.path)
			check("open", err, c.open)
			_, err = v.Digest(t.Context(), c.path)
			check("digest", err, c.open)
		})
	}
}

func TestIndexFilling(t *testing.T) {
	t.Parallel()
	put := func(x *Index, m member) { e := m.e; x.Put(&e, 0) }
	for _, c := range []struct {
		name string
		fill func(x *Index)
		want []string
	}{
		{"implied directories", func(x *Index) { put(x, symlink("a/b/c", "d")) }, []string{"a/", "a/b/", "a/b/c -> d"}},
		{"a directory described after its content", func(x *Index) {
			put(x, symlink("a/b", "c"))
			put(x, directory("a").mode(0o700))
		}, []string{"a/ 0700", "a/b -> c"}},
		{"a directory replaced by a link", func(x *Index) {
			put(x, symlink("a/b/c", "d"))
			put(x, symlink("a", "x"))
		}, []string{"a -> x"}},
		{"a link replaced by a directory", func(x *Index) {
			put(x, symlink("a", "x"))
			put(x, symlink("a/b", "y"))
		}, []string{"a/", "a/b -> y"}},
		{"a directory replaced by a link and put back", func(x *Index) {
			put(x, symlink("a/b", "x"))
			put(x, symlink("a", "x"))
			put(x, symlink("a/c", "x"))
		}, []string{"a/", "a/c -> x"}},
		{"removed", func(x *Index) {
			put(x, symlink("a/b", "x"))
			put(x, symlink("a/c", "x"))
			x.Remove("a/b")
			x.Remove("a/no")
			x.Remove(".")
		}, []string{"a/", "a/c -> x"}},
		{"removed with all that is in it, and put back", func(x *Index) {
			put(x, symlink("a/b/c", "x"))
			x.Remove("a")
			put(x, symlink("a/d", "y"))
		}, []string{"a/", "a/d -> y"}},
		{"cleared", func(x *Index) {
			put(x, symlink("a/b/c", "x"))
			put(x, symlink("d", "x"))
			x.Clear("a")
			x.Clear("no")
		}, []string{"a/", "d -> x"}},
		{"the root cleared", func(x *Index) {
			put(x, symlink("a/b/c", "x"))
			x.Clear(".")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := NewIndex(nil, 0)
			c.fill(x)
			y := x.Copy(nil).Freeze()
			same(t, listing(t, x.Freeze()), c.want)
			same(t, listing(t, y), c.want)
		})
	}
}

func TestIndexCopyIsIndependent(t *testing.T) {
	t.Parallel()
	x := tree(regular("a/b", "data"), regular("c", "")).(*Index)
	before := listing(t, x)
	y := x.Copy(x.content)
	y.Remove("a")
	e := symlink("c", "new").e
	y.Put(&e, -1)
	same(t, listing(t, x), before)
	same(t, listing(t, y.Freeze()), []string{"c -> new"})
}

func TestModeBits(t *testing.T) {
	t.Parallel()
	for _, m := range []uint32{0, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o7777} {
		for _, dir := range []Type{TypeRegular, TypeDir} {
			g := (&Entry{Mode: m, Type: dir}).FileMode()
			if got := UnixMode(g); got != m || g.IsDir() != (dir == TypeDir) {
				t.Errorf("%04o is %v to Go, and that is %04o", m, g, got)
			}
		}
	}
}
