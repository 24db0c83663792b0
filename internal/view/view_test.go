package view

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// long ago is when the files of the tests' trees were changed; now is when the tests' overlays were started.
var (
	longAgo = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	now     = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
)

// member is a file of a tree that a test describes.
type member struct {
	e    Entry
	data string
}

func directory(name string) member {
	return member{e: Entry{Path: name, Type: TypeDir, Mode: 0o755, ModTime: longAgo}}
}

func regular(name, data string) member {
	return member{Entry{Path: name, Type: TypeRegular, Mode: 0o644, ModTime: longAgo, Size: int64(len(data))}, data}
}

func symlink(name, target string) member {
	return member{e: Entry{Path: name, Type: TypeSymlink, Mode: 0o777, ModTime: longAgo, Linkname: target}}
}

// hardlink is another name of the file first, which precedes it.
func hardlink(name, first string) member {
	return member{e: Entry{Path: name, Type: TypeRegular, Hardlink: first}}
}

func device(name string, t Type, major, minor int64) member {
	return member{e: Entry{Path: name, Type: t, Mode: 0o644, ModTime: longAgo, Major: major, Minor: minor}}
}

func (m member) mode(mode uint32) member       { m.e.Mode = mode; return m }
func (m member) owner(uid, gid int) member     { m.e.UID, m.e.GID = uid, gid; return m }
func (m member) time(t time.Time) member       { m.e.ModTime = t; return m }
func (m member) xattr(k, v string) member      { m.e.Xattrs = map[string]string{k: v}; return m }
func with(list []member, m ...member) []member { return append(slices.Clone(list), m...) }

// tree is a view of the members; directories that none describes are implied.
func tree(members ...member) View {
	m := make(memoryFiles, len(members))
	x := NewIndex(m, len(members))
	for i := range members {
		e := members[i].e
		m[i] = []byte(members[i].data)
		if e.Hardlink != "" {
			first := slices.IndexFunc(members, func(o member) bool { return o.e.Path == e.Hardlink })
			m[i] = m[first]
			e = members[first].e
			e.Path, e.Hardlink = members[i].e.Path, members[first].e.Path
		}
		x.Put(&e, i)
	}
	return x.Freeze()
}

// begin starts an overlay on a tree, at a known time.
func begin(members ...member) *Overlay {
	o := NewOverlay(tree(members...))
	o.now = now
	return o
}

// line describes an entry: type and content always, mode and owner where they are not the usual ones.
func line(e *Entry, data string) string {
	usual := uint32(0o644)
	var s string
	switch e.Type {
	case TypeWhiteout:
		return "removed " + e.Path
	case TypeRegular:
		s = fmt.Sprintf("%s = %q", e.Path, data)
	case TypeDir:
		s, usual = e.Path+"/", 0o755
	case TypeSymlink:
		s, usual = e.Path+" -> "+e.Linkname, 0o777
	case TypeChar:
		s = fmt.Sprintf("%s char %d,%d", e.Path, e.Major, e.Minor)
	case TypeBlock:
		s = fmt.Sprintf("%s block %d,%d", e.Path, e.Major, e.Minor)
	case TypeFifo:
		s = e.Path + " fifo"
	default:
		s = fmt.Sprintf("%s type %d", e.Path, e.Type)
	}
	if e.Hardlink != "" {
		s = e.Path + " is " + e.Hardlink
	}
	if e.Mode != usual {
		s += fmt.Sprintf(" %04o", e.Mode)
	}
	if e.UID != 0 || e.GID != 0 {
		s += fmt.Sprintf(" %d:%d", e.UID, e.GID)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		s += fmt.Sprintf(" {%s=%s}", k, e.Xattrs[k])
	}
	if e.Opaque {
		s += " opaque"
	}
	return s
}

// content reads a regular file, and checks that its size and digest are as its view says.
func content(t testing.TB, v View, name string, size int64) string {
	t.Helper()
	f, err := v.Open(t.Context(), name)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	if int64(len(data)) != size {
		t.Errorf("%s has the size %d, and %d bytes can be read", name, size, len(data))
	}
	if sum, err := v.Digest(t.Context(), name); err != nil || sum != digest.FromBytes(data) {
		t.Errorf("digest of %s = %v, %v, want %v", name, sum, err, digest.FromBytes(data))
	}
	return string(data)
}

// listing describes everything in a view, in the order of a walk.
func listing(t testing.TB, v View) []string {
	t.Helper()
	return lines(t, v, true)
}

// lines is listing; without links, every name of a file is shown with the content.
func lines(t testing.TB, v View, links bool) []string {
	t.Helper()
	var list []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := v.ReadDir(t.Context(), dir)
		if err != nil {
			t.Fatalf("list %s: %v", dir, err)
		}
		for _, e := range entries {
			again, err := v.Lstat(t.Context(), e.Path)
			if err != nil || line(again, "") != line(e, "") {
				t.Errorf("%s is %v (%v) in its directory, and %v to lstat", e.Path, e, err, again)
			}
			var data string
			if e.Type == TypeRegular {
				data = content(t, v, e.Path, e.Size)
			}
			if !links {
				e = e.Clone()
				e.Hardlink = ""
			}
			list = append(list, line(e, data))
			if e.IsDir() {
				walk(e.Path)
			}
		}
	}
	walk(".")
	return list
}

