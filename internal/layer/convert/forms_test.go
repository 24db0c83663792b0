package convert

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// words describes a table of contents: "d/" a directory, "!d/" an opaque one, "f:n" a file of n bytes, "l>f", "s@t", "-f" a removal.
func words(table *toc.Table) string {
	var list []string
	for i, e := range table.Entries {
		word := e.Path
		switch {
		case e.Type == view.TypeWhiteout:
			word = "-" + word
		case e.Hardlink != "":
			word += ">" + e.Hardlink
		case e.Type == view.TypeSymlink:
			word += "@" + e.Linkname
		case e.IsDir():
			word += "/"
		case e.Type == view.TypeRegular:
			word += ":" + string(rune('0'+e.Size))
		default:
			word += "?"
		}
		if e.Opaque {
			word = "!" + word
		}
		if table.Places[i].Implied {
			word = "(" + word + ")"
		}
		list = append(list, word)
	}
	return strings.Join(list, " ")
}

// parsed returns the table of contents of a tar.
func parsed(t *testing.T, data []byte) *toc.Table {
	t.Helper()
	p, err := Parse(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	id := digest.FromBytes(data)
	file, _ := p.Finish(id)
	table, err := toc.Decode(file, id)
	if err != nil {
		t.Fatal(err)
	}
	if p.Size != int64(len(data)) {
		t.Errorf("read %d of %d bytes", p.Size, len(data))
	}
	return table
}

// TestOddTars: what the table of contents of a tar has, and that a tree made of it while it is read, or by its table, is the table's.
func TestOddTars(t *testing.T) {
	t.Parallel()
	file := func(name string, size int64) tar.Header { return tar.Header{Name: name, Size: size} }
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	link := func(name, to string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to} }
	symlink := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	for name, c := range map[string]struct {
		headers []tar.Header
		want    string
		root    bool // its tree has whiteouts, or directories of root
	}{
		"nothing":                     {nil, "", false},
		"in order":                    {[]tar.Header{dir("d"), file("d/f", 3), symlink("s", "d/f")}, "d/ d/f:3 s@d/f", false},
		"implied":                     {[]tar.Header{file("a/b/f", 3)}, "a/b/f:3", true},
		"empty":                       {[]tar.Header{file("f", 0)}, "f:0", false},
		"twice":                       {[]tar.Header{file("f", 1), file("g", 2), file("f", 3)}, "g:2 f:3", false},
		"through a symlink":           {[]tar.Header{dir("d"), symlink("s", "/d"), file("s/f", 1)}, "d/ s@/d d/f:1", false},
		"through one out of the root": {[]tar.Header{symlink("s", "../../etc"), file("s/f", 1)}, "s@../../etc etc/f:1", true},
		"hard links":                  {[]tar.Header{file("f", 3), link("l", "f"), link("m", "./l")}, "f:3 l>f m>f", false},
		"a hard link over its file":   {[]tar.Header{file("f", 3), link("l", "f"), file("f", 1)}, "l:3 f:1", false},
		"AUFS":                        {[]tar.Header{dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", 3), link("f", ".wh..wh.plnk/1.2"), link("g", ".wh..wh.plnk/1.2"), file(".wh..wh.aufs", 0)}, "f:3 g>f", false},
		"a removal":                   {[]tar.Header{file("d/.wh.f", 0), file("g", 1)}, "-d/f g:1", true},
		"an opaque directory":         {[]tar.Header{dir("d"), file("d/.wh..wh..opq", 0), file("d/f", 1)}, "!d/ d/f:1", true},
		"a removal and a file":        {[]tar.Header{file(".wh.f", 0), file("f", 1)}, "f:1", false},
		"a directory over a file":     {[]tar.Header{file("f", 1), dir("f"), file("f/g", 2)}, "f/ f/g:2", false},
		"a file over a directory":     {[]tar.Header{dir("d"), file("d/f", 1), file("d", 2)}, "d:2", false},
		"global records":              {[]tar.Header{{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "commit"}}, file("f", 1)}, "f:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			for _, h := range c.headers {
				if h.Typeflag != tar.TypeXGlobalHeader {
					h.Mode, h.Uid, h.Gid, h.ModTime = 0o700, os.Getuid(), os.Getgid(), time.Unix(5, 0)
				}
				if err := errors.Join(w.WriteHeader(&h), fill(w, h.Size)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			table := parsed(t, buf.Bytes())
			if got := words(table); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for kind, h := range hosts() {
				if c.root && kind == "directory" && os.Getuid() != 0 {
					continue
				}
				testTrees(t, h, buf.Bytes(), table)
			}
		})
	}
}

func fill(w io.Writer, n int64) error {
	_, err := io.WriteString(w, strings.Repeat("x", int(n)))
	return err
}

// testTrees makes the tree of a tar by its table of contents and, where that can be, while the tar is read.
func testTrees(t *testing.T, h *tree.Host, data []byte, table *toc.Table) {
	t.Helper()
	root, err := index.FromTable(table)
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(w tree.Writer) (bool, error){
		"Extract": func(w tree.Writer) (bool, error) { return true, Extract(t.Context(), w, bytes.NewReader(data), root) },
		"Skim": func(w tree.Writer) (bool, error) {
			p, err := Skim(t.Context(), bytes.NewReader(data), w)
			return err == nil && p.Unpacked, err
		},
	} {
		dir := t.TempDir()
		w, err := h.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := make(w)
		w.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !whole {
			continue
		}
		if err := h.Verify(t.Context(), dir, tree.Check{Table: table, Contents: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTimesOfTars: a time that not every filesystem can hold is 1970, in the table as in the tree.
func TestTimesOfTars(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ at, want time.Time }{
		{time.Unix(5, 0), time.Unix(5, 0)}, {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, 0)}, {time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(0, 0)},
	} {
		table := parsed(t, tarOf(t, tar.Header{Name: "f", ModTime: c.at, Format: tar.FormatPAX}))
		if got := table.Entries[0].ModTime; !got.Equal(c.want) {
			t.Errorf("%v becomes %v", c.at, got)
		}
	}
}

// TestSkimWithoutDigests: the table of a layer that arrives has no digests, and the same entries otherwise.
func TestSkimWithoutDigests(t *testing.T) {
	t.Parallel()
	data := tarOf(t, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/f", Size: 5}, tar.Header{Name: "e"})
	want := parsed(t, data)
	p, err := Skim(t.Context(), bytes.NewReader(data), nil)
	if err != nil || p.Unpacked || p.Size != int64(len(data)) {
		t.Fatalf("%+v, %v", p, err)
	}
	file, sum := p.Finish(want.DiffID)
	got, err := toc.Decode(file, want.DiffID)
	if err != nil || !sum.Undigested {
		t.Fatalf("%+v, %v", sum, err)
	}
	for i, e := range want.Entries {
		if e.Size > 0 {
			e.Digest = ""
		}
		if diff := cmp.Diff(e, got.Entries[i]); diff != "" {
			t.Error(diff)
		}
	}
}

// TestTarsThatEnd: reading ends with the tar, whatever is being written then.
func TestTarsThatEnd(t *testing.T) {
	t.Parallel()
	data := tarOf(t, tar.Header{Name: "small", Size: 1000}, tar.Header{Name: "large", Size: 3 << 20})
	for kind, h := range hosts() {
		for _, n := range []int{600, 1500, 2500, 1 << 20, len(data) - 2000} {
			w, err := h.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			_, err = Skim(t.Context(), bytes.NewReader(data[:n]), w)
			if err == nil || !strings.HasSuffix(err.Error(), "tar ends too early") {
				t.Errorf("%s, %d bytes: %v", kind, n, err)
			}
			w.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w, err := h.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Skim(ctx, bytes.NewReader(data), w); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, canceled: %v", kind, err)
		}
		w.Close()
	}
}

// TestExtractIsGuided: a table of contents that is not the tar's gives an error, and no file of another.
func TestExtractIsGuided(t *testing.T) {
	t.Parallel()
	data := tarOf(t, tar.Header{Name: "a", Size: 10}, tar.Header{Name: "b", Size: 2 << 20})
	for name, c := range map[string]struct {
		change func(table *toc.Table)
		want   error
	}{
		"overlap":   {func(table *toc.Table) { table.Places[1].Offset = table.Places[0].Offset + 5 }, toc.ErrDamaged},
		"beyond":    {func(table *toc.Table) { table.Places[1].Offset = 1 << 40 }, toc.ErrDamaged},
		"too large": {func(table *toc.Table) { table.Entries[1].Size = 1 << 40 }, nil},
		"no sparse": {func(table *toc.Table) { table.Places[1] = toc.Place{Offset: table.Places[1].Offset, Sparse: true} }, tar.ErrHeader},
	} {
		table := parsed(t, data)
		c.change(table)
		root, err := index.FromTable(table)
		if err != nil {
			t.Fatal(err)
		}
		for kind, h := range hosts() {
			w, err := h.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			err = Extract(t.Context(), w, bytes.NewReader(data), root)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			w.Close()
		}
	}
}

// TestSparseFiles: GNU's format 1.0 is expanded in every form.
func TestSparseFiles(t *testing.T) {
	t.Parallel()
	const size = 2<<20 + 3
	content := make([]byte, 512+3)
	copy(content, "1\n2097152\n3\n")
	copy(content[512:], "end")
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h := tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600, Uid: os.Getuid(), Gid: os.Getgid(), Size: int64(len(content)), ModTime: time.Unix(5, 0), Format: tar.FormatPAX}
	if err := errors.Join(w.WriteHeader(&h), fill(w, h.Size), w.Close()); err != nil {
		t.Fatal(err)
	}
	// The writer of archive/tar refuses records of sparse files: these are put in by hand.
	records := "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n21 GNU.sparse.name=f\n31 GNU.sparse.realsize=2097155\n"
	block := bytes.Clone(buf.Bytes()[:512])
	pax := make([]byte, 1024)
	copy(pax, "x")
	copy(pax[100:], "0000600\x000000000\x000000000\x00")
	copy(pax[124:], octal(len(records)))
	copy(pax[136:], octal(0))
	copy(pax[148:], "        ")
	pax[156] = 'x'
	copy(pax[257:], "ustar\x0000")
	sum := 0
	for _, c := range pax[:512] {
		sum += int(c)
	}
	copy(pax[148:], octal(sum)[5:]+"\x00 ")
	copy(pax[512:], records)
	data := append(append(append(pax, block...), content...), make([]byte, 512-3+1024)...)
	table := parsed(t, data)
	if e := table.Entries[0]; e.Size != size || !table.Places[0].Sparse || e.Digest != digest.FromString(strings.Repeat("\x00", 2<<20)+"end") {
		t.Fatalf("%+v at %+v", e, table.Places[0])
	}
	for _, h := range hosts() {
		testTrees(t, h, data, table)
	}
}

// octal is a number as tar has it.
func octal(n int) string {
	digits := ""
	for range 11 {
		digits = string(rune('0'+n%8)) + digits
		n /= 8
	}
	return digits
}

// knownFiles has files whose digests are known, as it says.
type knownFiles struct {
	view.View
	digests map[string]digest.Digest
}

func (k knownFiles) KnownDigest(_ context.Context, name string) (digest.Digest, bool) {
	d, ok := k.digests[name]
	return d, ok
}

// TestKnownDigests: what a source knows is not computed again. It is believed.
func TestKnownDigests(t *testing.T) {
	t.Parallel()
	list := changes(map[string]string{"f": "1", "g": "2"}, "f", "g")
	said := digest.FromString("said")
	for i := range list {
		list[i].Source = knownFiles{list[i].Source, map[string]digest.Digest{"f": said}}
	}
	list, err := Prepare(list)
	if err != nil {
		t.Fatal(err)
	}
	r := FromChanges(list)
	r.SkipKnown(t.Context(), list)
	id, err := r.DiffID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, _ := r.Table(id)
	table, err := toc.Decode(file, id)
	if err != nil {
		t.Fatal(err)
	}
	if f, g := table.Entries[0].Digest, table.Entries[1].Digest; f != said || g != digest.FromString("2") {
		t.Errorf("%s, %s", f, g)
	}
}

// TestTreesThatLostFiles: a tree that lacks a file of its table does not give the layer's tar.
func TestTreesThatLostFiles(t *testing.T) {
	t.Parallel()
	data, table := record(t, changes(map[string]string{"d/f": "1", "g": "2"}, "d/", "d/f", "g"))
	root, err := index.FromTable(table)
	if err != nil {
		t.Fatal(err)
	}
	h := hosts()["directory"]
	dir := t.TempDir()
	w, err := h.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Extract(t.Context(), w, bytes.NewReader(data), root); err != nil {
		t.Fatal(err)
	}
	w.Close()
	stored, err := h.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if err := os.WriteFile(filepath.Join(dir, tree.DirectoryName, "g"), []byte("longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FromTable(table, stored).DiffID(t.Context()); err == nil || !strings.Contains(err.Error(), `"g" changed`) {
		t.Errorf("a longer file: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, tree.DirectoryName, "d/f")); err != nil {
		t.Fatal(err)
	}
	if _, err := FromTable(table, stored).DiffID(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, tree.DirectoryName, ".wh.x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FromTree(t.Context(), stored); err == nil || !strings.Contains(err.Error(), "names that begin with .wh.") {
		t.Errorf("a name that marks a removal: %v", err)
	}
}

func TestCopyExactly(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	for name, c := range map[string]struct {
		from io.Reader
		size int64
		err  string
	}{
		"exact":   {strings.NewReader("12345"), 5, ""},
		"more":    {strings.NewReader("12345"), 3, ""},
		"nothing": {strings.NewReader(""), 0, ""},
		"less":    {strings.NewReader("123"), 5, `"f" changed while it was being read`},
		"error":   {io.MultiReader(strings.NewReader("1"), errReader{fault}), 5, `read "f": a fault`},
	} {
		var out bytes.Buffer
		err := copyExactly(t.Context(), &out, c.from, &view.Entry{Path: "f", Size: c.size})
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err == nil && int64(out.Len()) != c.size {
			t.Errorf("%s: %d bytes of %d", name, out.Len(), c.size)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := copyExactly(ctx, io.Discard, strings.NewReader("1"), &view.Entry{Size: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestDirectories(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]string{
		"": ".", "f": ".", "a/": ". a", "a/b/f": ". a a/b", "a/ a/b/f c/f": ". a a/b c", "a/b/c/ a/d/": ". a a/b a/b/c a/d", "./ a/": ". a", "-/ ./": ". -",
	} {
		var list []*view.Entry
		for word := range strings.FieldsSeq(names) {
			kind := view.TypeRegular
			name, isDir := strings.CutSuffix(word, "/")
			if isDir {
				kind = view.TypeDir
			}
			list = append(list, &view.Entry{Path: name, Type: kind, UID: 7})
		}
		var got []string
		for _, e := range directories(list) {
			got = append(got, e.Path)
			if described := strings.Contains(" "+names, " "+e.Path+"/ ") || strings.HasSuffix(" "+names, " "+e.Path+"/"); described != (e.UID == 7) {
				t.Errorf("%q: %s is described: %t", names, e.Path, e.UID == 7)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}
