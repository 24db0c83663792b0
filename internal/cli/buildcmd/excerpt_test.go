package buildcmd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// source is a Dockerfile of n lines, of which those from first to last are one instruction.
func source(n int, first, last int32) *errdefs.Source {
	s := &errdefs.Source{Info: &pb.SourceInfo{Filename: "Dockerfile", Data: []byte(strings.Repeat("text\n", n))}}
	for i := first; i <= last; i++ {
		s.Ranges = append(s.Ranges, &pb.Range{Start: &pb.Position{Line: i}, End: &pb.Position{Line: i}})
	}
	return s
}

func TestExcerptIsLimited(t *testing.T) {
	for name, tt := range map[string]struct {
		source *errdefs.Source
		marked int
		more   string
	}{
		"a line":       {source(10, 3, 3), 1, ""},
		"some lines":   {source(200, 3, 102), 100, ""},
		"more lines":   {source(200, 3, 103), 100, "(and 1 more lines)\n"},
		"a great many": {source(200_000, 2, 200_000), 100, "(and 199899 more lines)\n"},
		"nothing":      {source(10, 3, 2), 0, ""},
	} {
		var out bytes.Buffer
		if err := printSource(&out, tt.source); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), ">>>"); got != tt.marked || !strings.HasSuffix(out.String(), tt.more) || out.Len() > 10_000 {
			t.Errorf("%s: %d lines are marked in %d bytes", name, got, out.Len())
		}
	}
}