// changesOf returns an overlay's changes described, after checking what holds of any: they are in order, name no path
// but clean ones, links name an earlier file, and applied to the base as a layer they make what the overlay shows.
func changesOf(t testing.TB, o *Overlay) []string {
	t.Helper()
	changes, err := o.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	files := map[string]string{}
	for i, c := range changes {
		if c.Entry.Path != Clean(c.Entry.Path) {
			t.Errorf("change of %q, which is not clean", c.Entry.Path)
		}
		if i > 0 && Compare(changes[i-1].Entry.Path, c.Entry.Path) >= 0 {
			t.Errorf("change of %q comes after that of %q", c.Entry.Path, changes[i-1].Entry.Path)
		}
		data, linked := files[c.Entry.Hardlink]
		switch {
		case c.Entry.Hardlink != "" && (c.Source != nil || !linked):
			t.Errorf("change of %q is a link to %q, which is no earlier file", c.Entry.Path, c.Entry.Hardlink)
		case c.Entry.Hardlink != "":
		case c.Entry.Type == TypeRegular:
			data = content(t, c.Source, c.SourcePath, c.Entry.Size)
		case c.Source != nil:
			t.Errorf("change of %q, which is no regular file, has content", c.Entry.Path)
		}
		files[c.Entry.Path] = data
		list = append(list, line(c.Entry, files[c.Entry.Path]))
	}
	if diff := gocmp.Diff(lines(t, layered(t, o.base, changes, files), false), lines(t, o, false)); diff != "" {
		t.Errorf("the changes as a layer (-) and the overlay (+) differ:\n%s", diff)
	}
	return list
}

// layered applies changes to a view by the rules for layers.
func layered(t testing.TB, base View, changes []Change, files map[string]string) View {
	t.Helper()
	var m memoryFiles
	x := NewIndex(nil, 0)
	put := func(e *Entry, data string) {
		e = e.Clone()
		e.Hardlink, e.Digest, e.Opaque = "", "", false
		x.Put(e, len(m))
		m = append(m, []byte(data))
	}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := base.ReadDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			var data string
			if e.Type == TypeRegular {
				data = content(t, base, e.Path, e.Size)
			}
			put(e, data)
			if e.IsDir() {
				walk(e.Path)
			}
		}
	}
	walk(".")
	for _, c := range changes {
		if c.Entry.Type == TypeWhiteout {
			x.Remove(c.Entry.Path)
			continue
		}
		if c.Entry.Opaque {
			x.Clear(c.Entry.Path)
		}
		put(c.Entry, files[c.Entry.Path])
	}
	x.content = m
	return x.Freeze()
}

// same compares lists of lines.
func same(t testing.TB, got, want []string) {
	t.Helper()
	if diff := gocmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fails checks that err is of a kind, if one is given, and says what is wanted.
func fails(t testing.TB, err, kind error, says string) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("no error, want one that says %q", cmp.Or(says, fmt.Sprint(kind)))
	case kind != nil && !errors.Is(err, kind):
		t.Errorf("error %q is not %q", err, kind)
	case !strings.Contains(err.Error(), says):
		t.Errorf("error %q does not say %q", err, says)
	}
}

var errBroken = errors.New("the disk is broken")

// broken is a view in which nothing at or below one path can be looked at.
type broken struct {
	View
	path string
}

func (b broken) hit(name string) bool { return name == b.path || strings.HasPrefix(name, b.path+"/") }

func (b broken) Lstat(ctx context.Context, name string) (*Entry, error) {
	if b.hit(name) {
		return nil, errBroken
	}
	return b.View.Lstat(ctx, name)
}

func (b broken) ReadDir(ctx context.Context, name string) ([]*Entry, error) {
	if b.hit(name) {
		return nil, errBroken
	}
	return b.View.ReadDir(ctx, name)
}

func (b broken) Digest(ctx context.Context, name string) (digest.Digest, error) {
	if b.hit(name) {
		return "", errBroken
	}
	return b.View.Digest(ctx, name)
}

func (b broken) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if b.hit(name) {
		return nil, errBroken
	}
	return b.View.Open(ctx, name)
}

// names are the paths of a view, directories with a slash.
func names(t testing.TB, v View) []string {
	t.Helper()
	var list []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := v.ReadDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Path != Join(dir, path.Base(e.Path)) {
				t.Errorf("%q is listed in %q", e.Path, dir)
			}
			if !e.IsDir() {
				list = append(list, e.Path)
				continue
			}
			list = append(list, e.Path+"/")
			walk(e.Path)
		}
	}
	walk(".")
	return list
}

// unreadable is a view whose files have no content to be had.
type unreadable struct{ View }

func (unreadable) Digest(context.Context, string) (digest.Digest, error) { return "", errBroken }
