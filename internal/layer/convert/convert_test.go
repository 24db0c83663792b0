package convert

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

var testTime = time.Unix(1700000000, 123456789).UTC()

func entry(name string, kind view.Type) *view.Entry {
	return &view.Entry{Path: name, Type: kind, Mode: 0o640, UID: os.Getuid(), GID: os.Getgid(), ModTime: testTime}
}

// changes are files whose contents are given by their names; a directory ends with a slash, and "l>f" is a hard link.
func changes(contents map[string]string, names ...string) []view.Change {
	files := map[string][]byte{}
	for name, content := range contents {
		files[name] = []byte(content)
	}
	source := view.Files(files)
	var list []view.Change
	for _, name := range names {
		c := view.Change{Entry: entry(name, view.TypeRegular), Source: source, SourcePath: name}
		switch {
		case strings.HasSuffix(name, "/"):
			c = view.Change{Entry: entry(strings.TrimSuffix(name, "/"), view.TypeDir)}
			c.Entry.Mode = 0o755
		case strings.Contains(name, ">"):
			c.Entry.Path, c.Entry.Hardlink, _ = strings.Cut(name, ">")
			c.Source, c.Entry.Size = nil, int64(len(contents[c.Entry.Hardlink]))
		default:
			c.Entry.Size = int64(len(contents[name]))
		}
		list = append(list, c)
	}
	return list
}

// sample is small files, enough for several batches, and a large one.
func sample() []view.Change {
	contents := map[string]string{"d/large": strings.Repeat("0123456789", 200_000), "z": "last", "empty": ""}
	names := []string{"d/", "d/large", "z", "empty", "a>z"}
	for i := range 600 {
		name := fmt.Sprintf("d/%04d", i)
		contents[name] = strings.Repeat(name, i)
		names = append(names, name)
	}
	return changes(contents, names...)
}

func hosts() map[string]*tree.Host {
	return map[string]*tree.Host{
		"directory": tree.NewHost(func() bool { return false }),
		"image":     tree.NewHost(func() bool { return true }),
	}
}

// record writes the tar of changes and returns it with its table of contents.
func record(t testing.TB, list []view.Change) ([]byte, *toc.Table) {
	t.Helper()
	list, err := Prepare(list)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	r := FromChanges(list)
	if err := r.WriteTar(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	if r.Size() != int64(buf.Len()) {
		t.Errorf("the size is %d of %d", r.Size(), buf.Len())
	}
	id := digest.FromBytes(buf.Bytes())
	file, _ := r.Table(id)
	table, err := toc.Decode(file, id)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), table
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	contents := map[string]string{"f": "x", "b": "x"}
	for name, tt := range map[string]struct {
		names []string
		want  string
	}{
		"order":                        {[]string{"f", "b"}, "b f"},
		"a link before its file":       {[]string{"f", "a>f"}, "a f>a"},
		"three names":                  {[]string{"c>f", "f", "a>f"}, "a c>a f>a"},
		"a link to nothing":            {[]string{"a>b"}, "is not among the changes"},
		"twice":                        {[]string{"f", "f"}, "is there twice"},
		"a name that marks a removal":  {[]string{".wh.f/"}, "names that begin with .wh."},
		"a name that is not canonical": {[]string{"a/../f/"}, "is not a name in a layer"},
	} {
		got, err := Prepare(changes(contents, tt.names...))
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var have []string
		for _, c := range got {
			word := c.Entry.Path
			if c.Entry.Hardlink != "" {
				word += ">" + c.Entry.Hardlink
			} else if c.Source == nil {
				t.Errorf("%s: %s has no content", name, word)
			}
			have = append(have, word)
		}
		if strings.Join(have, " ") != tt.want {
			t.Errorf("%s: %v, want %s", name, have, tt.want)
		}
	}
}

