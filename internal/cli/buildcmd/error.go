package buildcmd

import (
	"context"
	"errors"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
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
	return command.FailedBuild{Err: builder.Located(err)}
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
