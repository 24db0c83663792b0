package buildcmd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/micabuild/mica/internal/cli/command"
	"github.com/micabuild/mica/internal/ociruntime"
)

// printHint says how to look into a step whose process has failed. verb is the command: build or bake.
func printHint(app *command.App, verb string, err error) {
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	if errors.As(err, &exit) || errors.As(err, &start) {
		fmt.Fprintf(app.Stderr, "To look into it: %s\n", again(app.Args, verb))
	}
}

// maxHint is how much of a command line a hint repeats, in bytes.
const maxHint = 60

// plainArgument matches arguments that a shell takes as they are.
var plainArgument = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`) })

// again returns the command line that runs a shell in the step that fails. It leaves out arguments that are long, and those that may
// contain secrets.
func again(args []string, verb string) string {
	line := "mica " + verb + " --on-error=shell "
	rest := args[slices.Index(args, verb)+1:]
	text := strings.Join(rest, " ")
	odd := func(arg string) bool {
		return !plainArgument().MatchString(arg) || strings.HasPrefix(arg, "--build-arg") || strings.HasPrefix(arg, "--on-error")
	}
	if len(rest) == len(args) || len(text) > maxHint || slices.ContainsFunc(rest, odd) {
		return line + "…"
	}
	return line + text
}
