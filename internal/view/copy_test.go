package view

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func modeOf(m uint32) *uint32 { return &m }

// buildContext is what the copies below are made from.
var buildContext = []member{
	regular("app/main.go", "main"), regular("app/lib/util.go", "util").mode(0o600).owner(7, 8),
	regular("app/lib/util.txt", "text"), directory("app/empty").mode(0o700).xattr("user.k", "v"),
	symlink("app/latest", "lib/util.go"), regular("readme.md", "hello"), regular("notes.md", "n"),
	symlink("current", "app"), symlink("intro", "/readme.md"), symlink("lost", "no/such"),
}

// copyCase is one copy: from buildContext unless from is given.
type copyCase struct {
	name       string
	base, from []member
	src, dest  string
	opt        CopyOptions
	want       []string
	kind       error
	says       string
}

func (c copyCase) run(t *testing.T) {
	from := c.from
	if from == nil {
		from = buildContext
	}
	action{c.name, c.base, func(ctx context.Context, o *Overlay) error {
		return o.Copy(ctx, tree(from...), c.src, c.dest, c.opt)
	}, c.want, c.kind, c.says}.run(t)
}

func TestCopyFile(t *testing.T) {
	t.Parallel()
	create := CopyOptions{CreateDestPath: true}
	for _, c := range []copyCase{
		{name: "into a new directory", src: "readme.md", dest: "/doc/", opt: create, want: []string{"doc/", `doc/readme.md = "hello"`}},
		{name: "into a new directory, with a dot", src: "readme.md", dest: "/doc/.", opt: create, want: []string{"doc/", `doc/readme.md = "hello"`}},
		{name: "to a new name", src: "readme.md", dest: "/doc/intro", opt: create, want: []string{"doc/", `doc/intro = "hello"`}},
		{name: "to a relative name", src: "/readme.md", dest: "a/b/intro", opt: create, want: []string{"a/", "a/b/", `a/b/intro = "hello"`}},
		{name: "into the root", src: "readme.md", dest: "/", opt: create, want: []string{`readme.md = "hello"`}},
		{name: "dots past the root", src: "../../readme.md", dest: "/../../intro", opt: create, want: []string{`intro = "hello"`}},
		{name: "onto a file", base: []member{regular("intro", "old").mode(0o600).owner(3, 4)}, src: "readme.md", dest: "/intro",
			want: []string{`intro = "hello"`}},
		{name: "onto a device", base: []member{device("intro", TypeChar, 1, 3)}, src: "readme.md", dest: "/intro",
			want: []string{`intro = "hello"`}},
		{name: "into a directory that is there", base: []member{directory("doc").mode(0o700)}, src: "readme.md", dest: "/doc",
			want: []string{"doc/ 0700", `doc/readme.md = "hello"`}},
		{name: "keeps mode and owner", src: "app/lib/util.go", dest: "/u", want: []string{`u = "util" 0600 7:8`}},
		{name: "without its directory", src: "readme.md", dest: "/no/such", kind: fs.ErrNotExist, says: "failed to stat /no/such"},
		{name: "a missing one", src: "no", dest: "/", opt: create, kind: fs.ErrNotExist, says: "/no"},
		{name: "onto a directory", base: []member{directory("doc/readme.md")}, src: "readme.md", dest: "/doc/", opt: create,
			says: "cannot replace to directory /doc/readme.md with file"},
		{name: "onto a directory, replacing", base: []member{regular("doc/readme.md/x", "")}, src: "readme.md", dest: "/doc/",
			opt: CopyOptions{CreateDestPath: true, AlwaysReplaceExistingDestPaths: true}, want: []string{"doc/", `doc/readme.md = "hello"`}},
		{name: "below a file", base: []member{regular("doc", "")}, src: "readme.md", dest: "/doc/intro", opt: create, kind: syscall.ENOTDIR, says: "/doc"},
		{name: "into a file", base: []member{regular("doc", "")}, src: "readme.md", dest: "/doc/", opt: create, kind: syscall.ENOTDIR, says: "/doc"},
		{name: "a device", from: []member{device("null", TypeChar, 1, 3).mode(0o666)}, src: "null", dest: "/dev/", opt: create,
			want: []string{"dev/", "dev/null char 1,3 0666"}},
		{name: "a pipe", from: []member{device("p", TypeFifo, 0, 0).xattr("user.k", "v")}, src: "p", dest: "/", opt: create,
			want: []string{"p fifo {user.k=v}"}},
	} {
		c.run(t)
	}
}

