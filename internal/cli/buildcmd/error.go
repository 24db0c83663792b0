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

// buildError shows the lines of the Dockerfile that a build failed on, unless they were shown, and returns the error for the last line.
// verb is the command: build or bake.
func buildError(app *command.App, err error, shown bool, verb string) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if !shown {
		if printErr := printSources(app, err); printErr != nil {
			return errors.Join(err, printErr)
		}
		printHint(app, verb, err)
	}
	return command.FailedBuild{Err: located(err)}
}

// printSources shows the lines of the Dockerfile that an error is about.
func printSources(app *command.App, err error) error {
	for _, s := range errdefs.Sources(err) {
		if s.Info != nil {
			s.Info.Data = []byte(redact.URLs(string(s.Info.Data)))
		}
		if err := printSource(app.Stderr, s); err != nil {
			return err
		}
	}
	return nil
}

// located is an error with its position in the Dockerfile.
func located(err error) error {
	var limit *dockerfile.LimitError // which names the line itself
	if at := position(errdefs.Sources(err)); at != "" && !errors.As(err, &limit) {
		return fmt.Errorf("%s: %w", at, err)
	}
	return err
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
