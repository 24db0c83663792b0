package quota

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// newQuota is that of a test's environment.
func newQuota(t *testing.T, setting string) *Quota {
	t.Helper()
	t.Setenv(Setting, setting)
	q, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"": DefaultBytes, "0": 0, "1000": 1000, "2k": 2048, "3MiB": 3 << 20, "200g": 200 << 30, "1T": 1 << 40,
	} {
		t.Setenv(Setting, text)
		if got, err := Limit(); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"many", "-1", "1x", " "} {
		t.Setenv(Setting, text)
		if n, err := Limit(); err == nil || !strings.Contains(err.Error(), Setting) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}

func TestContent(t *testing.T) {
	for name, tt := range map[string]struct {
		setting string
		sizes   []int64
		ok      bool
	}{
		"within":          {"10k", []int64{5 << 10, 5 << 10, 0}, true},
		"beyond":          {"10k", []int64{5 << 10, 5 << 10, 1}, false},
		"by default":      {"", []int64{DefaultBytes + 1}, false},
		"negative":        {"0", []int64{-1}, false},
		"an overflow":     {"0", []int64{math.MaxInt64, math.MaxInt64}, false},
		"without a limit": {"0", []int64{math.MaxInt64}, true},
	} {
		q := newQuota(t, tt.setting)
		var err error
		for _, n := range tt.sizes {
			err = errors.Join(err, q.Content(n))
		}
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReader(t *testing.T) {
	read := func(setting string, n int) (int64, error) {
		return io.Copy(io.Discard, newQuota(t, setting).Reader(bytes.NewReader(make([]byte, n))))
	}
	if n, err := read("1m", 1<<20); n != 1<<20 || err != nil {
		t.Errorf("within: %d, %v", n, err)
	}
	if n, err := read("1m", 8<<20); n > 2<<20 || !errors.Is(err, ErrExceeded) || !strings.Contains(err.Error(), "1MiB") {
		t.Errorf("beyond: %d, %v", n, err)
	}
	if n, err := read("0", 8<<20); n != 8<<20 || err != nil {
		t.Errorf("without a limit: %d, %v", n, err)
	}
}

// TestHeaders counts what stays in memory: attributes of one byte take many more.
func TestHeaders(t *testing.T) {
	attributes := map[string]string{}
	for i := range 40_000 {
		attributes["SCHILY.xattr."+string(rune(i+1000))] = ""
	}
	for name, tt := range map[string]struct {
		header tar.Header
		most   int
	}{
		"files":      {tar.Header{Name: "f"}, Entries},
		"names":      {tar.Header{Name: strings.Repeat("n", 4000)}, MaxMetadata / 4000},
		"links":      {tar.Header{Name: "l", Linkname: strings.Repeat("n", 4000)}, MaxMetadata / 4000},
		"attributes": {tar.Header{Name: "a", PAXRecords: attributes}, MaxMetadata / (40_000 * attribute)},
	} {
		q := newQuota(t, "0")
		n := 0
		for ; n <= tt.most; n++ {
			if err := q.Entry(&tt.header); err != nil {
				if !errors.Is(err, ErrExceeded) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
		if n > tt.most || n < tt.most/2 {
			t.Errorf("%s: %d are taken, at most %d should be", name, n, tt.most)
		}
	}
}