func TestCopyDirectory(t *testing.T) {
	t.Parallel()
	create, contents := CopyOptions{CreateDestPath: true}, CopyOptions{CreateDestPath: true, DirCopyContents: true}
	replace := contents
	replace.AlwaysReplaceExistingDestPaths = true
	below := func(dir string) []string {
		return []string{
			dir + "/", dir + "/empty/ 0700 {user.k=v}", dir + "/latest -> lib/util.go", dir + "/lib/",
			dir + `/lib/util.go = "util" 0600 7:8`, dir + `/lib/util.txt = "text"`, dir + `/main.go = "main"`,
		}
	}
	for _, c := range []copyCase{
		{name: "itself, to a new name", src: "app", dest: "/srv", opt: create, want: below("srv")},
		{name: "itself, into a directory that is there", base: []member{directory("srv")}, src: "app", dest: "/srv", opt: create,
			want: append([]string{"srv/"}, below("srv/app")...)},
		{name: "its content, to a new name", src: "app", dest: "/srv", opt: contents, want: below("srv")},
		{name: "its content, below what is missing", src: "app/", dest: "/a/srv/", opt: contents, want: append([]string{"a/"}, below("a/srv")...)},
		{name: "its content, into a directory that is there", opt: contents, src: "app/lib", dest: "/srv",
			base: []member{directory("srv").mode(0o700), regular("srv/other", ""), regular("srv/util.go", "old")},
			want: []string{"srv/ 0700", `srv/util.go = "util" 0600 7:8`, `srv/util.txt = "text"`}},
		{name: "directories in it get the source's metadata", opt: contents, src: "app", dest: "/srv",
			base: []member{directory("srv").mode(0o700), directory("srv/lib").mode(0o711).owner(1, 1).xattr("user.old", ""), regular("srv/lib/other", "")},
			want: append([]string{"srv/ 0700"}, below("srv")[1:]...)},
		{name: "the root's content", from: []member{regular("a", "A"), regular("b/c", "C")}, src: "/", dest: "/", opt: contents,
			want: []string{`a = "A"`, "b/", `b/c = "C"`}},
		{name: "an empty one", from: []member{directory("e").mode(0o500)}, src: "e", dest: "/new", opt: contents, want: []string{"new/"}},
		{name: "an empty one, itself", from: []member{directory("e").mode(0o500)}, src: "e", dest: "/new", opt: create, want: []string{"new/ 0500"}},
		{name: "its content onto a file", base: []member{regular("srv", "")}, src: "app", dest: "/srv", opt: contents,
			says: "cannot copy to non-directory: /srv"},
		{name: "its content onto a file, replacing", base: []member{regular("srv", "")}, src: "app", dest: "/srv", opt: replace, want: below("srv")},
		{name: "itself onto a file", base: []member{regular("srv", "")}, src: "app", dest: "/srv", opt: create, kind: syscall.ENOTDIR, says: "/srv"},
		{name: "a directory in it onto a file", base: []member{regular("srv/lib", "")}, src: "app", dest: "/srv", opt: contents,
			says: "cannot copy to non-directory: /srv/lib"},
		{name: "a directory in it onto a file, replacing", base: []member{regular("srv/lib", "")}, src: "app", dest: "/srv", opt: replace, want: below("srv")},
		{name: "a file in it onto a directory", base: []member{regular("srv/main.go/x", "")}, src: "app", dest: "/srv", opt: contents,
			says: "cannot replace to directory /srv/main.go with file"},
		{name: "a file in it onto a directory, replacing", base: []member{regular("srv/main.go/x", "")}, src: "app", dest: "/srv", opt: replace, want: below("srv")},
		{name: "directories are merged when replacing", base: []member{regular("srv/lib/other", "")}, src: "app", dest: "/srv", opt: replace, want: below("srv")},
	} {
		c.run(t)
	}
}

