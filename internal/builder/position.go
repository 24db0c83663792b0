package builder

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/dockerfile"
)

// Located returns the error of a build with its position in the Dockerfile.
func Located(err error) error {
	var limit *dockerfile.LimitError // which names the line itself
	if at := Position(err); at != "" && !errors.As(err, &limit) {
		return fmt.Errorf("%s: %w", at, err)
	}
	return err
}

// Position returns where in the Dockerfile a build failed: "Dockerfile:3", or "" if the error is not about a line.
func Position(err error) string {
	sources := errdefs.Sources(err)
	if len(sources) == 0 || sources[len(sources)-1].Info == nil {
		return ""
	}
	s := sources[len(sources)-1]
	if len(s.Ranges) == 0 || s.Ranges[0].Start.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.Info.Filename, s.Ranges[0].Start.Line)
}
