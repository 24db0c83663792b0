package view

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/micabuild/mica/internal/digestcache"
)

const benchFiles = 5000

// manyFiles writes files of 1 kB into directories of a hundred, old enough for the digest cache.
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

func digestAll(b *testing.B, dir string, c *digestcache.Cache) {
	v, err := Dir(dir, DirOptions{Digests: c, Anonymous: true})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := SelectionDigest(b.Context(), v, ".", CopyOptions{DirCopyContents: true, FollowSymlink: true}); err != nil {
		b.Fatal(err)
	}
	if closer, ok := v.(interface{ Close() error }); ok {
		_ = closer.Close()
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
		c, err := digestcache.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		digestAll(b, dir, c)
		b.ReportAllocs()
		for b.Loop() {
			digestAll(b, dir, c)
		}
	})
}
