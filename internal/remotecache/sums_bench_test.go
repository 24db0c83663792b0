package remotecache

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
)

// BenchmarkSums: a build looks up 5,000 files of 50,000 that are known, and learns one.
func BenchmarkSums(b *testing.B) {
	path := filepath.Join(b.TempDir(), "sums")
	s := OpenSums(path)
	content := digest.FromString("content")
	get := func(s *Sums, i int) {
		if _, err := s.get(strconv.Itoa(i), content, func() (digest.Digest, error) { return digest.FromString(strconv.Itoa(i)), nil }); err != nil {
			b.Fatal(err)
		}
	}
	const known = 50_000
	for i := range known {
		get(s, i)
	}
	if err := s.Save(b.Context()); err != nil {
		b.Fatal(err)
	}
	lookup := func(s *Sums) {
		for i := range known / 10 {
			get(s, i*7)
		}
	}
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s := OpenSums(path)
			lookup(s)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		n := known
		for b.Loop() {
			s := OpenSums(path)
			lookup(s)
			get(s, n)
			n++
			if err := errors.Join(s.Save(b.Context()), s.Close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
