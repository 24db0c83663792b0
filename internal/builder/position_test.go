package builder

import (
	"errors"
	"fmt"
	"testing"

	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/micabuild/mica/internal/dockerfile"
)

func TestLocated(t *testing.T) {
	t.Parallel()
	at := func(err error, line int32) error {
		return errdefs.WithSource(err, &errdefs.Source{
			Info: &pb.SourceInfo{Filename: "app.Dockerfile"}, Ranges: []*pb.Range{{Start: &pb.Position{Line: line}}},
		})
	}
	failed := errors.New("it failed")
	for name, c := range map[string]struct {
		err            error
		position, text string
	}{
		"no source": {failed, "", "it failed"},
		"a line":    {fmt.Errorf("build: %w", at(failed, 3)), "app.Dockerfile:3", "app.Dockerfile:3: build: it failed"},
		"no line":   {at(failed, 0), "", "it failed"},
		"a limit":   {at(&dockerfile.LimitError{}, 3), "app.Dockerfile:3", (&dockerfile.LimitError{}).Error()},
	} {
		if got := Position(c.err); got != c.position {
			t.Errorf("%s: %q, want %q", name, got, c.position)
		}
		if got := Located(c.err).Error(); got != c.text {
			t.Errorf("%s: %q, want %q", name, got, c.text)
		}
	}
}
