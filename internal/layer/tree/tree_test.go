package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/erofs"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// hosts are a host of each kind of tree.
func hosts() map[string]*Host {
	return map[string]*Host{
		DirectoryName: NewHost(func() bool { return false }),
		ImageName:     NewHost(func() bool { return true }),
	}
}

var testTime = time.Unix(1700000000, 123456789).UTC()

// content is what the file called name has.
func content(name string) string {
	if name == "d/large" {
		return strings.Repeat(name, LargeFile/len(name)+1)
	}
	return name
}

// sample is what a user without privileges can make, sorted by path.
func sample() []*view.Entry {
	entry := func(name string, kind view.Type, mode uint32) *view.Entry {
		return &view.Entry{Path: name, Type: kind, Mode: mode, UID: os.Getuid(), GID: os.Getgid(), ModTime: testTime}
	}
	file := func(name string, mode uint32) *view.Entry {
		e := entry(name, view.TypeRegular, mode)
		e.Size, e.Digest = int64(len(content(name))), digest.FromString(content(name))
		return e
	}
	link := file("d/a", 0o640)
	link.Path, link.Hardlink = "l", "d/a"
	symlink := entry("s", view.TypeSymlink, 0o777)
	symlink.Linkname = "d/a"
	return []*view.Entry{
		entry("d", view.TypeDir, 0o1777), file("d/a", 0o640), file("d/b", 0o755), file("d/large", 0o600),
		entry("e", view.TypeDir, 0o700), link, entry("p", view.TypeFifo, 0o600), symlink,
	}
}

// table is the table of contents of entries, whose contents are everywhere.
func table(entries []*view.Entry) *toc.Table {
	return &toc.Table{Entries: entries, Places: make([]toc.Place, len(entries))}
}

// write makes a tree in a new directory, and returns that.
func write(t testing.TB, h *Host, entries []*view.Entry) string {
	t.Helper()
	dir := t.TempDir()
	w, err := h.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dirs := []*view.Entry{{Path: ".", Type: view.TypeDir, Mode: 0o755, UID: os.Getuid(), GID: os.Getgid()}}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, e)
		}
	}
	if err := MakeDirs(w, dirs, nil); err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(t.Context(), w, entries); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(entries, dirs); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFiles(ctx context.Context, w Writer, entries []*view.Entry) error {
	b := NewBatcher(ctx, w)
	defer b.Close()
	for _, e := range entries {
		if e.Type != view.TypeRegular || e.Hardlink != "" {
			continue
		}
		if e.Size < LargeFile {
			data, err := b.Small(e)
			if err != nil {
				return err
			}
			copy(data, content(e.Path))
			continue
		}
		f, err := b.Large(e)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, content(e.Path))
		if err := CloseFile(f, err); err != nil {
			return err
		}
	}
	return b.Wait()
}

func TestRead(t *testing.T) {
	t.Parallel()
	for kind, h := range hosts() {
		dir := write(t, h, sample())
		if path := Find(dir); path != filepath.Join(dir, kind) || h.Mountable(dir) != path {
			t.Errorf("the tree of kind %s is %s, and %s can be mounted", kind, path, h.Mountable(dir))
		}
		tree, err := h.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		got, err := tree.Walk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := sample()
		for _, e := range want {
			e.Digest = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", kind, diff)
		}
		for _, name := range []string{"d/a", "d/large", "l"} {
			f, err := tree.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(f)
			if name == "l" {
				name = "d/a"
			}
			if err != nil || string(data) != content(name) {
				t.Errorf("%s of %s: %d bytes, %v", name, kind, len(data), err)
			}
			_ = f.Close()
		}
		if _, err := tree.Open("d/c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file that does not exist: %v", kind, err)
		}
		if e, err := tree.Lstat("d"); err != nil || !e.IsDir() || e.Mode != 0o1777 {
			t.Errorf("%s: %+v, %v", kind, e, err)
		}
	}
}

