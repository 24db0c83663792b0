package seekable_test

import (
	"bytes"
	"encoding/json"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/seekable"
	"github.com/micabuild/mica/internal/layer/seekable/seekabletest"
)

func cut(b *seekabletest.Blob, size int) {
	b.Data = b.Data[:size]
	b.Size = int64(size)
}

func estargzOf(t testing.TB, layer []byte) func() *seekabletest.Blob {
	return func() *seekabletest.Blob { return seekabletest.Estargz(t, layer) }
}

func zstdOf(t testing.TB, layer []byte) func() *seekabletest.Blob {
	return func() *seekabletest.Blob { return seekabletest.Zstd(t, layer, nil) }
}

// setOffset changes the offset in the footer of eStargz.
func setOffset(text string) func(b *seekabletest.Blob) {
	return func(b *seekabletest.Blob) { copy(b.Data[len(b.Data)-51+16:], text) }
}

func setPosition(text string) func(b *seekabletest.Blob) {
	return func(b *seekabletest.Blob) {
		b.Annotations["io.github.containers.zstd-chunked.manifest-position"] = text
	}
}

// TestHostileBlobs: what is wrong with a blob is an error.
func TestHostileBlobs(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, sample())
	for name, c := range map[string]struct {
		make   func() *seekabletest.Blob
		change func(b *seekabletest.Blob)
		want   string
	}{
		"another table": {estargzOf(t, layer), func(b *seekabletest.Blob) {
			b.Annotations["containerd.io/snapshot/stargz/toc.digest"] = digest.FromString("x").String()
		}, "it has the digest sha256:"},
		"no digest": {estargzOf(t, layer), func(b *seekabletest.Blob) {
			b.Annotations["containerd.io/snapshot/stargz/toc.digest"] = "sha256:../x"
		}, "invalid digest"},
		"cut footer":   {estargzOf(t, layer), func(b *seekabletest.Blob) { cut(b, len(b.Data)-1) }, "does not end with the footer"},
		"cut blob":     {estargzOf(t, layer), func(b *seekabletest.Blob) { cut(b, 30) }, "no footer"},
		"beyond":       {estargzOf(t, layer), setOffset("7fffffffffffffff"), "it is at byte 9223372036854775807"},
		"before":       {estargzOf(t, layer), setOffset("-000000000000001"), "it is at byte -1"},
		"no number":    {estargzOf(t, layer), setOffset("000000000000000x"), "invalid syntax"},
		"another file": {estargzOf(t, layer), setOffset("0000000000000000"), "it is at byte 0"},
		"not a gzip":   {estargzOf(t, layer), setOffset("0000000000000007"), "gzip"},
		"another zstd table": {zstdOf(t, layer), func(b *seekabletest.Blob) {
			b.Annotations["io.github.containers.zstd-chunked.manifest-checksum"] = digest.FromString("x").String()
		}, "it has the digest sha256:"},
		"no position":       {zstdOf(t, layer), setPosition(""), "invalid position"},
		"negative position": {zstdOf(t, layer), setPosition("-1:5:5:1"), "invalid position"},
		"unknown type":      {zstdOf(t, layer), setPosition("1:5:5:2"), "invalid position"},
		"position outside":  {zstdOf(t, layer), setPosition("999999999999999999:999999999999999999:5:1"), "outside"},
		"empty":             {zstdOf(t, layer), setPosition("5:0:5:1"), "outside"},
		"too large":         {zstdOf(t, layer), setPosition("5:5:268435457:1"), "too large"},
	} {
		b := c.make()
		c.change(b)
		from := &served{data: b.Data}
		_, err := seekable.Open(t.Context(), b.Descriptor, digest.FromBytes(layer), from.read)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestHostileTables: what is wrong with a table that has the right digest is an error.
func TestHostileTables(t *testing.T) {
	t.Parallel()
	data := seekabletest.Zstd(t, tarOf(t, sample()), nil).Data
	sum := digest.FromString("x").String()
	for table, want := range map[string]string{
		``:                                "EOF",
		`[]`:                              `"[" in place of {`,
		`{}`:                              "no entries",
		`{"version":1}`:                   "no entries",
		`{"version":2,"entries":[]}`:      "unknown version",
		`{"entries":{}}`:                  `"{" in place of [`,
		`{"entries":[]`:                   "EOF",
		`{"entries":[],"entries":[]}`:     "entries twice",
		`{"entries":[{}]}`:                "unknown type",
		`{"entries":[{"type":"socket"}]}`: "unknown type",
		`{"entries":[{"type":"chunk"}]}`:  "a chunk of no file",
		`{"entries":[{"type":"dir"},7]}`:  "cannot unmarshal",
		`{"entries":[{"type":"dir","name":"../x"}]}`:                                                           "escapes the root",
		`{"entries":[{"type":"dir","name":"x","uid":-1}]}`:                                                     "no such owner",
		`{"entries":[{"type":"dir","name":"x","modtime":"now"}]}`:                                              "cannot parse",
		`{"entries":[{"type":"reg","name":"x","size":1}]}`:                                                     "invalid digest",
		`{"entries":[{"type":"reg","name":"x","size":1,"digest":"sha512:00"}]}`:                                "invalid digest",
		`{"entries":[{"type":"reg","name":"x","size":-1,"digest":"` + sum + `"}]}`:                             "invalid size",
		`{"entries":[{"type":"reg","name":"x","size":9000000000000000000,"digest":"` + sum + `"}]}`:            "unpacks to more than",
		`{"entries":[{"type":"hardlink","name":"x","linkName":"y"}]}`:                                          "not in the layer",
		`{"entries":[{"type":"reg","name":"x/.wh..","size":0}]}`:                                               "removes a name",
		`{"entries":[{"type":"symlink","name":"x"}]}`:                                                          "target must have",
		`{"entries":[{"type":"dir","name":"` + strings.Repeat("x", 5<<20) + `"}]}`:                             "an entry is too large",
		`{"entries":[{"type":"reg","name":"x","size":1,"digest":"` + sum + `","chunkDigest":"x","offset":4}]}`: "invalid digest",
	} {
		b := seekabletest.ZstdTable(t, data, []byte(table))
		_, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), (&served{data: b.Data}).read)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %q", table, err, want)
		}
	}
}