// TestFormsAgree: each form gives the table of contents and the tar that the files gave.
func TestFormsAgree(t *testing.T) {
	t.Parallel()
	data, table := record(t, sample())
	parsed, err := Parse(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, "Parse", parsed, table)
	root, err := index.FromTable(table)
	if err != nil {
		t.Fatal(err)
	}
	for kind, h := range hosts() {
		makers := map[string]func(w tree.Writer) error{
			"Skim": func(w tree.Writer) error {
				parsed, err := Skim(t.Context(), bytes.NewReader(data), w)
				if err == nil && !parsed.Unpacked {
					err = errors.New("it is not unpacked")
				}
				return err
			},
			"Extract": func(w tree.Writer) error { return Extract(t.Context(), w, bytes.NewReader(data), root) },
			"WriteTree": func(w tree.Writer) error {
				list, err := Prepare(sample())
				if err != nil {
					return err
				}
				id, err := FromChanges(list).WriteTree(t.Context(), w)
				if err == nil && id != table.DiffID {
					err = fmt.Errorf("its DiffID is %s", id)
				}
				return err
			},
		}
		for name, make := range makers {
			dir := t.TempDir()
			w, err := h.Create(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := make(w); err != nil {
				t.Errorf("%s by %s: %v", kind, name, err)
				continue
			}
			if err := h.Verify(t.Context(), dir, tree.Check{Table: table, Contents: true}); err != nil {
				t.Errorf("%s by %s: %v", kind, name, err)
			}
			stored, err := h.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer stored.Close()
			if id, err := FromTable(table, stored).DiffID(t.Context()); err != nil || id != table.DiffID {
				t.Errorf("%s by %s: its table gives the tar %s, %v", kind, name, id, err)
			}
			r, err := FromTree(t.Context(), stored)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := r.DiffID(t.Context()); err != nil || id != table.DiffID {
				t.Errorf("%s by %s: its tree gives the tar %s, %v", kind, name, id, err)
			}
		}
	}
}

func wantTable(t *testing.T, name string, parsed *Parsed, want *toc.Table) {
	t.Helper()
	file, _ := parsed.Finish(want.DiffID)
	got, err := toc.Decode(file, want.DiffID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Entries, got.Entries); diff != "" || parsed.Size != want.TarSize {
		t.Errorf("%s: %d bytes (-want +got):\n%s", name, parsed.Size, diff)
	}
}

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Mode, h.Uid, h.Gid = 0o700, os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestSkimGivesUp: a tar whose files are not known until its end makes no tree on the way.
func TestSkimGivesUp(t *testing.T) {
	t.Parallel()
	file := func(name string) tar.Header { return tar.Header{Name: name, Size: 3} }
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	link := tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d"}
	for name, tt := range map[string]struct {
		headers []tar.Header
		whole   bool
	}{
		"in order":              {[]tar.Header{dir("d"), file("d/f"), link}, true},
		"implied directories":   {[]tar.Header{file("a/b/c/f")}, true},
		"a file twice":          {[]tar.Header{file("f"), file("f")}, false},
		"a directory over it":   {[]tar.Header{file("f"), dir("f"), file("f/g")}, false},
		"through a symlink":     {[]tar.Header{dir("d"), link, file("s/f")}, false},
		"a symlink over a file": {[]tar.Header{file("s"), link}, false},
		"a link with own owner": {[]tar.Header{file("f"), {Name: "l", Typeflag: tar.TypeLink, Linkname: "f", ModTime: testTime}}, false},
	} {
		for kind, h := range hosts() {
			w, err := h.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := Skim(t.Context(), bytes.NewReader(tarOf(t, tt.headers...)), w)
			if err != nil || parsed.Unpacked != tt.whole {
				t.Errorf("%s, %s: %+v, %v", name, kind, parsed, err)
			}
			w.Close()
		}
	}
}

// TestChangedFiles: a file that is not what its entry says is an error, of small files and large ones.
func TestChangedFiles(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 3 << 20} {
		contents := map[string]string{"f": strings.Repeat("x", size)}
		for name, change := range map[string]func(e *view.Entry){
			"shorter": func(e *view.Entry) { e.Size++ },
			"other":   func(e *view.Entry) { e.Digest = digest.FromString("another") },
		} {
			list := changes(contents, "f")
			change(list[0].Entry)
			err := FromChanges(list).WriteTar(t.Context(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), `"f" changed while it was being read`) {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	data, _ := record(t, changes(map[string]string{"f": "x"}, "f"))
	if err := FromChanges(changes(map[string]string{"f": "x"}, "f")).WriteTar(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v", err)
	}
	if _, err := Parse(ctx, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("parse: %v", err)
	}
}

// TestExtractEndsEarly: a tar that lacks what its table of contents says is not the layer's.
func TestExtractEndsEarly(t *testing.T) {
	t.Parallel()
	data, table := record(t, changes(map[string]string{"a": "1", "b": strings.Repeat("2", 2000)}, "a", "b"))
	root, err := index.FromTable(table)
	if err != nil {
		t.Fatal(err)
	}
	for kind, h := range hosts() {
		w, err := h.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := Extract(t.Context(), w, bytes.NewReader(data[:2000]), root); !errors.Is(err, toc.ErrDamaged) {
			t.Errorf("%s: %v", kind, err)
		}
		w.Close()
	}
}
