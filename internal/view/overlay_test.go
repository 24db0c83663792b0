package view

import (
	"io/fs"
	"syscall"
	"testing"
)

// put records a member as an overlay's users do: its directory is there.
func put(o *Overlay, m member) *file {
	e := m.e
	f := &file{entry: e}
	if e.Type == TypeRegular {
		f.source, f.sourcePath = Files(map[string][]byte{"data": []byte(m.data)}), "data"
	}
	o.put(e.Path, f)
	return f
}

func TestChanges(t *testing.T) {
	t.Parallel()
	base := []member{
		directory("etc").mode(0o700).owner(1, 2), regular("etc/passwd", "root"), regular("etc/conf/a", "A"),
		regular("etc/conf/b", "B"), regular("file", "data"), symlink("link", "etc"), directory("empty"),
	}
	for _, c := range []struct {
		name string
		do   func(o *Overlay)
		want []string
	}{
		{"nothing", func(*Overlay) {}, nil},
		{"a new file", func(o *Overlay) { put(o, regular("new", "x")) }, []string{`new = "x"`}},
		{"a new file in a directory", func(o *Overlay) { put(o, regular("etc/new", "x")) },
			[]string{"etc/ 0700 1:2", `etc/new = "x"`}},
		{"a file removed", func(o *Overlay) { o.remove("etc/passwd") }, []string{"etc/ 0700 1:2", "removed etc/passwd"}},
		{"a directory removed", func(o *Overlay) { o.remove("etc") }, []string{"removed etc"}},
		{"a directory removed after a change in it", func(o *Overlay) {
			put(o, regular("etc/conf/new", "x"))
			o.remove("etc/conf/a")
			o.remove("etc")
		}, []string{"removed etc"}},
		{"a new file removed again", func(o *Overlay) {
			put(o, regular("new", "x"))
			o.remove("new")
		}, nil},
		{"what is missing removed", func(o *Overlay) { o.remove("new") }, nil},
		{"a file replaced", func(o *Overlay) { put(o, regular("file", "x").mode(0o600)) }, []string{`file = "x" 0600`}},
		{"a file removed and made again", func(o *Overlay) {
			o.remove("file")
			put(o, regular("file", "x"))
		}, []string{`file = "x"`}},
		{"a directory's metadata changed", func(o *Overlay) { put(o, directory("etc")) }, []string{"etc/"}},
		{"a directory replaced by a file", func(o *Overlay) { put(o, regular("etc", "x")) }, []string{`etc = "x"`}},
		{"a directory replaced by a link", func(o *Overlay) { put(o, symlink("etc", "empty")) }, []string{"etc -> empty"}},
		{"a directory with changes replaced by a file", func(o *Overlay) {
			put(o, regular("etc/new", "x"))
			o.remove("etc/passwd")
			put(o, regular("etc", "x"))
		}, []string{`etc = "x"`}},
		{"a file replaced by a directory", func(o *Overlay) {
			o.remove("file")
			put(o, directory("file"))
			put(o, regular("file/x", "y"))
		}, []string{"file/", `file/x = "y"`}},
		{"a link replaced by a directory", func(o *Overlay) {
			o.remove("link")
			put(o, directory("link"))
		}, []string{"link/"}},
		{"a directory removed and made again", func(o *Overlay) {
			o.remove("etc")
			put(o, directory("etc"))
			put(o, regular("etc/new", "x"))
		}, []string{"etc/ opaque", `etc/new = "x"`}},
		{"a directory made again with its directories", func(o *Overlay) {
			o.remove("etc")
			put(o, directory("etc"))
			put(o, directory("etc/conf"))
			o.remove("etc/passwd")
		}, []string{"etc/ opaque", "etc/conf/"}},
		{"a directory replaced by a file, and that by a directory", func(o *Overlay) {
			put(o, regular("etc", "x"))
			put(o, directory("etc"))
		}, []string{"etc/ opaque"}},
		{"an opaque directory changed once more stays opaque", func(o *Overlay) {
			o.remove("etc")
			put(o, directory("etc"))
			put(o, directory("etc").mode(0o711))
		}, []string{"etc/ 0711 opaque"}},
		{"a directory made again and removed", func(o *Overlay) {
			o.remove("etc")
			put(o, directory("etc"))
			o.remove("etc")
		}, []string{"removed etc"}},
		{"a subdirectory made again", func(o *Overlay) {
			o.remove("etc/conf")
			put(o, directory("etc/conf"))
		}, []string{"etc/ 0700 1:2", "etc/conf/ opaque"}},
		{"the order of a walk", func(o *Overlay) {
			for _, m := range []member{directory("a"), regular("a-b", ""), regular("a.b", ""), directory("a/c"), regular("a/c-d", ""), regular("a/c/e", "")} {
				put(o, m)
			}
		}, []string{"a/", "a/c/", `a/c/e = ""`, `a/c-d = ""`, `a-b = ""`, `a.b = ""`}},
		{"hardlinks: the first name in order has the content", func(o *Overlay) {
			f := put(o, regular("z", "x"))
			o.put("etc/y", f)
			o.put("empty/w", f)
		}, []string{"empty/", `empty/w = "x"`, "etc/ 0700 1:2", "etc/y is empty/w", "z is empty/w"}},
		{"hardlinks: one name removed, one replaced", func(o *Overlay) {
			f := put(o, regular("a", "x"))
			o.put("b", f)
			o.put("c", f)
			o.remove("a")
			put(o, regular("b", "other"))
		}, []string{`b = "other"`, `c = "x"`}},
		{"devices and attributes", func(o *Overlay) {
			put(o, device("null", TypeChar, 1, 3).mode(0o666))
			put(o, device("sda", TypeBlock, 8, 0))
			put(o, device("pipe", TypeFifo, 0, 0).xattr("user.a", "b"))
		}, []string{"null char 1,3 0666", "pipe fifo {user.a=b}", "sda block 8,0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := begin(base...)
			c.do(o)
			same(t, changesOf(t, o), c.want)
		})
	}
}

func TestChangesReportsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	o := NewOverlay(broken{tree(directory("etc")), "etc"})
	o.remove("etc")
	_, err := o.Changes(t.Context())
	fails(t, err, errBroken, "")
	_, err = o.ReadDir(t.Context(), "etc")
	fails(t, err, fs.ErrNotExist, "/etc")
}

func TestOverlayAsAView(t *testing.T) {
	t.Parallel()
	o := begin(regular("etc/passwd", "root"), regular("etc/group", "wheel"), directory("var"), symlink("link", "etc"))
	put(o, regular("etc/passwd", "new"))
	put(o, regular("etc/shadow", "x"))
	o.remove("etc/group")
	put(o, regular("var", "a file now"))
	same(t, listing(t, o), []string{"etc/", `etc/passwd = "new"`, `etc/shadow = "x"`, "link -> etc", `var = "a file now"`})
	for _, c := range []struct {
		path          string
		readDir, open error
	}{
		{"etc/group", fs.ErrNotExist, fs.ErrNotExist},
		{"etc/group/x", fs.ErrNotExist, fs.ErrNotExist},
		{"no", fs.ErrNotExist, fs.ErrNotExist},
		{"etc/no", fs.ErrNotExist, fs.ErrNotExist},
		{"etc/passwd", syscall.ENOTDIR, nil},
		{"link", syscall.ENOTDIR, syscall.EINVAL},
		{"link/x", syscall.ENOTDIR, syscall.ENOTDIR},
	} {
		t.Run(c.path, func(t *testing.T) {
			_, err := o.ReadDir(t.Context(), c.path)
			fails(t, err, c.readDir, "/"+c.path)
			if c.open == nil {
				return
			}
			_, err = o.Open(t.Context(), c.path)
			fails(t, err, c.open, "/"+c.path)
			_, err = o.Digest(t.Context(), c.path)
			fails(t, err, c.open, "/"+c.path)
		})
	}
	put(o, symlink("fresh", "x"))
	_, err := o.Open(t.Context(), "fresh")
	fails(t, err, syscall.EINVAL, "/fresh")
}

func TestOverlayLeavesItsBaseAlone(t *testing.T) {
	t.Parallel()
	base := tree(regular("etc/passwd", "root"), directory("etc/conf"))
	before := listing(t, base)
	o := NewOverlay(base)
	e, err := o.Lstat(t.Context(), "etc/passwd")
	if err != nil || e.Path != "etc/passwd" {
		t.Fatal(e, err)
	}
	if _, err := o.claim(t.Context(), "etc/passwd"); err != nil {
		t.Fatal(err)
	}
	put(o, directory("etc/conf").mode(0o700))
	put(o, regular("etc/a", ""))
	o.remove("etc/passwd")
	same(t, listing(t, base), before)
}
