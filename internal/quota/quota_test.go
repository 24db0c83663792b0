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

func TestNew(t *testing.T) {
	t.Setenv(Setting, "10k")
	if q, err := New(); err != nil || q.limit != 10<<10 {
		t.Errorf("%+v, %v", q, err)
	}
	t.Setenv(Setting, "many")
	if _, err := New(); err == nil {
		t.Error("an invalid setting is accepted")
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit int64
		sizes []int64
		ok    bool
	}{
		"within":          {10 << 10, []int64{5 << 10, 5 << 10, 0}, true},
		"beyond":          {10 << 10, []int64{5 << 10, 5 << 10, 1}, false},
		"by default":      {DefaultBytes, []int64{DefaultBytes + 1}, false},
		"negative":        {0, []int64{-1}, false},
		"an overflow":     {0, []int64{math.MaxInt64, math.MaxInt64}, false},
		"without a limit": {0, []int64{math.MaxInt64}, true},
	} {
		q := &Quota{limit: tt.limit}
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
	t.Parallel()
	read := func(limit int64, n int) (int64, error) {
		return io.Copy(io.Discard, (&Quota{limit: limit}).Reader(bytes.NewReader(make([]byte, n))))
	}
	if n, err := read(1<<20, 1<<20); n != 1<<20 || err != nil {
		t.Errorf("within: %d, %v", n, err)
	}
	if n, err := read(1<<20, 8<<20); n > 2<<20 || !errors.Is(err, ErrExceeded) || !strings.Contains(err.Error(), "1MiB") {
		t.Errorf("beyond: %d, %v", n, err)
	}
	if n, err := read(0, 8<<20); n != 8<<20 || err != nil {
		t.Errorf("without a limit: %d, %v", n, err)
	}
}

// TestHeaders: a quota that is nearly used up accepts as many more headers as fit.
func TestHeaders(t *testing.T) {
	t.Parallel()
	xattr := func(name, value string) map[string]string { return map[string]string{"SCHILY.xattr." + name: value} }
	for name, tt := range map[string]struct {
		header tar.Header
		size   int64 // that a header counts as metadata
		quota  Quota
		want   int
	}{
		"files":          {tar.Header{Name: "f"}, 1, Quota{entries: Entries - 3}, 3},
		"names":          {tar.Header{Name: strings.Repeat("n", 4000)}, 4000, Quota{}, 10},
		"links":          {tar.Header{Name: "l", Linkname: strings.Repeat("n", 4000)}, 4001, Quota{}, 10},
		"attributes":     {tar.Header{Name: "a", PAXRecords: xattr("user.a", "")}, 1 + 19 + attribute, Quota{}, 10},
		"values":         {tar.Header{Name: "a", PAXRecords: xattr("user.a", "value")}, 1 + 24 + attribute, Quota{}, 10},
		"records beside": {tar.Header{Name: "a", PAXRecords: map[string]string{"comment": "long"}}, 1, Quota{}, 10},
		"empty names":    {tar.Header{Name: ""}, 0, Quota{entries: Entries - 7}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := tt.quota
			if q.entries == 0 {
				q.metadata = MaxMetadata - int64(tt.want)*tt.size
			}
			n := 0
			for ; n <= tt.want; n++ {
				if err := q.Entry(&tt.header); err != nil {
					if !errors.Is(err, ErrExceeded) {
						t.Error(err)
					}
					break
				}
			}
			if n != tt.want {
				t.Errorf("%d headers are accepted, want %d", n, tt.want)
			}
		})
	}
}

// TestContexts counts what a client says of its files, and what it sends, apart.
func TestContexts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		quota Quota
		use   func(*Quota) error
		want  string // "" for no error
	}{
		"files":          {Quota{limit: 10}, func(q *Quota) error { return errors.Join(q.File(1, 4), q.File(1, 6)) }, ""},
		"large files":    {Quota{limit: 10}, func(q *Quota) error { return errors.Join(q.File(1, 4), q.File(1, 7)) }, "it has more than 10B, the limit of a context"},
		"a false size":   {Quota{}, func(q *Quota) error { return q.File(1, -1) }, "the limit of a context"},
		"many files":     {Quota{entries: Entries}, func(q *Quota) error { return q.File(1, 0) }, "it has more than 4000000 files"},
		"long names":     {Quota{metadata: MaxMetadata}, func(q *Quota) error { return q.File(1, 0) }, "names and attributes"},
		"bytes":          {Quota{limit: 10}, func(q *Quota) error { return errors.Join(q.File(1, 10), q.Sent(10)) }, ""},
		"too many bytes": {Quota{limit: 10}, func(q *Quota) error { return errors.Join(q.Sent(5), q.Sent(6)) }, "the limit of a context"},
		"no limit":       {Quota{}, func(q *Quota) error { return errors.Join(q.File(1, 1<<50), q.Sent(1<<50)) }, ""},
		"a stream": {Quota{limit: 10}, func(q *Quota) error {
			_, err := io.ReadAll(q.Receiver(strings.NewReader("elevenbytes")))
			return err
		}, "the limit of a context"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.use(&tt.quota)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrExceeded) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
