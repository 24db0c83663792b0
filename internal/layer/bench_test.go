package layer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// What the benchmarks work on: so many files in directories of a hundred.
const (
	benchFiles = 10_000
	benchSize  = 1000
)

// manyChanges is n small files of which the content depends on seed.
func manyChanges(n int, seed byte) []view.Change {
	files := make(map[string][]byte, n)
	changes := make([]view.Change, 0, n+n/100)
	for i := range n {
		dir := fmt.Sprintf("d%04d", i/100)
		if i%100 == 0 {
			changes = append(changes, view.Change{Entry: &view.Entry{Path: dir, Type: view.TypeDir, Mode: 0o755, ModTime: testTime}})
		}
		name := fmt.Sprintf("%s/f%02d", dir, i%100)
		data := bytes.Repeat([]byte{seed, byte(i), byte(i >> 8), '\n'}, benchSize/4)
		files[name] = data
		e := &view.Entry{Path: name, Type: view.TypeRegular, Mode: 0o644, ModTime: testTime, Size: int64(len(data))}
		changes = append(changes, view.Change{Entry: e, SourcePath: name})
	}
	source := content(files)
	for i := range changes {
		if changes[i].SourcePath != "" {
			changes[i].Source = source
		}
	}
	return changes
}

func BenchmarkTOCEncode(b *testing.B) {
	l := newLayers(b)
	id := write(b, l, manyChanges(benchFiles, 1), AsBlob).DiffID
	table, err := l.TOC(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var enc toc.Encoder
		for i, e := range table.Entries {
			enc.Add(e, table.Places[i], 0)
		}
		enc.Finish(id, table.TarSize, true)
	}
}

func BenchmarkTOCDecode(b *testing.B) {
	l := newLayers(b)
	id := write(b, l, manyChanges(benchFiles, 1), AsBlob).DiffID
	file, err := os.ReadFile(l.path(id, tocFile))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := toc.Decode(file, id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite makes a layer in each form, of files that are in memory.
func BenchmarkWrite(b *testing.B) {
	for name, form := range map[string]Form{"packed": AsBlob, "unpacked": AsTree} {
		b.Run(name, func(b *testing.B) {
			l := newLayers(b)
			b.SetBytes(benchFiles / 5 * benchSize)
			b.ReportAllocs()
			for seed := byte(0); b.Loop(); seed++ {
				b.StopTimer()
				changes := manyChanges(benchFiles/5, seed)
				b.StartTimer()
				write(b, l, changes, form)
			}
		})
	}
}

// BenchmarkPack streams the tar of a layer that is there as a tree alone.
func BenchmarkPack(b *testing.B) {
	l := newLayers(b)
	got := write(b, l, manyChanges(benchFiles, 1), AsTree)
	b.SetBytes(got.TarSize)
	b.ReportAllocs()
	for b.Loop() {
		r, err := l.OpenTar(b.Context(), got.DiffID)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

func BenchmarkUnpack(b *testing.B) {
	l := newLayers(b)
	got := write(b, l, manyChanges(benchFiles/5, 1), AsBlob)
	dir := b.TempDir()
	b.SetBytes(got.TarSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		to := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(to, 0o755); err != nil {
			b.Fatal(err)
		}
		if _, err := l.unpack(b.Context(), got.DiffID, to); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseTar reads a tar as it comes from elsewhere, and digests its files.
func BenchmarkParseTar(b *testing.B) {
	l := newLayers(b)
	data := readTar(b, l, write(b, l, manyChanges(benchFiles, 1), AsBlob).DiffID)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := convert.Parse(b.Context(), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDiff compares two views of which one file in ten differs.
func BenchmarkDiff(b *testing.B) {
	l := newLayers(b)
	base := write(b, l, manyChanges(benchFiles, 1), AsBlob)
	top := write(b, l, manyChanges(benchFiles/10, 2), AsBlob)
	lower, err := l.View(b.Context(), []digest.Digest{base.DiffID})
	if err != nil {
		b.Fatal(err)
	}
	upper, err := l.View(b.Context(), []digest.Digest{base.DiffID, top.DiffID})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		changes, err := l.Diff(b.Context(), lower, upper)
		if err != nil {
			b.Fatal(err)
		}
		if len(changes) < benchFiles/10 {
			b.Fatalf("%d changes", len(changes))
		}
	}
}

// BenchmarkView loads a chain of two layers and merges it.
func BenchmarkView(b *testing.B) {
	l := newLayers(b)
	chain := []digest.Digest{
		write(b, l, manyChanges(benchFiles, 1), AsBlob).DiffID,
		write(b, l, manyChanges(benchFiles/10, 2), AsBlob).DiffID,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(l.store).View(b.Context(), chain); err != nil {
			b.Fatal(err)
		}
	}
}