func TestCopySymlinks(t *testing.T) {
	t.Parallel()
	create, follow := CopyOptions{CreateDestPath: true}, CopyOptions{CreateDestPath: true, FollowSymlink: true, DirCopyContents: true}
	for _, c := range []copyCase{
		{name: "a source that is a link", src: "current", dest: "/x", opt: create, want: []string{"x -> app"}},
		{name: "a source that is a link, followed", src: "intro", dest: "/doc/", opt: follow, want: []string{"doc/", `doc/intro = "hello"`}},
		{name: "a source that is a link to a directory, followed", src: "current/lib/../lib", dest: "/x", opt: follow,
			want: []string{"x/", `x/util.go = "util" 0600 7:8`, `x/util.txt = "text"`}},
		{name: "a link on the way is always followed", src: "current/main.go", dest: "/x", opt: create, want: []string{`x = "main"`}},
		{name: "a dangling source", src: "lost", dest: "/x", opt: create, want: []string{"x -> no/such"}},
		{name: "a dangling source, followed", src: "lost", dest: "/x", opt: follow, kind: fs.ErrNotExist, says: "/no/such"},
		{name: "a source in a loop", from: []member{symlink("loop", "loop")}, src: "loop/x", dest: "/x", opt: follow, kind: syscall.ELOOP},
		{name: "onto a link to a directory", base: []member{directory("real"), symlink("link", "real")}, src: "readme.md", dest: "/link", opt: create,
			want: []string{"real/", `real/readme.md = "hello"`}},
		{name: "below a link out of the root", base: []member{symlink("link", "../../../out")}, src: "readme.md", dest: "/link/a/", opt: create,
			want: []string{"out/", "out/a/", `out/a/readme.md = "hello"`}},
		{name: "onto a link to a file", base: []member{regular("real", "old"), symlink("link", "/real")}, src: "readme.md", dest: "/link", opt: create,
			want: []string{`real = "hello"`}},
		{name: "onto a dangling link", base: []member{symlink("link", "/var/out")}, src: "readme.md", dest: "/link", opt: create,
			want: []string{"var/", `var/out = "hello"`}},
		{name: "onto a dangling link, as a directory", base: []member{symlink("link", "/var/out")}, src: "readme.md", dest: "/link/", opt: create,
			want: []string{"var/", "var/out/", `var/out/readme.md = "hello"`}},
		{name: "onto a loop", base: []member{symlink("loop", "loop")}, src: "readme.md", dest: "/loop", opt: create, kind: syscall.ELOOP},
		{name: "a link of the same name in the directory is replaced", base: []member{regular("etc/passwd", "root"), symlink("doc/readme.md", "/etc/passwd")},
			src: "readme.md", dest: "/doc/", opt: create, want: []string{"doc/", `doc/readme.md = "hello"`}},
		{name: "a link in the way of a directory's file is replaced", base: []member{directory("etc"), symlink("srv/main.go", "/etc")},
			from: []member{regular("app/main.go", "main")}, src: "app", dest: "/srv", opt: follow, want: []string{"srv/", `srv/main.go = "main"`}},
		{name: "a link in the way of a directory's directory", base: []member{directory("etc"), symlink("srv/lib", "/etc")}, src: "app", dest: "/srv", opt: follow,
			says: "cannot copy to non-directory: /srv/lib"},
		{name: "a directory's link replaces a file", base: []member{regular("srv/latest", "")}, from: []member{symlink("app/latest", "x")},
			src: "app", dest: "/srv", opt: follow, want: []string{"srv/", "srv/latest -> x"}},
		{name: "a directory's link on a directory", base: []member{directory("srv/latest")}, from: []member{symlink("app/latest", "x")},
			src: "app", dest: "/srv", opt: follow, says: "cannot replace to directory /srv/latest with file"},
	} {
		c.run(t)
	}
}