func TestOpenNothing(t *testing.T) {
	t.Parallel()
	for kind, h := range hosts() {
		if _, err := h.Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if path := hosts()[DirectoryName].Mountable(write(t, hosts()[ImageName], nil)); path != "" {
		t.Errorf("an image can be mounted where none can: %s", path)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for kind, h := range hosts() {
		dir := write(t, h, sample())
		for _, contents := range []bool{false, true} {
			if err := h.Verify(t.Context(), dir, Check{Table: table(sample()), Contents: contents}); err != nil {
				t.Errorf("%s, contents %v: %v", kind, contents, err)
			}
		}
		for name, change := range map[string]func(e *view.Entry){
			"mode": func(e *view.Entry) { e.Mode ^= 1 },
			"time": func(e *view.Entry) { e.ModTime = e.ModTime.Add(time.Second) },
			"type": func(e *view.Entry) { e.Type = view.TypeFifo },
			"size": func(e *view.Entry) { e.Size++ },
		} {
			entries := sample()
			change(entries[2])
			if err := h.Verify(t.Context(), dir, Check{Table: table(entries)}); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s: another %s: %v", kind, name, err)
			}
		}
		for name, change := range map[string]func(e *view.Entry){
			"owner":  func(e *view.Entry) { e.UID++ },
			"digest": func(e *view.Entry) { e.Digest = digest.FromString("another") },
		} {
			entries := sample()
			change(entries[2])
			if err := h.Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); !errors.Is(err, store.ErrDamaged) && (name == "digest" || !h.Nested()) {
				t.Errorf("%s: another %s: %v", kind, name, err)
			}
		}
	}
}

// TestVerifyDirectory changes what anybody who can write there could.
func TestVerifyDirectory(t *testing.T) {
	t.Parallel()
	h := hosts()[DirectoryName]
	for name, tt := range map[string]struct {
		hurt func(tree string) error
		seen bool // without reading contents
	}{
		"removed":   {func(tree string) error { return os.Remove(filepath.Join(tree, "d/b")) }, true},
		"added":     {func(tree string) error { return os.WriteFile(filepath.Join(tree, "e/new"), nil, 0o600) }, true},
		"truncated": {func(tree string) error { return os.Truncate(filepath.Join(tree, "d/b"), 1) }, true},
		"replaced": {func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "p")), os.Symlink("d", filepath.Join(tree, "p")))
		}, true},
		"other content": {func(tree string) error {
			file := filepath.Join(tree, "d/b")
			return errors.Join(os.WriteFile(file, []byte("ddd"), 0o600), os.Chtimes(file, testTime, testTime))
		}, false},
	} {
		dir := write(t, h, sample())
		if err := tt.hurt(filepath.Join(dir, DirectoryName)); err != nil {
			t.Fatal(err)
		}
		for _, contents := range []bool{false, true} {
			err := h.Verify(t.Context(), dir, Check{Table: table(sample()), Contents: contents})
			if want := tt.seen || contents; errors.Is(err, store.ErrDamaged) != want {
				t.Errorf("%s, contents %v: %v", name, contents, err)
			}
		}
	}
}

// setLabel writes an image's label: where it is in the superblock is in erofs_fs.h.
func setLabel(t *testing.T, image, label string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(label), 1024+64)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func labelOf(t *testing.T, image string) erofs.Label {
	t.Helper()
	m, err := erofs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	return m.Label()
}

