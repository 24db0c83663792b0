package buildcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/redact"
)

// buildError shows the lines of the Dockerfile that a build failed on, and returns the error for the last line.
func buildError(app *command.App, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	sources := errdefs.Sources(err)
	for _, s := range sources {
		if s.Info != nil {
			s.Info.Data = []byte(redact.URLs(string(s.Info.Data)))
		}
		if printErr := printSource(app.Stderr, s); printErr != nil {
			return errors.Join(err, printErr)
		}
	}
	var limit *dockerfile.LimitError // which names the line itself
	if at := position(sources); at != "" && !errors.As(err, &limit) {
		err = fmt.Errorf("%s: %w", at, err)
	}
	return command.FailedBuild{Err: err}
}

// position is where in the Dockerfile the build failed: "Dockerfile:3".
func position(sources []*errdefs.Source) string {
	if len(sources) == 0 || sources[len(sources)-1].Info == nil {
		return ""
	}
	s := sources[len(sources)-1]
	if len(s.Ranges) == 0 || s.Ranges[0].Start.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.Info.Filename, s.Ranges[0].Start.Line)
}