func TestCopyWildcards(t *testing.T) {
	t.Parallel()
	wild := CopyOptions{CreateDestPath: true, AllowWildcard: true, DirCopyContents: true, FollowSymlink: true}
	itself, empty := wild, wild
	itself.DirCopyContents = false
	empty.AllowEmptyWildcard = true
	for _, c := range []copyCase{
		{name: "files", src: "*.md", dest: "/doc/", opt: wild, want: []string{"doc/", `doc/notes.md = "n"`, `doc/readme.md = "hello"`}},
		{name: "one of many letters", src: "[nr]ot?s.md", dest: "/doc/", opt: wild, want: []string{"doc/", `doc/notes.md = "n"`}},
		{name: "in directories", src: "*/*.go", dest: "/", opt: wild, want: []string{`main.go = "main"`}},
		{name: "in deeper directories", src: "a*/l*/*.go", dest: "/", opt: wild, want: []string{`util.go = "util" 0600 7:8`}},
		{name: "of directories, the content", src: "app/[el]*", dest: "/x/", opt: wild,
			want: []string{"x/", `x/latest = "util" 0600 7:8`, `x/util.go = "util" 0600 7:8`, `x/util.txt = "text"`}},
		{name: "of directories, themselves", src: "app/[e]*", dest: "/x/", opt: itself, want: []string{"x/", "x/empty/ 0700 {user.k=v}"}},
		{name: "behind a link", src: "current/*.go", dest: "/", opt: wild, want: []string{`main.go = "main"`}},
		{name: "links that match are followed", src: "int*", dest: "/doc/", opt: wild, want: []string{"doc/", `doc/intro = "hello"`}},
		{name: "no match", src: "*.no", dest: "/doc/", opt: wild, kind: fs.ErrNotExist, says: "/*.no"},
		{name: "no match, allowed: nothing is made", src: "*.no", dest: "/doc/", opt: empty},
		{name: "no wildcards, missing, though no match is allowed", src: "no", dest: "/doc/", opt: empty, kind: fs.ErrNotExist, says: "/no"},
		{name: "in a missing directory", src: "no/*", dest: "/doc/", opt: wild, kind: fs.ErrNotExist, says: "/no"},
		{name: "not allowed: a name", src: "*.md", dest: "/doc/", opt: CopyOptions{CreateDestPath: true}, kind: fs.ErrNotExist, says: "/*.md"},
		{name: "not allowed: a name that is there", from: []member{regular("*", "star"), regular("x", "")}, src: "*", dest: "/doc/",
			opt: CopyOptions{CreateDestPath: true}, want: []string{"doc/", `doc/* = "star"`}},
	} {
		c.run(t)
	}
}

