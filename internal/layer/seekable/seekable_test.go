package seekable_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/seekable"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

var fileTime = time.Unix(1_600_000_000, 700_000_000)

// noise is data that does not compress.
func noise(size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return string(data)
}

// member is a member of a tar.
type member struct {
	tar.Header
	content string
}

func file(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Size: int64(len(content)), Uid: 1, Gid: 2, ModTime: fileTime}, content}
}

func other(kind byte, name, link string) member {
	return member{tar.Header{Typeflag: kind, Name: name, Linkname: link, Mode: 0o755, ModTime: fileTime}, ""}
}

// sample has a file of each kind. The small ones are a small part of it.
func sample() []member {
	attrs := file("etc/attrs", "x")
	attrs.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1\x002", "SCHILY.xattr.security.capability": "cap"}
	device := other(tar.TypeChar, "dev/null", "")
	device.Devmajor, device.Devminor = 1, 3
	members := []member{
		other(tar.TypeDir, "etc/", ""), attrs, file("etc/motd", "hello"), file("etc/empty", ""), other(tar.TypeLink, "etc/motd2", "etc/motd"),
		other(tar.TypeSymlink, "etc/link", "../motd"), other(tar.TypeDir, "dev/", ""), device, other(tar.TypeFifo, "dev/fifo", ""),
		file("etc/.wh.gone", ""), file("var/.wh..wh..opq", ""), file("var/"+strings.Repeat("long/", 30)+"f", "deep"),
		file("big", noise(300_000)), file("zeros", strings.Repeat("\x00", 200_000)),
	}
	return append(members, file("etc/again", "1"), file("etc/again", "22"), file("z-last", "end"))
}

func tarOf(t testing.TB, members []member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		m.Format = tar.FormatPAX
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// served counts what is read of a blob.
type served struct {
	data  []byte
	bytes atomic.Int64
}

func (s *served) read(_ context.Context, from, to int64) (io.ReadCloser, error) {
	if from < 0 || from >= to || to > int64(len(s.data)) {
		return nil, fmt.Errorf("%d-%d of %d bytes", from, to, len(s.data))
	}
	s.bytes.Add(to - from)
	return io.NopCloser(bytes.NewReader(s.data[from:to])), nil
}

// parsed is the table of contents that the whole layer has.
func parsed(t testing.TB, layer []byte) *toc.Table {
	t.Helper()
	id := digest.FromString("layer")
	p, err := convert.Parse(t.Context(), bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := p.Finish(id)
	table, err := toc.Decode(data, id)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// forms are makers of blobs, by their names.
func forms(t testing.TB, layer []byte) map[string]*seekabletest.Blob {
	t.Helper()
	old := seekabletest.Zstd(t, layer, nil)
	annotations := map[string]string{}
	for name, value := range old.Annotations {
		annotations[strings.Replace(name, ".github", "", 1)] = value
	}
	old.Annotations = annotations
	return map[string]*seekabletest.Blob{
		"merged": seekabletest.Merged(t, layer, 10_000), "estargz": seekabletest.Estargz(t, layer), "converted": seekabletest.Converted(t, layer), "zstd:chunked": seekabletest.Zstd(t, layer, nil), "old zstd:chunked": old,
	}
}

func open(t testing.TB, b *seekabletest.Blob) (*seekable.Layer, *served) {
	t.Helper()
	from := &served{data: b.Data}
	if !seekable.Has(b.Descriptor) {
		t.Fatal("it has no table")
	}
	l, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), from.read)
	if err != nil {
		t.Fatal(err)
	}
	return l, from
}

func tableOf(t testing.TB, l *seekable.Layer) *toc.Table {
	t.Helper()
	table, err := l.Table()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestTables: the table of contents is that of the layer as a whole, whatever the layer ends with.
func TestTables(t *testing.T) {
	t.Parallel()
	for last, end := range map[string][]member{
		"a file": nil, "a directory": {other(tar.TypeDir, "zz/", "")}, "a long name": {other(tar.TypeDir, "zz/"+strings.Repeat("long/", 30), "")},
	} {
		for name, b := range forms(t, tarOf(t, append(sample(), end...))) {
			l, from := open(t, b)
			table := tableOf(t, l)
			want := parsed(t, b.Layer(t))
			if l.Coarse {
				for _, e := range want.Entries {
					e.ModTime = e.ModTime.Round(time.Second)
				}
			}
			if diff := cmp.Diff(want.Entries, table.Entries, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s that ends with %s:\n%s", name, last, diff)
			}
			if want.Size != table.Size || want.Plain != table.Plain || want.Devices != table.Devices || table.Undigested {
				t.Errorf("%s that ends with %s: %+v, want %+v", name, last, table.Summary, want.Summary)
			}
			if n := from.bytes.Load(); n > 80_000 {
				t.Errorf("%s that ends with %s: %d of %d bytes are read", name, last, n, len(b.Data))
			}
		}
	}
}

// TestEmpty: a layer may have no contents at all.
func TestEmpty(t *testing.T) {
	t.Parallel()
	for name, b := range forms(t, tarOf(t, []member{other(tar.TypeDir, "d/", "")})) {
		from := &served{data: b.Data}
		l, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), from.read)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(parsed(t, b.Layer(t)).Entries[0].Path, tableOf(t, l).Entries[0].Path); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if seekable.Has(b.Descriptor) {
			t.Errorf("%s: it is read in parts though it is small", name)
		}
	}
}

