package buildcmd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/builder"
	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/ociruntime"
)

// printHint says how to look into a step that has failed. verb is the command: build or bake.
func printHint(app *command.App, verb string, err error) {
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	if !errors.As(err, &exit) && !errors.As(err, &start) {
		if stage := missingIn(err); stage != "" && verb == "build" {
			fmt.Fprintf(app.Stderr, "To look into stage %s: %s\n", stage, again(app.Args, verb, "--shell-at="+stage))
		}
		return
	}
	text := again(app.Args, verb, "--on-error=shell")
	var recorded *builder.FailedError
	if line := failedLine(err); line > 0 && errors.As(err, &recorded) {
		text += fmt.Sprintf(" (before the step: mica run %s:%d)", recorded.Ref[:min(shortRef, len(recorded.Ref))], line)
	}
	fmt.Fprintf(app.Stderr, "To look into it: %s\n", text)
}

// missingIn is the stage that a COPY has failed to copy from, "" for another error.
func missingIn(err error) string {
	line := failedLine(err)
	if line == 0 {
		return ""
	}
	sources := errdefs.Sources(err)
	return dockerfile.CopiesFrom(sources[len(sources)-1].Info.Data, int(line))
}

// shortRef is how much of the ref of a build names it.
const shortRef = 8

// failedLine is the line of the Dockerfile that a build failed on, 0 if it is not known.
func failedLine(err error) int32 {
	sources := errdefs.Sources(err)
	if position(sources) == "" {
		return 0
	}
	return sources[len(sources)-1].Ranges[0].Start.Line
}

// maxHint is how much of a command line a hint repeats, in bytes.
const maxHint = 60

// plainArgument matches arguments that a shell takes as they are.
var plainArgument = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`) })

// again returns the command line with a flag that runs a shell. It leaves out arguments that are long, and those that may contain secrets.
func again(args []string, verb, flag string) string {
	line := "mica " + verb + " " + flag
	rest := args[slices.Index(args, verb)+1:]
	text := strings.Join(rest, " ")
	odd := func(arg string) bool {
		return !plainArgument().MatchString(arg) || strings.HasPrefix(arg, "--build-arg") || strings.HasPrefix(arg, "--on-error") || strings.HasPrefix(arg, "--shell-at")
	}
	switch {
	case len(rest) == 0:
		return line
	case len(rest) == len(args) || len(text) > maxHint || slices.ContainsFunc(rest, odd):
		return line + " …"
	}
	return line + " " + text
}