func TestCopyOwnerAndMode(t *testing.T) {
	t.Parallel()
	set := func(f func(*CopyOptions)) CopyOptions {
		opt := CopyOptions{CreateDestPath: true, DirCopyContents: true}
		f(&opt)
		return opt
	}
	for _, c := range []copyCase{
		{name: "owner", src: "app", dest: "/srv/app", opt: set(func(o *CopyOptions) { o.Owner = someone }), want: []string{
			"srv/ 5:6", "srv/app/ 5:6", "srv/app/empty/ 0700 5:6 {user.k=v}", "srv/app/latest -> lib/util.go 5:6", "srv/app/lib/ 5:6",
			`srv/app/lib/util.go = "util" 0600 5:6`, `srv/app/lib/util.txt = "text" 5:6`, `srv/app/main.go = "main" 5:6`,
		}},
		{name: "owner leaves what is there alone", base: []member{directory("srv").owner(1, 1)}, src: "readme.md", dest: "/srv/",
			opt: set(func(o *CopyOptions) { o.Owner = someone }), want: []string{"srv/ 1:1", `srv/readme.md = "hello" 5:6`}},
		{name: "numeric mode, for made directories too", src: "app", dest: "/srv/app", opt: set(func(o *CopyOptions) { o.Mode = modeOf(0o750) }), want: []string{
			"srv/ 0750", "srv/app/ 0750", "srv/app/empty/ 0750 {user.k=v}", "srv/app/latest -> lib/util.go", "srv/app/lib/ 0750",
			`srv/app/lib/util.go = "util" 0750 7:8`, `srv/app/lib/util.txt = "text" 0750`, `srv/app/main.go = "main" 0750`,
		}},
		{name: "numeric mode with special bits", src: "readme.md", dest: "/x", opt: set(func(o *CopyOptions) { o.Mode = modeOf(0o104755) }),
			want: []string{`x = "hello" 4755`}},
		{name: "mode zero", src: "readme.md", dest: "/x", opt: set(func(o *CopyOptions) { o.Mode = modeOf(0) }), want: []string{`x = "hello" 0000`}},
		{name: "symbolic mode, not for made directories", src: "app", dest: "/srv/app", opt: set(func(o *CopyOptions) { o.ModeStr = "go=,u+X" }), want: []string{
			"srv/", "srv/app/", "srv/app/empty/ 0700 {user.k=v}", "srv/app/latest -> lib/util.go", "srv/app/lib/ 0700",
			`srv/app/lib/util.go = "util" 0600 7:8`, `srv/app/lib/util.txt = "text" 0600`, `srv/app/main.go = "main" 0600`,
		}},
		{name: "symbolic mode overrides numeric", src: "readme.md", dest: "/new/x",
			opt:  set(func(o *CopyOptions) { o.Mode, o.ModeStr = modeOf(0o777), "u+x" }),
			want: []string{"new/", `new/x = "hello" 0744`}},
		{name: "symbolic mode that is none", src: "readme.md", dest: "/x", opt: set(func(o *CopyOptions) { o.ModeStr = "u+q" }), says: `invalid mode "u+q"`},
		{name: "a followed link gets the mode", src: "intro", dest: "/x", opt: set(func(o *CopyOptions) { o.Mode, o.FollowSymlink = modeOf(0o600), true }),
			want: []string{`x = "hello" 0600`}},
	} {
		c.run(t)
	}
}

func TestCopySymbolicModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set             string
		from            uint32
		file, directory uint32
	}{
		{"u+x", 0o644, 0o744, 0o744},
		{"a+x", 0o600, 0o711, 0o711},
		{"go-rwx", 0o777, 0o700, 0o700},
		{"a=r", 0o751, 0o444, 0o444},
		{"u=rwx,g=rx,o=", 0o644, 0o750, 0o750},
		{"g=u", 0o740, 0o770, 0o770},
		{"a+X", 0o644, 0o644, 0o755},
		{"a+X", 0o744, 0o755, 0o755},
		{"u+s", 0o755, 0o4755, 0o4755},
		{"g+s", 0o755, 0o2755, 0o2755},
		{"+t", 0o755, 0o1755, 0o1755},
		{"u-s,g-s,-t", 0o7755, 0o755, 0o755},
		{"0640", 0o777, 0o640, 0o640},
	} {
		t.Run(fmt.Sprintf("%s of %04o", c.set, c.from), func(t *testing.T) {
			o := begin()
			from := tree(directory("d").mode(c.from), regular("d/f", "").mode(c.from))
			if err := o.Copy(t.Context(), from, "d", "/d", CopyOptions{ModeStr: c.set, CreateDestPath: true}); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]uint32{"d": c.directory, "d/f": c.file} {
				if e, err := o.Lstat(t.Context(), name); err != nil || e.Mode != want {
					t.Errorf("%s is %04o (%v), want %04o", name, e.Mode, err, want)
				}
			}
		})
	}
}

