package table

import (
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"testing"
)

const benchRecords, benchLookups = 100_000, 5000

func benchKey(i int) []byte {
	k := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return k[:]
}

func BenchmarkTable(b *testing.B) {
	for name, f := range map[string]Format{
		"fixed":    {Magic: "mica-bench-fixed", KeySize: 32, ValueSize: 32},
		"variable": {Magic: "mica-bench-any-1", KeySize: 32},
	} {
		path := filepath.Join(b.TempDir(), "table")
		t := Open(path, f)
		for i := range benchRecords {
			t.Put(benchKey(i), benchKey(i))
		}
		if err := t.Save(b.Context(), noLimit); err != nil {
			b.Fatal(err)
		}
		keys := make([][]byte, benchLookups)
		for i := range keys {
			keys[i] = benchKey(i * 13)
		}
		b.Run(name+"/lookup", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t := Open(path, f)
				for _, k := range keys {
					if _, ok := t.Get(k); !ok {
						b.Fatal("a value is missing")
					}
				}
				if err := t.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/save", func(b *testing.B) {
			b.ReportAllocs()
			for n := benchRecords; b.Loop(); n++ {
				t := Open(path, f)
				t.Put(benchKey(n), benchKey(n))
				if err := t.Save(b.Context(), noLimit); err != nil {
					b.Fatal(err)
				}
				if err := t.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
