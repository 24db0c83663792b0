package digestcache

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/opencontainers/go-digest"
)

// benchRecords is the number of files in the cache, benchLookups the number of those that a build looks up.
const benchRecords, benchLookups = 100_000, 5000

func benchKey(i int) FileState {
	return FileState{Dev: 1, Ino: uint64(i), Size: 1000, MTime: 4, CTime: 1000_500_000_000}
}

func benchSum(i int) digest.Digest {
	s := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return digest.NewDigestFromBytes(digest.SHA256, s[:])
}

func BenchmarkDigests(b *testing.B) {
	dir := b.TempDir()
	c := open(b, dir)
	for i := range benchRecords {
		c.AddFile(benchKey(i), benchSum(i), settledAt)
	}
	save(b, c)
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := open(b, dir)
			for i := range benchLookups {
				if _, ok := c.File(benchKey(i * 13)); !ok {
					b.Fatal("a digest is missing")
				}
			}
		}
	})
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		n := benchRecords
		for b.Loop() {
			c := open(b, dir)
			c.AddFile(benchKey(n), benchSum(n), settledAt)
			n++
			save(b, c)
		}
	})
	b.Run("learn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := open(b, b.TempDir())
			for i := range benchLookups {
				c.AddFile(benchKey(i), benchSum(i), settledAt)
			}
			save(b, c)
		}
	})
}