func TestCopyTimes(t *testing.T) {
	t.Parallel()
	then := time.Date(1999, 1, 1, 0, 0, 0, 7, time.UTC)
	ns := then.UnixNano()
	for _, c := range []struct {
		name       string
		modTime    *int64
		made, copy time.Time
	}{
		{"kept", nil, now, longAgo},
		{"given", &ns, then, then},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := begin(directory("there"))
			opt := CopyOptions{CreateDestPath: true, ModTime: c.modTime}
			for _, dest := range []string{"/made/app", "/there"} {
				if err := o.Copy(t.Context(), tree(with(buildContext, directory("app"), directory("app/lib"))...), "app", dest, opt); err != nil {
					t.Fatal(err)
				}
			}
			for name, want := range map[string]time.Time{
				"made": c.made, "made/app": c.copy, "made/app/main.go": c.copy, "made/app/latest": c.copy, "made/app/lib": c.copy,
				"there": longAgo, "there/app/main.go": c.copy,
			} {
				if e, err := o.Lstat(t.Context(), name); err != nil || !e.ModTime.Equal(want) {
					t.Errorf("%s is of %v (%v), want %v", name, e.ModTime, err, want)
				}
			}
		})
	}
}

func TestCopyPatterns(t *testing.T) {
	t.Parallel()
	from := []member{
		regular("a/x.go", "1"), regular("a/x.txt", "2"), directory("a/none").mode(0o700), directory("a/sub").mode(0o711), regular("a/sub/y.go", "3"),
		regular("a/sub/deep/z.go", "4"), symlink("a/link", "x.go"), regular("b", "5"),
	}
	for _, c := range []struct {
		name             string
		src              string // "" is the root
		include, exclude []string
		want             []string // below /d
		says             string
	}{
		{name: "include a file", include: []string{"a/x.go"}, want: []string{"a/", `a/x.go = "1"`}},
		{name: "include a directory", include: []string{"a/sub"}, want: []string{"a/", "a/sub/ 0711", "a/sub/deep/", `a/sub/deep/z.go = "4"`, `a/sub/y.go = "3"`}},
		{name: "include by wildcards", include: []string{"a/*.go", "b"}, want: []string{"a/", `a/x.go = "1"`, `b = "5"`}},
		{name: "include at any depth: directories without a match are not made", include: []string{"**/*.go"},
			want: []string{"a/", "a/sub/ 0711", "a/sub/deep/", `a/sub/deep/z.go = "4"`, `a/sub/y.go = "3"`, `a/x.go = "1"`}},
		{name: "include deep only", include: []string{"a/*/*/z.go"}, want: []string{"a/", "a/sub/ 0711", "a/sub/deep/", `a/sub/deep/z.go = "4"`}},
		{name: "include nothing that is there", include: []string{"no"}},
		{name: "patterns are relative to the source", src: "a", include: []string{"sub/y.go"}, want: []string{"sub/ 0711", `sub/y.go = "3"`}},
		{name: "exclude a file", src: "a/sub", exclude: []string{"y.go"}, want: []string{"deep/", `deep/z.go = "4"`}},
		{name: "exclude a directory", src: "a", exclude: []string{"sub", "none"}, want: []string{"link -> x.go", `x.go = "1"`, `x.txt = "2"`}},
		{name: "exclude at any depth", src: "a", exclude: []string{"**/*.go", "none"}, want: []string{"link -> x.go", "sub/ 0711", "sub/deep/", `x.txt = "2"`}},
		{name: "exclude with an exception", exclude: []string{"a", "!a/sub/deep"}, want: []string{"a/", "a/sub/ 0711", "a/sub/deep/", `a/sub/deep/z.go = "4"`, `b = "5"`}},
		{name: "exclude all with an exception", exclude: []string{"*", "!b"}, want: []string{`b = "5"`}},
		{name: "exclude everything", src: "a", exclude: []string{"*"}},
		{name: "include and exclude", include: []string{"a/sub"}, exclude: []string{"**/y.go"}, want: []string{"a/", "a/sub/ 0711", "a/sub/deep/", `a/sub/deep/z.go = "4"`}},
		{name: "exclude wins over include", include: []string{"b"}, exclude: []string{"b"}},
		{name: "the source itself is always copied", src: "b", exclude: []string{"b", "*"}, want: []string{`b = "5"`}},
		{name: "include is no pattern", include: []string{"["}, says: "include patterns"},
		{name: "exclude is no pattern", exclude: []string{"["}, says: "exclude patterns"},
	} {
		var want []string
		for i, s := range c.want {
			if i == 0 {
				want = append(want, "d/")
			}
			want = append(want, "d/"+s)
		}
		copyCase{
			name: c.name, base: []member{directory("d")}, from: from, src: c.src, dest: "/d/", want: want, says: c.says,
			opt: CopyOptions{CreateDestPath: true, DirCopyContents: true, IncludePatterns: c.include, ExcludePatterns: c.exclude},
		}.run(t)
	}
}