// TestBomb: a table that decompresses to much more than its size is read in little memory, up to a limit.
func TestBomb(t *testing.T) { // not parallel: it measures the memory of the process
	data := seekabletest.Zstd(t, tarOf(t, sample()), nil).Data
	b := seekabletest.ZstdTable(t, data, append([]byte(`{"entries":[`), bytes.Repeat([]byte(" "), 64<<20)...))
	if b.Size > 2<<20 {
		t.Fatalf("%d bytes", b.Size)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), (&served{data: b.Data}).read)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "an entry is too large") {
		t.Errorf("%v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 48<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// FuzzTables reads a table that may be anything, and the files that it lists.
func FuzzTables(f *testing.F) {
	good := seekabletest.Zstd(f, tarOf(f, sample()), func(table *seekabletest.Table) {
		text, err := json.Marshal(table)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	})
	for _, table := range []string{
		`{"entries":[{"type":"reg","name":"x","size":5,"digest":"sha256:` + strings.Repeat("0", 64) + `","offset":1,"innerOffset":9223372036854775807}]}`,
		`{"entries":[{"type":"reg","name":"x","size":5,"digest":"sha256:` + strings.Repeat("0", 64) + `","offset":1,"chunkSize":2},{"type":"chunk","offset":9,"chunkOffset":2,"chunkSize":3}]}`,
		`{"entries":[{"type":"dir","name":"d"},{"type":"reg","name":"d/.wh.f"},{"type":"hardlink","name":"l","linkName":"d"}]}`,
	} {
		f.Add([]byte(table))
	}
	f.Fuzz(func(t *testing.T, table []byte) {
		b := seekabletest.ZstdTable(t, good.Data, table)
		l, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), (&served{data: b.Data}).read)
		if err != nil {
			return
		}
		regular(t, l, func(path string, n *index.Node) {
			if n == nil {
				t.Fatalf("%q is listed and not there", path)
			}
			r, err := l.Open(t.Context(), n)
			if err != nil {
				return
			}
			data, err := io.ReadAll(r)
			if err == nil && digest.FromBytes(data) != n.Entry.Digest && n.Entry.Size > 0 {
				t.Errorf("%q has another content", path)
			}
			_ = r.Close()
		})
	})
}

// FuzzFooters opens a blob of eStargz that ends with anything.
func FuzzFooters(f *testing.F) {
	good := seekabletest.Estargz(f, tarOf(f, sample()))
	f.Add(good.Data[len(good.Data)-2000:])
	f.Add(good.Data[len(good.Data)-51:])
	f.Fuzz(func(t *testing.T, end []byte) {
		b := *good
		b.Data = append(bytes.Clone(good.Data[:4000]), end...)
		b.Size = int64(len(b.Data))
		l, err := seekable.Open(t.Context(), b.Descriptor, digest.FromString("layer"), (&served{data: b.Data}).read)
		if err == nil && l.Records.Count == 0 {
			t.Error("there are no files")
		}
	})
}
