package view

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const benchFiles = 5000

// manyFiles writes files of 1 kB into folders of a hundred, as old as a memory wants them.
func manyFiles(b *testing.B) string {
	dir := b.TempDir()
	for i := range benchFiles {
		name := filepath.Join(dir, fmt.Sprintf("d%03d", i/100), fmt.Sprintf("f%02d", i%100))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 500), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	return dir
}

func digestAll(b *testing.B, dir string, m *Memory) {
	v, err := Dir(dir, DirOptions{Memory: m, Anonymous: true})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := SelectionDigest(b.Context(), v, ".", CopyOptions{DirCopyContents: true, FollowSymlink: true}); err != nil {
		b.Fatal(err)
	}
	if c, ok := v.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}

// BenchmarkSelectionDigest is what a COPY costs before it is known whether it is cached: walking, and digesting all files or
// none.
func BenchmarkSelectionDigest(b *testing.B) {
	dir := manyFiles(b)
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			digestAll(b, dir, nil)
		}
	})
	b.Run("remembered", func(b *testing.B) {
		m, err := OpenMemory(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		digestAll(b, dir, m)
		b.ReportAllocs()
		for b.Loop() {
			digestAll(b, dir, m)
		}
	})
}