func TestCopyRequiredPaths(t *testing.T) {
	t.Parallel()
	from := []member{regular("a/b/c", "1"), regular("a/b/d", "2"), directory("a/e")}
	for _, c := range []struct {
		name, src                  string
		include, exclude, required []string
		missing                    string
	}{
		{name: "a file", src: "/", include: []string{"a/b/c"}, required: []string{"/a/b/c"}},
		{name: "a directory", src: "/", include: []string{"a/b"}, required: []string{"/a/b/"}},
		{name: "an empty directory", src: "/", include: []string{"a/e"}, required: []string{"a/e"}},
		{name: "below a pivot", src: "/a", include: []string{"b/c"}, required: []string{"/a/b/c"}},
		{name: "several", src: "/", include: []string{"a/e", "a/b/d"}, required: []string{"/a/e", "/a/b/d"}},
		{name: "missing", src: "/", include: []string{"a/no"}, required: []string{"/a/no"}, missing: "/a/no"},
		{name: "missing below a pivot", src: "/a", include: []string{"no"}, required: []string{"/a/no"}, missing: "/a/no"},
		{name: "one of two missing", src: "/", include: []string{"a/e", "a/no"}, required: []string{"/a/e", "/a/no"}, missing: "/a/no"},
		{name: "excluded", src: "/", include: []string{"a/b/c"}, exclude: []string{"**/c"}, required: []string{"/a/b/c"}, missing: "/a/b/c"},
		{name: "without include patterns nothing is required", src: "/", required: []string{"/no"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := begin().Copy(t.Context(), tree(from...), c.src, "/d/", CopyOptions{
				CreateDestPath: true, DirCopyContents: true,
				IncludePatterns: c.include, ExcludePatterns: c.exclude, RequiredPaths: c.required,
			})
			if c.missing != "" {
				fails(t, err, fs.ErrNotExist, c.missing)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCopyHardlinks(t *testing.T) {
	t.Parallel()
	from := []member{regular("d/a", "1").mode(0o600), hardlink("d/b", "d/a"), hardlink("d/sub/c", "d/a"), regular("d/x", "1"), hardlink("e", "d/a")}
	contents := CopyOptions{CreateDestPath: true, DirCopyContents: true, AllowWildcard: true}
	without := contents
	without.ExcludePatterns = []string{"a"}
	moded := contents
	moded.Mode, moded.Owner = modeOf(0o640), someone
	for _, c := range []copyCase{
		{name: "in one directory", src: "d", dest: "/n", opt: contents, want: []string{"n/", `n/a = "1" 0600`, "n/b is n/a 0600", "n/sub/", "n/sub/c is n/a 0600", `n/x = "1"`}},
		{name: "the first left out", src: "d", dest: "/n", opt: without, want: []string{"n/", `n/b = "1" 0600`, "n/sub/", "n/sub/c is n/b 0600", `n/x = "1"`}},
		{name: "a second name alone", src: "d/b", dest: "/n", opt: contents, want: []string{`n = "1" 0600`}},
		{name: "each source of a wildcard is copied for itself", src: "d/[ab]", dest: "/n/", opt: contents, want: []string{"n/", `n/a = "1" 0600`, `n/b = "1" 0600`}},
		{name: "with mode and owner", src: "d", dest: "/n", opt: moded,
			want: []string{"n/ 0640 5:6", `n/a = "1" 0640 5:6`, "n/b is n/a 0640 5:6", "n/sub/ 0640 5:6", "n/sub/c is n/a 0640 5:6", `n/x = "1" 0640 5:6`}},
		{name: "onto other files", base: []member{regular("n/a", "old"), hardlink("n/b", "n/a"), regular("n/sub/c", "older")}, src: "d", dest: "/n", opt: contents,
			want: []string{"n/", `n/a = "1" 0600`, "n/b is n/a 0600", "n/sub/", "n/sub/c is n/a 0600", `n/x = "1"`}},
		{name: "onto one name of a file", base: []member{regular("n", "old"), hardlink("o", "n")}, src: "d/x", dest: "/n", opt: contents, want: []string{`n = "1"`}},
	} {
		c.from = from
		c.run(t)
	}
}

func TestCopyFromAnOverlay(t *testing.T) {
	t.Parallel()
	from := begin(regular("d/old", "old"), regular("d/gone", ""))
	put(from, regular("d/new", "new"))
	from.remove("d/gone")
	o := begin()
	if err := o.Copy(t.Context(), from, "d", "/n", CopyOptions{CreateDestPath: true}); err != nil {
		t.Fatal(err)
	}
	same(t, changesOf(t, o), []string{"n/", `n/new = "new"`, `n/old = "old"`})
}

func TestCopyManyTimes(t *testing.T) {
	t.Parallel()
	o := begin(regular("srv/old", "old"))
	for _, c := range [][2]string{{"app", "/srv"}, {"readme.md", "/srv/main.go"}, {"app/lib", "/srv/lib"}, {"app/main.go", "/srv/lib/"}} {
		if err := o.Copy(t.Context(), tree(buildContext...), c[0], c[1], CopyOptions{CreateDestPath: true, DirCopyContents: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Remove(t.Context(), "/srv/[el]*", false, true); err != nil {
		t.Fatal(err)
	}
	same(t, listing(t, o), []string{"srv/", `srv/main.go = "hello"`, `srv/old = "old"`})
	changes := changesOf(t, o)
	if i := slices.IndexFunc(changes, func(s string) bool { return strings.HasPrefix(s, "removed") }); i >= 0 {
		t.Errorf("%q, though the base never had it", changes[i])
	}
}

func TestCopyStopsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := begin().Copy(ctx, tree(buildContext...), "app", "/x", CopyOptions{CreateDestPath: true})
	fails(t, err, context.Canceled, "")
}

func TestCopyReportsWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"app", "app/lib"} {
		err := begin().Copy(t.Context(), broken{tree(buildContext...), path}, "app", "/x", CopyOptions{CreateDestPath: true})
		fails(t, err, errBroken, "")
	}
	o := NewOverlay(broken{tree(directory("x")), "x/lib"})
	fails(t, o.Copy(t.Context(), tree(buildContext...), "app", "/x", CopyOptions{DirCopyContents: true}), errBroken, "")
}
