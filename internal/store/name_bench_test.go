package store

import "testing"

// BenchmarkListCached lists names that were listed before: what "mica images" reads.
func BenchmarkListCached(b *testing.B) {
	for _, c := range []struct {
		name  string
		names int
	}{{"100", 100}, {"2000", 2000}} {
		b.Run(c.name, func(b *testing.B) {
			s, err := Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			giveNames(b, s, c.names)
			if _, err := s.Names().listCached(later()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				list, err := s.Names().listCached(later())
				if err != nil || len(list) != c.names {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
