package view

import (
	"context"
	"io/fs"
	"syscall"
	"testing"
	"time"
)

// action is a row of the tables below: what is done to a tree, and the changes or the error that come of it.
type action struct {
	name string
	base []member
	do   func(ctx context.Context, o *Overlay) error
	want []string
	kind error  // nil: none, unless says
	says string // what the error says
}

func (a action) run(t *testing.T) {
	t.Run(a.name, func(t *testing.T) {
		o := begin(a.base...)
		err := a.do(t.Context(), o)
		if a.kind != nil || a.says != "" {
			fails(t, err, a.kind, a.says)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		same(t, changesOf(t, o), a.want)
	})
}

var someone = &Chown{UID: 5, GID: 6}

func TestMkdir(t *testing.T) {
	t.Parallel()
	mkdir := func(name string, perm uint32, parents bool, owner *Chown) func(context.Context, *Overlay) error {
		return func(ctx context.Context, o *Overlay) error { return o.Mkdir(ctx, name, perm, parents, owner, nil) }
	}
	for _, a := range []action{
		{name: "a new one", do: mkdir("/a", 0o750, false, someone), want: []string{"a/ 0750 5:6"}},
		{name: "special bits are left out", do: mkdir("/a", 0o7755, false, nil), want: []string{"a/"}},
		{name: "with parents", do: mkdir("/a/b/c", 0o700, true, someone),
			want: []string{"a/ 0700 5:6", "a/b/ 0700 5:6", "a/b/c/ 0700 5:6"}},
		{name: "without its parent", do: mkdir("/a/b", 0o755, false, nil), kind: fs.ErrNotExist, says: "mkdir /a/b"},
		{name: "one that is there", base: []member{directory("a").mode(0o700)}, do: mkdir("/a", 0o755, false, someone)},
		{name: "one that is there, with parents", base: []member{directory("a/b").mode(0o700)}, do: mkdir("/a/b", 0o755, true, someone)},
		{name: "below one that is there", base: []member{directory("a").mode(0o700)}, do: mkdir("/a/b", 0o755, true, nil),
			want: []string{"a/ 0700", "a/b/"}},
		{name: "the root", do: mkdir("/", 0o700, false, nil)},
		{name: "below a file", base: []member{regular("a", "")}, do: mkdir("/a/b", 0o755, false, nil),
			kind: syscall.ENOTDIR, says: "mkdir /a/b"},
		{name: "below a file, with parents", base: []member{regular("a", "")}, do: mkdir("/a/b/c", 0o755, true, nil),
			kind: syscall.ENOTDIR, says: "/a"},
		{name: "a file is there, with parents", base: []member{regular("a", "")}, do: mkdir("/a", 0o755, true, nil),
			kind: syscall.ENOTDIR, says: "mkdir /a"},
		{name: "through a link", base: []member{directory("real"), symlink("link", "/real")}, do: mkdir("/link/a", 0o755, false, nil),
			want: []string{"real/", "real/a/"}},
		{name: "at a link to a missing directory", base: []member{symlink("link", "../../real")}, do: mkdir("/link", 0o755, true, nil),
			want: []string{"real/"}},
		{name: "through a loop", base: []member{symlink("loop", "loop")}, do: mkdir("/loop/a", 0o755, true, nil), kind: syscall.ELOOP},
	} {
		a.run(t)
	}
}

func TestMkfile(t *testing.T) {
	t.Parallel()
	mkfile := func(name string, perm uint32, data string, owner *Chown) func(context.Context, *Overlay) error {
		return func(ctx context.Context, o *Overlay) error {
			return o.Mkfile(ctx, name, perm, []byte(data), owner, nil)
		}
	}
	old := regular("a", "old").mode(0o600).owner(1, 2)
	for _, a := range []action{
		{name: "a new one", do: mkfile("/a", 0o640, "data", someone), want: []string{`a = "data" 0640 5:6`}},
		{name: "an empty one", do: mkfile("a", 0o644, "", nil), want: []string{`a = ""`}},
		{name: "one that is there keeps mode and owner", base: []member{old}, do: mkfile("/a", 0o644, "new", nil),
			want: []string{`a = "new" 0600 1:2`}},
		{name: "one that is there gets a given owner", base: []member{old}, do: mkfile("/a", 0o644, "new", someone),
			want: []string{`a = "new" 0600 5:6`}},
		{name: "written twice", do: func(ctx context.Context, o *Overlay) error {
			if err := o.Mkfile(ctx, "a", 0o600, []byte("one"), someone, nil); err != nil {
				return err
			}
			return o.Mkfile(ctx, "a", 0o644, []byte("two"), nil, nil)
		}, want: []string{`a = "two" 0600 5:6`}},
		{name: "a directory is there", base: []member{directory("a")}, do: mkfile("/a", 0o644, "", nil), kind: syscall.EISDIR, says: "/a"},
		{name: "the root", do: mkfile("/", 0o644, "", nil), kind: syscall.EISDIR},
		{name: "without its directory", do: mkfile("/a/b", 0o644, "", nil), kind: fs.ErrNotExist, says: "open /a/b"},
		{name: "below a file", base: []member{old}, do: mkfile("/a/b", 0o644, "", nil), kind: syscall.ENOTDIR, says: "open /a/b"},
		{name: "through a link", base: []member{symlink("link", "a"), old}, do: mkfile("/link", 0o644, "new", nil),
			want: []string{`a = "new" 0600 1:2`}},
		{name: "through a dangling link", base: []member{symlink("link", "/../a")}, do: mkfile("/link", 0o644, "new", nil),
			want: []string{`a = "new"`}},
		{name: "one of two names", base: []member{old, hardlink("b", "a")}, do: mkfile("/a", 0o644, "new", nil),
			want: []string{`a = "new" 0600 1:2`}},
	} {
		a.run(t)
	}
}

func TestSymlink(t *testing.T) {
	t.Parallel()
	link := func(target, name string, owner *Chown) func(context.Context, *Overlay) error {
		return func(ctx context.Context, o *Overlay) error { return o.Symlink(ctx, target, name, owner, nil) }
	}
	for _, a := range []action{
		{name: "a new one", do: link("../x//./y/", "/a", someone), want: []string{"a -> ../x//./y/ 5:6"}},
		{name: "in a linked directory", base: []member{directory("real"), symlink("link", "real")}, do: link("x", "/link/a", nil),
			want: []string{"real/", "real/a -> x"}},
		{name: "a file is there", base: []member{regular("a", "")}, do: link("x", "/a", nil), kind: fs.ErrExist, says: "symlink /a"},
		{name: "a directory is there", base: []member{directory("a")}, do: link("x", "/a", nil), kind: fs.ErrExist, says: "symlink /a"},
		{name: "a link to a file is there", base: []member{regular("f", ""), symlink("a", "f")}, do: link("x", "/a", nil), kind: fs.ErrExist},
		{name: "without its directory", do: link("x", "/a/b", nil), kind: fs.ErrNotExist, says: "symlink /a/b"},
		{name: "below a file", base: []member{regular("a", "")}, do: link("x", "/a/b", nil), kind: syscall.ENOTDIR},
	} {
		a.run(t)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	remove := func(name string, allowNotFound, allowWildcard bool) func(context.Context, *Overlay) error {
		return func(ctx context.Context, o *Overlay) error { return o.Remove(ctx, name, allowNotFound, allowWildcard) }
	}
	base := []member{
		regular("etc/a.conf", ""), regular("etc/b.conf", ""), directory("etc/c.conf"), regular("etc/c.conf/x", ""),
		regular("etc/sub/a.conf", ""), regular("etc/d.txt", ""), symlink("link", "etc"), symlink("dangling", "no"), symlink("loop", "loop"),
		regular("etc/[x]*", ""),
	}
	for _, a := range []action{
		{name: "a file", do: remove("/etc/a.conf", false, false), want: []string{"etc/", "removed etc/a.conf"}},
		{name: "a directory", do: remove("/etc/", false, false), want: []string{"removed etc"}},
		{name: "a link, not what it points at", do: remove("/link", false, false), want: []string{"removed link"}},
		{name: "a dangling link", do: remove("/dangling", false, false), want: []string{"removed dangling"}},
		{name: "a loop", do: remove("/loop", false, false), want: []string{"removed loop"}},
		{name: "through a link", do: remove("/link/d.txt", false, false), want: []string{"etc/", "removed etc/d.txt"}},
		{name: "what is missing", do: remove("/no", false, false), kind: fs.ErrNotExist, says: "/no"},
		{name: "what is missing, allowed", do: remove("/no/such", true, false)},
		{name: "wildcards", do: remove("/etc/*.conf", false, true),
			want: []string{"etc/", "removed etc/a.conf", "removed etc/b.conf", "removed etc/c.conf"}},
		{name: "wildcards in directories", do: remove("/*/*/a.conf", false, true), want: []string{"etc/", "etc/sub/", "removed etc/sub/a.conf"}},
		{name: "wildcards without a match", do: remove("/etc/*.no", false, true)},
		{name: "wildcards in a missing directory", do: remove("/no/*", false, true), kind: fs.ErrNotExist, says: "/no"},
		{name: "no wildcards though allowed, missing", do: remove("/no", false, true), kind: fs.ErrNotExist},
		{name: "wildcards that are not allowed are names", do: remove("/etc/[x]*", false, false), want: []string{"etc/", "removed etc/[x]*"}},
		{name: "wildcards that are not allowed are names, missing", do: remove("/etc/*.conf", false, false), kind: fs.ErrNotExist, says: "*.conf"},
		{name: "the root", do: remove("/", false, false), says: "root"},
		{name: "the root by dots", do: remove("/etc/../..", true, true), says: "root"},
		{name: "everything in the root", do: remove("/*", false, true),
			want: []string{"removed dangling", "removed etc", "removed link", "removed loop"}},
		{name: "through a loop", do: remove("/loop/x", true, false), kind: syscall.ELOOP},
	} {
		a.base = base
		a.run(t)
	}
}

func TestActionTimes(t *testing.T) {
	t.Parallel()
	then := longAgo.UnixNano()
	for _, modTime := range []*int64{nil, &then} {
		want := now
		if modTime != nil {
			want = longAgo
		}
		o := begin(regular("source", "").time(time.Unix(1, 0)))
		err := o.Mkdir(t.Context(), "/dir/sub", 0o755, true, nil, modTime)
		if err == nil {
			err = o.Mkfile(t.Context(), "/file", 0o755, nil, nil, modTime)
		}
		if err == nil {
			err = o.Symlink(t.Context(), "x", "/link", nil, modTime)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"dir", "dir/sub", "file", "link"} {
			e, err := o.Lstat(t.Context(), name)
			if err != nil || !e.ModTime.Equal(want) || e.ModTime.Location() != time.UTC {
				t.Errorf("%s is of %v (%v), want %v", name, e.ModTime, err, want)
			}
		}
	}
}