func TestDurability(t *testing.T) {
	t.Parallel()
	h := hosts()[ImageName]
	dir := write(t, h, sample())
	image := filepath.Join(dir, ImageName)
	verify := func(replaceable bool) error {
		return h.Verify(t.Context(), dir, Check{Table: table(sample()), Replaceable: func() (bool, error) { return replaceable, nil }})
	}
	if err := verify(true); err != nil || labelOf(t, image) != bootID() {
		t.Errorf("just made: %x, %v", labelOf(t, image), err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(image, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	if err := verify(true); err != nil || labelOf(t, image) != (erofs.Label{}) {
		t.Errorf("an hour old: %x, %v", labelOf(t, image), err)
	}
	setLabel(t, image, "another boot 12")
	if err := verify(true); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("of another boot, replaceable: %v", err)
	}
	if err := verify(false); err != nil || labelOf(t, image) != (erofs.Label{}) {
		t.Errorf("of another boot, whole: %x, %v", labelOf(t, image), err)
	}
	setLabel(t, image, "another boot 12")
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(data), strings.Repeat("d/large", 100))
	copy(data[at:], make([]byte, 100))
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(false); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("of another boot, with other content: %v", err)
	}
}

func TestDamagedImage(t *testing.T) {
	t.Parallel()
	h := hosts()[ImageName]
	dir := write(t, h, sample())
	if err := os.Truncate(filepath.Join(dir, ImageName), 0); err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(t.Context(), dir, Check{Table: table(sample())}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

func TestBatcher(t *testing.T) {
	t.Parallel()
	var entries []*view.Entry
	for i := range 3*batchFiles + 1 {
		name := fmt.Sprintf("%04d", i)
		entries = append(entries, &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o600, UID: os.Getuid(), GID: os.Getgid(), Size: 4, ModTime: testTime, Digest: digest.FromString(name)})
	}
	for kind, h := range hosts() {
		dir := write(t, h, entries)
		if err := h.Verify(t.Context(), dir, Check{Table: table(entries), Contents: true}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestBatcherFails: the error of a file is that of the batches after it.
func TestBatcherFails(t *testing.T) {
	t.Parallel()
	h := hosts()[DirectoryName]
	w, err := h.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := NewBatcher(t.Context(), w)
	defer b.Close()
	for err == nil {
		_, err = b.Small(&view.Entry{Path: "no/such/directory", Type: view.TypeRegular})
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	for year, kept := range map[int]bool{1: false, 1901: false, 1902: true, 1970: true, 2400: true, 2401: false, 9999: false} {
		at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		want := at
		if !kept {
			want = time.Unix(0, 0).UTC()
		}
		if got := Time(at); got != want {
			t.Errorf("%d becomes %v", year, got)
		}
	}
}

func TestSameTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		have, want time.Time
		same       bool
	}{
		"equal":            {testTime, testTime, true},
		"another":          {testTime.Add(time.Second), testTime, false},
		"whole seconds":    {testTime.Truncate(time.Second), testTime, true},
		"other nanosecond": {testTime.Add(1), testTime, false},
		"unknown":          {testTime, time.Time{}, true},
		"not kept":         {testTime, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), true},
	} {
		if got := sameTime(tt.have, tt.want); got != tt.same {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestXattrs: overlayfs's attributes are those of the entries, and its redirects are refused.
func TestXattrs(t *testing.T) {
	t.Parallel()
	h := NewHost(nil)
	for name, tt := range map[string]struct {
		attrs  map[string]string
		want   []string
		opaque bool
		fails  bool
	}{
		"own":      {map[string]string{"user.a": "1"}, []string{"user.a"}, false, false},
		"opaque":   {map[string]string{h.OverlayXattr("opaque"): "y", "user.a": "1"}, []string{"user.a"}, true, false},
		"origin":   {map[string]string{h.OverlayXattr("origin"): "x"}, nil, false, false},
		"redirect": {map[string]string{h.OverlayXattr("redirect"): "/d"}, nil, false, true},
		"metacopy": {map[string]string{h.OverlayXattr("metacopy"): ""}, nil, false, true},
	} {
		e := &view.Entry{Path: "d", Type: view.TypeDir}
		err := h.takeXattrs(e, tt.attrs)
		if (err != nil) != tt.fails || e.Opaque != tt.opaque || !tt.fails && !slices.Equal(slices.Sorted(maps.Keys(e.Xattrs)), tt.want) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}
