package ops

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// A step's output is clipped where BuildKit clips it, says so once, and its end is shown.
func TestClip(t *testing.T) {
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	for name, c := range map[string]struct {
		limit  logLimit
		writes []string
		want   string
	}{
		"size":          {logLimit{4, -1}, []string{"abc", "def", "ghi"}, "abcd\n[output clipped, log limit 4B reached]\ndefghi"},
		"within":        {logLimit{4, -1}, []string{"abcd"}, "abcd"},
		"speed":         {logLimit{2 << 20, 3}, []string{"abc", "def"}, "abc\n[output clipped, log limit 3B/s reached]\ndef"},
		"no limit":      {logLimit{-1, -1}, []string{strings.Repeat("x", 3<<20)}, strings.Repeat("x", 3<<20)},
		"only the tail": {logLimit{0, -1}, []string{strings.Repeat("x", 3<<20) + "end"}, "\n[output clipped, log limit 0B reached]\n" + strings.Repeat("x", clippedTail-3) + "end"},
	} {
		var out bytes.Buffer
		w := newClipper(&out, c.limit, clock)
		now = now.Add(time.Millisecond)
		for _, p := range c.writes {
			if n, err := w.Write([]byte(p)); n != len(p) || err != nil {
				t.Errorf("%s: %d %v", name, n, err)
			}
		}
		w.flush()
		if out.String() != c.want {
			t.Errorf("%s: %.200q, want %.200q", name, out.String(), c.want)
		}
	}
	for n, want := range map[int]string{2 << 20: "2MiB", 200 << 10: "200KiB", 100: "100B"} {
		if got := size(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
