package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// newLayers returns an empty store's layers.
func newLayers(t testing.TB) *Layers {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return New(s)
}

// inDirectories has trees be directories, for tests that reach into them.
func inDirectories(l *Layers) *Layers {
	l.trees = tree.NewHost(func() bool { return false })
	return l
}

// asErofs has trees be images, also where those cannot be mounted.
func asErofs(l *Layers) *Layers {
	l.trees = tree.NewHost(func() bool { return true })
	return l
}

// content is a view of files by path, for changes to read from.
func content(files map[string][]byte) view.View { return view.Files(files) }

var testTime = time.Unix(1700000000, 123456789).UTC()

// sampleChanges is one of everything that a layer can hold, sorted.
func sampleChanges() []view.Change {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB: streamed
	holes := append(make([]byte, 2<<20), "end"...)
	long := strings.Repeat("long-directory-name/", 12) + "file"
	files := map[string][]byte{
		"dir/file": []byte("hello\n"), "big": big, "holes": holes, long: []byte("long"), "empty": {},
		"odd": []byte("odd"), "suid": []byte("#!"), "links/a": []byte("linked"),
	}
	src := content(files)
	entry := func(path string, typ view.Type, mode uint32) *view.Entry {
		return &view.Entry{Path: path, Type: typ, Mode: mode, ModTime: testTime}
	}
	file := func(path, from string, mode uint32) view.Change {
		e := entry(path, view.TypeRegular, mode)
		e.Size = int64(len(files[from]))
		return view.Change{Entry: e, Source: src, SourcePath: from}
	}
	with := func(c view.Change, change func(e *view.Entry)) view.Change {
		change(c.Entry)
		return c
	}
	plain := func(e *view.Entry) view.Change { return view.Change{Entry: e} }
	changes := []view.Change{
		file("big", "big", 0o644),
		plain(entry("dir", view.TypeDir, 0o2755)),
		file("dir/file", "dir/file", 0o600),
		with(plain(entry("dir/gone", view.TypeWhiteout, 0)), func(e *view.Entry) { e.ModTime = time.Time{} }),
		with(plain(entry("dev", view.TypeChar, 0o660)), func(e *view.Entry) { e.Major, e.Minor, e.GID = 1, 3, 6 }),
		with(plain(entry("disk", view.TypeBlock, 0o600)), func(e *view.Entry) { e.Major, e.Minor = 259, 70000 }),
		file("empty", "empty", 0o444),
		with(plain(entry("fifo", view.TypeFifo, 0o620)), func(e *view.Entry) { e.UID = 1000 }),
		file("holes", "holes", 0o644),
		plain(entry("links", view.TypeDir, 0o755)),
		file("links/a", "links/a", 0o644),
		with(plain(entry("links/b", view.TypeRegular, 0o644)), func(e *view.Entry) { e.Hardlink, e.Size = "links/a", 6 }),
		with(plain(entry("opaque", view.TypeDir, 0o1777)), func(e *view.Entry) { e.Opaque = true }),
		file("odd \xff\x01\n"+"name", "odd", 0o640),
		with(file("suid", "suid", 0o4755), func(e *view.Entry) {
			e.UID, e.GID = 12, 34
			e.Xattrs = map[string]string{
				"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"user.note":           "two\nlines",
			}
		}),
		with(plain(entry("symlink", view.TypeSymlink, 0o777)), func(e *view.Entry) { e.Linkname = strings.Repeat("../", 50) + "etc" }),
		with(file("zold", "odd", 0o644), func(e *view.Entry) { e.ModTime = time.Unix(-2, 500000000).UTC(); e.UID = 3000000 }),
	}
	for dir := filepath.Dir(long); dir != "."; dir = filepath.Dir(dir) {
		changes = append(changes, plain(entry(dir, view.TypeDir, 0o755)))
	}
	changes = append(changes, file(long, long, 0o644))
	sort.Slice(changes, func(i, j int) bool { return changes[i].Entry.Path < changes[j].Entry.Path })
	return changes
}

