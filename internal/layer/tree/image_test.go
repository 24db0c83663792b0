package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// TestImageOfEverything: an image has owners, devices, whiteouts and attributes, whoever makes it.
func TestImageOfEverything(t *testing.T) {
	t.Parallel()
	at := time.Unix(1<<33, 999).UTC()
	device := func(name string, kind view.Type, major, minor int64) *view.Entry {
		return &view.Entry{Path: name, Type: kind, Mode: 0o620, UID: 1, GID: 5, ModTime: at, Major: major, Minor: minor}
	}
	link := device("z", view.TypeBlock, 8, 1)
	link.Hardlink = "b"
	symlink := &view.Entry{Path: "s", Type: view.TypeSymlink, Mode: 0o777, UID: 7, Linkname: strings.Repeat("a/", 1000), ModTime: at}
	entries := []*view.Entry{
		device("b", view.TypeBlock, 8, 1), device("c", view.TypeChar, 300, 70_000),
		{Path: "d", Type: view.TypeDir, Mode: 0o1777, UID: 1 << 30, GID: 1 << 31, ModTime: at, Opaque: true, Xattrs: map[string]string{"user.a": "1"}},
		{Path: "d/p", Type: view.TypeFifo, Mode: 0o600, ModTime: at, Xattrs: map[string]string{"security.selinux": "x", "trusted.b": "\x00"}},
		{Path: "gone", Type: view.TypeWhiteout}, symlink, link,
	}
	h := hosts()[ImageName]
	dir := write(t, h, entries)
	tree, err := h.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	got, err := tree.Walk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(entries, got); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if e, err := tree.Lstat("d"); err != nil || !e.Opaque {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := tree.Lstat("gone"); err != nil || e.Type != view.TypeWhiteout {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := tree.Lstat("d/no"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree.Walk(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	for name, change := range map[string]func(e *view.Entry){
		"owner":  func(e *view.Entry) { e.UID++ },
		"device": func(e *view.Entry) { e.Minor++ },
		"kind":   func(e *view.Entry) { e.Type = view.TypeBlock },
		"mode":   func(e *view.Entry) { e.Mode = 0 },
	} {
		other := make([]*view.Entry, len(entries))
		for i, e := range entries {
			other[i] = e.Clone()
		}
		change(other[1])
		if err := h.Verify(t.Context(), dir, Check{Table: table(other), Contents: true}); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := h.Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); err != nil {
		t.Error(err)
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	w := &imageWriter{host: nestedHost(false)}
	for name, c := range map[string]struct {
		entry view.Entry
		want  erofs.Node
	}{
		"file":       {view.Entry{Type: view.TypeRegular, Mode: 0o4755, UID: 1, GID: 2, ModTime: testTime}, erofs.Node{Mode: unix.S_IFREG | 0o4755, UID: 1, GID: 2, Seconds: testTime.Unix(), Nanoseconds: 123456789}},
		"no time":    {view.Entry{Type: view.TypeDir, Mode: 0o700}, erofs.Node{Mode: unix.S_IFDIR | 0o700}},
		"symlink":    {view.Entry{Type: view.TypeSymlink, Mode: 0o1}, erofs.Node{Mode: unix.S_IFLNK | 0o777}},
		"device":     {view.Entry{Type: view.TypeBlock, Mode: 0o600, Major: 8, Minor: 17}, erofs.Node{Mode: unix.S_IFBLK | 0o600, Device: unix.Mkdev(8, 17)}},
		"whiteout":   {view.Entry{Type: view.TypeWhiteout, Mode: 0o600, UID: 4}, erofs.Node{Mode: unix.S_IFCHR}},
		"opaque":     {view.Entry{Type: view.TypeDir, Mode: 0o755, Opaque: true}, erofs.Node{Mode: unix.S_IFDIR | 0o755, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}},
		"attributes": {view.Entry{Type: view.TypeFifo, Xattrs: map[string]string{"user.a": "1"}}, erofs.Node{Mode: unix.S_IFIFO, Xattrs: map[string]string{"user.a": "1"}}},
	} {
		if diff := cmp.Diff(c.want, w.node(&c.entry)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// What an image cannot hold is left out, and noted once.
	e := &view.Entry{Type: view.TypeRegular, Xattrs: map[string]string{"user.ok": "1", "user.long": strings.Repeat("x", 1<<17)}}
	for range 2 {
		if got := w.xattrs(e); !cmp.Equal(got, map[string]string{"user.ok": "1"}) {
			t.Errorf("%d attributes", len(got))
		}
	}
	if notes := w.host.Notes(); len(notes) != 1 || !strings.HasPrefix(notes[0], "extended attribute user.long ") || len(e.Xattrs) != 2 {
		t.Errorf("%q, %d", notes, len(e.Xattrs))
	}
}

func TestWriteErrorsOfImages(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"write f: a fault": errors.New("a fault"),
		"write f: no space left on device": &fs.PathError{
			Op: "write", Path: "/store/tree.erofs", Err: unix.ENOSPC,
		},
	} {
		if got := writeError("f", err); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if err := writeError("f", erofs.ErrUnsupported); !errors.Is(err, erofs.ErrUnsupported) || !strings.Contains(err.Error(), "MICA_TREES=directories") {
		t.Errorf("%v", err)
	}
	if err := damagedImage(erofs.ErrDamaged); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
	if err := damagedImage(fs.ErrNotExist); errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestWhichTree: a directory is used before an image, and an image only where it can be mounted.
func TestWhichTree(t *testing.T) {
	t.Parallel()
	dir := write(t, hosts()[ImageName], nil)
	if got := Find(dir); got != filepath.Join(dir, ImageName) {
		t.Errorf("%s", got)
	}
	if err := os.Mkdir(filepath.Join(dir, DirectoryName), 0o755); err != nil {
		t.Fatal(err)
	}
	for kind, h := range hosts() {
		want := filepath.Join(dir, DirectoryName)
		if Find(dir) != want || h.Mountable(dir) != want {
			t.Errorf("%s: %s, %s", kind, Find(dir), h.Mountable(dir))
		}
		tree, err := h.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := tree.(*directory); !ok {
			t.Errorf("%s: %T", kind, tree)
		}
		tree.Close()
	}
	if got := Find(t.TempDir()); got != "" {
		t.Errorf("%s", got)
	}
	if got := hosts()[ImageName].Mountable(t.TempDir()); got != "" {
		t.Errorf("%s", got)
	}
}

func TestVerifyErrors(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	for kind, h := range hosts() {
		if err := h.Verify(t.Context(), t.TempDir(), Check{Table: table(nil)}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: without a tree: %v", kind, err)
		}
		dir := write(t, h, sample())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Verify(ctx, dir, Check{Table: table(sample()), Contents: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: canceled: %v", kind, err)
		}
		extra := append(sample(), own("x", view.TypeDir, 0o755))
		if err := h.Verify(t.Context(), dir, Check{Table: table(extra)}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), `"x" is not as it was`) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a directory is missing: %v", kind, err)
		}
		if err := h.Verify(t.Context(), dir, Check{Table: table(sample()[:4]), Contents: true}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), `"e" is not as it was`) {
			t.Errorf("%s: there is more: %v", kind, err)
		}
	}
	h := hosts()[ImageName]
	dir := write(t, h, sample())
	image := filepath.Join(dir, ImageName)
	setLabel(t, image, "another boot 12")
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(image, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	err := h.Verify(t.Context(), dir, Check{Table: table(sample()), Replaceable: func() (bool, error) { return false, fault }})
	if !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
}

// TestVerifyNested: what a user namespace could not represent is not missed.
func TestVerifyNested(t *testing.T) {
	t.Parallel()
	dir := write(t, nestedHost(false), sample())
	entries := sample()
	entries[1].UID, entries[1].GID = 12345, 54321
	entries[1].Xattrs = map[string]string{"security.capability": "x"}
	entries = append(entries, &view.Entry{Path: "zero", Type: view.TypeChar, Mode: 0o666, Major: 1, Minor: 5})
	if err := nestedHost(true).Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); err != nil {
		t.Error(err)
	}
	if err := nestedHost(false).Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
	entries[1].Digest = digest.FromString("other")
	if err := nestedHost(true).Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	base := func() *view.Entry {
		return &view.Entry{Type: view.TypeRegular, Mode: 0o600, UID: 1, GID: 2, Size: 3, ModTime: testTime, Xattrs: map[string]string{"a": "b"}}
	}
	for name, c := range map[string]struct {
		change       func(e *view.Entry)
		same, nested bool
	}{
		"nothing":    {func(*view.Entry) {}, true, true},
		"type":       {func(e *view.Entry) { e.Type = view.TypeFifo }, false, false},
		"mode":       {func(e *view.Entry) { e.Mode = 0o644 }, false, false},
		"user":       {func(e *view.Entry) { e.UID = 9 }, false, true},
		"group":      {func(e *view.Entry) { e.GID = 9 }, false, true},
		"size":       {func(e *view.Entry) { e.Size = 9 }, false, false},
		"time":       {func(e *view.Entry) { e.ModTime = testTime.Add(time.Hour) }, false, false},
		"attributes": {func(e *view.Entry) { e.Xattrs = nil }, false, true},
		"opaque":     {func(e *view.Entry) { e.Opaque = true }, false, false},
		"hard link":  {func(e *view.Entry) { e.Hardlink = "x" }, false, false},
		"target":     {func(e *view.Entry) { e.Linkname = "x" }, false, false},
		"major":      {func(e *view.Entry) { e.Major = 9 }, false, false},
		"minor":      {func(e *view.Entry) { e.Minor = 9 }, false, false},
	} {
		have := base()
		c.change(have)
		if got := nestedHost(false).same(have, base()); got != c.same {
			t.Errorf("another %s: %t", name, got)
		}
		if got := nestedHost(true).same(have, base()); got != c.nested {
			t.Errorf("another %s, nested: %t", name, got)
		}
	}
	white := &view.Entry{Type: view.TypeWhiteout}
	if !nestedHost(false).same(white, &view.Entry{Type: view.TypeWhiteout, UID: 4}) {
		t.Error("a whiteout has an owner")
	}
}

// TestBatcherEnds: what is discarded is not made, and a batcher ends with its context.
func TestBatcherEnds(t *testing.T) {
	t.Parallel()
	w, err := nestedHost(false).Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := NewBatcher(t.Context(), w)
	if err := b.MakeDir("d"); err != nil {
		t.Error(err)
	}
	if _, err := b.Small(own("d/discarded", view.TypeRegular, 0o600)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := b.Discard(); err != nil {
			t.Error(err)
		}
	}
	b.Close()
	if names, err := os.ReadDir(filepath.Join(w.Path(), "d")); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b = NewBatcher(ctx, w)
	defer b.Close()
	for err = nil; err == nil; {
		_, err = b.Small(own("f", view.TypeRegular, 0o600))
	}
	if !errors.Is(err, context.Canceled) || b.Context().Err() == nil {
		t.Errorf("%v", err)
	}
}