// regular calls do for each regular file of a layer.
func regular(t *testing.T, l *seekable.Layer, do func(path string, n *index.Node)) {
	t.Helper()
	root, err := l.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range tableOf(t, l).Entries {
		if e.Type == view.TypeRegular {
			do(e.Path, root.Descend(e.Path))
		}
	}
}

// TestContents: each file can be read alone.
func TestContents(t *testing.T) {
	t.Parallel()
	for name, b := range forms(t, tarOf(t, sample())) {
		l, from := open(t, b)
		count := 0
		regular(t, l, func(path string, n *index.Node) {
			before := from.bytes.Load()
			r, err := l.Open(t.Context(), n)
			if path == "stargz.index.json" && errors.Is(err, seekable.ErrWhole) {
				return
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", name, path, err)
			}
			data, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil {
				t.Errorf("%s: %s: %v", name, path, err)
			}
			if got := digest.FromBytes(data); got != n.Entry.Digest || int64(len(data)) != n.Entry.Size {
				t.Errorf("%s: %s has %d bytes, %s", name, path, len(data), got)
			}
			if read := from.bytes.Load() - before; read > n.Entry.Size+seekabletest.ChunkSize+5000 {
				t.Errorf("%s: %s: %d bytes were read", name, path, read)
			}
			count++
		})
		if count < 9 {
			t.Errorf("%s: %d files", name, count)
		}
	}
}

// TestReadFiles: small files that are near to each other arrive together, and most of a layer as a whole.
func TestReadFiles(t *testing.T) {
	t.Parallel()
	for name, b := range forms(t, tarOf(t, sample())) {
		l, from := open(t, b)
		before := from.bytes.Load()
		want := map[string]string{"etc/attrs": "x", "etc/motd2": "hello", "etc/empty": "", "etc/again": "22", "z-last": "end"}
		var paths []string
		for p := range want {
			paths = append(paths, p)
		}
		got := map[string]string{}
		err := l.ReadFiles(t.Context(), paths, func(path string, content io.Reader) error {
			data, err := io.ReadAll(content)
			got[path] = string(data)
			return err
		})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if read := from.bytes.Load() - before; read > 80_000 {
			t.Errorf("%s: %d bytes were read", name, read)
		}
		ignore := func(string, io.Reader) error { return errors.New("visited") }
		if err := l.ReadFiles(t.Context(), []string{"etc/motd", "big"}, ignore); !errors.Is(err, seekable.ErrWhole) {
			t.Errorf("%s: most of the layer: %v", name, err)
		}
		if err := l.ReadFiles(t.Context(), []string{"etc/motd"}, ignore); err == nil || err.Error() != "visited" {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.ReadFiles(t.Context(), []string{"etc/none"}, ignore); err == nil || !strings.Contains(err.Error(), "file does not exist") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrongContents: a content that is not the one of the table is an error before any of it is returned.
func TestWrongContents(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, sample())
	wrong := digest.FromString("another")
	change := func(key string, value any) func(*seekabletest.Table) {
		return func(table *seekabletest.Table) {
			for _, e := range table.Entries {
				if e["name"] == "big" && e[key] != nil {
					e[key] = value
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*seekabletest.Table)
		whole  bool
		parts  int64 // that are right
	}{
		"digest":      {change("digest", wrong), false, 4 * seekabletest.ChunkSize},
		"chunkDigest": {change("chunkDigest", wrong), false, 0},
		"offset":      {change("offset", 1), true, 0},
		"chunkOffset": {change("chunkOffset", 7), true, 0},
		"chunkSize":   {change("chunkSize", 1<<40), true, 0},
		"chunk sizes": {change("chunkSize", 1), true, 0},
	} {
		l, _ := open(t, seekabletest.Zstd(t, layer, c.change))
		root, err := l.Files()
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Open(t.Context(), root.Descend("big"))
		if c.whole {
			if !errors.Is(err, seekable.ErrWhole) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n, err := io.Copy(io.Discard, r)
		if !errors.As(err, new(*seekable.ContentError)) || n != c.parts {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		_ = r.Close()
	}
}