// readTar reads a layer's whole tar.
func readTar(t testing.TB, l *Layers, id digest.Digest) []byte {
	t.Helper()
	r, err := l.OpenTar(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, l *Layers, changes []view.Change, form Form) *Layer {
	t.Helper()
	got, err := l.Write(t.Context(), changes, form)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func entriesOf(t testing.TB, l *Layers, id digest.Digest) []*view.Entry {
	t.Helper()
	if _, err := l.withDigests(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	toc, err := l.TOC(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return toc.Entries
}

// TestRootForms makes the same layer in every way there is, and compares what comes out.
func TestRootForms(t *testing.T) {
	ctx := t.Context()
	packed, unpacked, sealed := newLayers(t), inDirectories(newLayers(t)), asErofs(newLayers(t))
	a := write(t, packed, sampleChanges(), AsBlob)
	tarA := readTar(t, packed, a.DiffID)
	if a.Unpacked || len(a.Blobs) != 1 {
		t.Errorf("packed is %+v", a)
	}
	want := entriesOf(t, packed, a.DiffID)
	all := map[string]*Layers{"packed": packed, "a directory": unpacked, "an image": sealed}
	for _, name := range []string{"a directory", "an image"} {
		b := write(t, all[name], sampleChanges(), AsTree)
		if a.DiffID != b.DiffID || a.Size != b.Size || a.TarSize != b.TarSize || !b.Unpacked || len(b.Blobs) != 0 {
			t.Fatalf("packed and %s differ: %+v, %+v", name, a, b)
		}
		if !bytes.Equal(tarA, readTar(t, all[name], b.DiffID)) {
			t.Errorf("the tar made again from %s differs from the packed one", name)
		}
	}
	for name, l := range map[string]*Layers{"directory": inDirectories(newLayers(t)), "image": asErofs(newLayers(t))} {
		for _, unpack := range []bool{true, false} {
			c, desc, err := l.IngestFrom(ctx, Incoming{Reader: bytes.NewReader(tarA), DiffID: a.DiffID, Unpack: unpack})
			if err != nil {
				t.Fatal(err)
			}
			if c.DiffID != a.DiffID || c.Size != a.Size || desc.Digest != a.DiffID || desc.Size != a.TarSize {
				t.Errorf("ingested %+v (%+v), written %+v", c, desc, a)
			}
			all[fmt.Sprintf("%s ingested, unpacked %v", name, unpack)] = l
			l = map[string]func(*Layers) *Layers{"directory": inDirectories, "image": asErofs}[name](newLayers(t))
		}
	}
	for name, l := range all {
		if diff := cmp.Diff(want, entriesOf(t, l, a.DiffID)); diff != "" {
			t.Errorf("table of contents of the layer as %s differs:\n%s", name, diff)
		}
		if _, err := l.Tree(ctx, a.DiffID); err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(ctx, a.DiffID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	fromTree := newLayers(t)
	upper := filepath.Join(t.TempDir(), "upper")
	if out, err := exec.Command("cp", "-a", unpacked.path(a.DiffID, tree.DirectoryName), upper).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	d, err := fromTree.Commit(ctx, upper, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.DiffID != a.DiffID {
		t.Error("committing the tree gives another layer:", cmp.Diff(want, entriesOf(t, fromTree, d.DiffID)))
	}
}

// TestEntriesSurvive compares a table of contents with the changes that it was made of.
func TestEntriesSurvive(t *testing.T) {
	l := newLayers(t)
	changes := sampleChanges()
	got := write(t, l, changes, AsBlob)
	entries := entriesOf(t, l, got.DiffID)
	if len(entries) != len(changes) {
		t.Fatalf("%d entries of %d changes", len(entries), len(changes))
	}
	for i, c := range changes {
		e := entries[i].Clone()
		if e.Type == view.TypeRegular && e.Digest == "" {
			t.Errorf("%q has no digest", e.Path)
		}
		e.Digest = ""
		if e.Type == view.TypeWhiteout {
			e.ModTime = time.Time{}
		}
		if diff := cmp.Diff(c.Entry, e); diff != "" {
			t.Errorf("%q changed:\n%s", e.Path, diff)
		}
	}
	size := int64(0)
	for _, c := range changes {
		if c.Entry.Hardlink == "" {
			size += c.Entry.Size + int64(len(c.Entry.Linkname))
		}
	}
	if got.Size != size {
		t.Errorf("size %d, want %d", got.Size, size)
	}
}

func TestEmptyLayer(t *testing.T) {
	for _, form := range []Form{AsBlob, AsTree} {
		got := write(t, newLayers(t), nil, form)
		if got.DiffID != "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef" || !got.Empty || got.Size != 0 {
			t.Errorf("form %d: %+v", form, got)
		}
	}
}

// gnuListing is what GNU tar says of an archive.
func gnuListing(t *testing.T, data []byte) string {
	t.Helper()
	cmd := exec.Command("tar", "--list", "-vv", "--full-time", "--numeric-owner", "--quoting-style=c", "--xattrs")
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return string(out)
}

// TestRootGNUTarReads has GNU tar unpack the canonical tar: names, owners, modes, times, links and attributes must come out.
func TestRootGNUTarReads(t *testing.T) {
	l := newLayers(t)
	layer := write(t, l, sampleChanges(), AsBlob)
	data := readTar(t, l, layer.DiffID)
	dir := t.TempDir()
	cmd := exec.Command("tar", "--extract", "--numeric-owner", "--same-owner", "--preserve-permissions", "--xattrs",
		"--xattrs-include=*", "--warning=no-timestamp", "-C", dir)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v: %s\n%s", err, out, gnuListing(t, data))
	}
	have := walkTree(t, dir)
	unpacked := map[string]*view.Entry{}
	for _, e := range have {
		unpacked[e.Path] = e
	}
	for _, e := range entriesOf(t, l, layer.DiffID) {
		switch {
		case e.Type == view.TypeWhiteout:
			if unpacked[path.Join(path.Dir(e.Path), ".wh."+path.Base(e.Path))] == nil {
				t.Errorf("no whiteout of %q", e.Path)
			}
			continue
		case e.Opaque:
			if unpacked[path.Join(e.Path, ".wh..wh..opq")] == nil {
				t.Errorf("%q is not opaque", e.Path)
			}
			continue // unpacking the marker touches the directory
		}
		want := e.Clone()
		want.Digest = ""
		if diff := cmp.Diff(want, unpacked[e.Path]); diff != "" {
			t.Errorf("%q:\n%s", e.Path, diff)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	file := func(path string) *view.Entry { return &view.Entry{Path: path, Type: view.TypeRegular, Mode: 0o644} }
	attr := file("a")
	attr.Xattrs = map[string]string{"user.a=b": "x"}
	short := file("a")
	short.Size = 100
	known := file("a")
	known.Size, known.Digest = 2, digest.FromString("something else")
	tests := []struct {
		name  string
		entry *view.Entry
		want  string
	}{
		{"whiteout name", file("a/.wh.b"), "names that begin with .wh."},
		{"whiteout directory", file(".wh.a/b"), "names that begin with .wh."},
		{"absolute", file("/a"), "not a name in a layer"},
		{"dot", file("a/../../b"), "not a name in a layer"},
		{"NUL", file("a\x00b"), "not a name in a layer"},
		{"attribute name", attr, "extended attribute"},
		{"file too short", short, "changed while it was being read"},
		{"content of another digest", known, "changed while it was being read"},
		{"root that is a file", file("."), "must be a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { writeRefuses(t, tt.entry, tt.want) })
	}
}

// TestRootWriteRefusesOwner: an ordinary user may give files to nobody else at all.
func TestRootWriteRefusesOwner(t *testing.T) {
	writeRefuses(t, &view.Entry{Path: "a", Type: view.TypeRegular, Mode: 0o644, UID: -1}, "owner or device number")
}

func writeRefuses(t *testing.T, entry *view.Entry, want string) {
	t.Helper()
	for _, form := range []Form{AsBlob, AsTree} {
		l := newLayers(t)
		src := content(map[string][]byte{"src": []byte("ab")})
		_, err := l.Write(t.Context(), []view.Change{{Entry: entry, Source: src, SourcePath: "src"}}, form)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("form %v: error %v, want %q in it", form, err, want)
		}
		wantNothing(t, l)
	}
}

// wantNothing checks that a failure left neither layers, blobs nor temporary files.
func wantNothing(t *testing.T, l *Layers) {
	t.Helper()
	ids, err := l.All()
	if err != nil || len(ids) > 0 {
		t.Errorf("layers left: %v %v", ids, err)
	}
	for b, err := range l.store.Blobs() {
		t.Errorf("blob left: %v %v", b, err)
	}
	left, err := os.ReadDir(l.store.Path("tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v %v", left, err)
	}
}

func TestHardlinksInAnyOrder(t *testing.T) {
	src := content(map[string][]byte{"z": []byte("linked")})
	name := func(path, hardlink string) view.Change {
		return view.Change{
			Entry:  &view.Entry{Path: path, Type: view.TypeRegular, Mode: 0o644, Size: 6, Hardlink: hardlink},
			Source: src, SourcePath: "z",
		}
	}
	want := write(t, newLayers(t), []view.Change{name("a", ""), name("m", "a"), name("z", "a")}, AsBlob)
	for _, changes := range [][]view.Change{
		{name("a", "z"), name("m", "z"), name("z", "")},
		{name("a", "m"), name("m", ""), name("z", "m")},
		{name("a", "elsewhere"), name("m", "elsewhere"), name("z", "elsewhere")},
	} {
		before := slices.Clone(changes)
		if got := write(t, newLayers(t), changes, AsTree); got.DiffID != want.DiffID {
			t.Errorf("links %v give another layer", changes)
		}
		if !slices.EqualFunc(before, changes, func(a, b view.Change) bool { return a.Entry == b.Entry }) {
			t.Error("the caller's changes were changed")
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	l := newLayers(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Write(ctx, sampleChanges(), AsBlob); err == nil {
		t.Error("no error")
	}
	wantNothing(t, l)
}

// What was known of a layer before the store was used is read again: another process may have removed the layer since.
func TestGetOfALayerThatWasRemovedBeforeUse(t *testing.T) {
	l := newLayers(t)
	made := write(t, l, sampleChanges(), AsBlob)
	other, err := store.Open(l.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	w, err := other.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = New(other).Discard(w, made.DiffID)
	_, endErr := w.End(t.Context())
	use, useErr := l.store.Use(t.Context())
	if err := errors.Join(err, endErr, useErr); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Get(made.DiffID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the layer is still known: %v", err)
	}
	if err := use.End(); err != nil {
		t.Error(err)
	}
}
