package buildcmd

import (
	"fmt"
	"io"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// maxExcerpt is how many lines of a Dockerfile an error shows. BuildKit's own printer compares every line of an instruction
// with every other: those of one with 200,000 lines take a minute.
const maxExcerpt = 100

// printSource shows the lines of a Dockerfile that an error is about.
func printSource(w io.Writer, s *errdefs.Source) error {
	first, last := span(s.Ranges)
	if last-first < maxExcerpt {
		return s.Print(w)
	}
	s = s.CloneVT()
	s.Ranges = []*pb.Range{{Start: &pb.Position{Line: first}, End: &pb.Position{Line: first + maxExcerpt - 1}}}
	if err := s.Print(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "(and %d more lines)\n", last-first-maxExcerpt+1)
	return err
}

// span is the first line and the last.
func span(ranges []*pb.Range) (first, last int32) {
	for i, r := range ranges {
		if i == 0 || r.Start.Line < first {
			first = r.Start.Line
		}
		last = max(last, r.Start.Line, r.End.Line)
	}
	return first, last
}
