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
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/solver/ops"
)

// printHint says how to look into a step that has failed. verb is the command: build or bake.
func printHint(app *command.App, verb string, err error) {
	if !app.Isolation.HasContainers() {
		return // there is no shell to look into it
	}
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	if !errors.As(err, &exit) && !errors.As(err, &start) {
		if stage := missingIn(err); stage != "" && verb == "build" {
			fmt.Fprintf(app.Stderr, "To look into stage %s: %s\n", stage, again(app, verb, "--shell-at="+stage, ""))
		}
		return
	}
	var remote *ops.RemoteError
	if errors.As(err, &remote) { // what it has left is not on this host
		return
	}
	text := again(app, verb, "", "--on-error=shell")
	var recorded *builder.FailedError
	if line := failedLine(err); line > 0 && errors.As(err, &recorded) {
		text += fmt.Sprintf(" (before the step: %s run %s:%d)", mica(app), recorded.Ref[:min(shortRef, len(recorded.Ref))], line)
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
	if builder.Position(err) == "" {
		return 0
	}
	return sources[len(sources)-1].Ranges[0].Start.Line
}

// maxHint is how much of a command line a hint repeats, in bytes.
const maxHint = 60

// plainArgument matches arguments that a shell takes as they are.
var plainArgument = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`) })

// mica returns the beginning of a command line for the same store.
func mica(app *command.App) string {
	switch root := app.RootFlag(); {
	case root == "":
		return "mica"
	case plainArgument().MatchString(root):
		return "mica --root " + root
	}
	return "mica --root …"
}

// again returns the command line with flags that run a shell: place, "" for none, and shell, which --invoke replaces if stdin is not the
// user's terminal. It leaves out arguments that are long, and those that may contain secrets.
func again(app *command.App, verb, place, shell string) string {
	rest, found := arguments(app.Args, verb)
	if slices.ContainsFunc(rest, readsStdin) {
		shell = "--invoke=COMMAND"
	}
	line := strings.Join(slices.DeleteFunc([]string{mica(app), verb, place, shell}, func(s string) bool { return s == "" }), " ")
	text := strings.Join(rest, " ")
	switch {
	case found && len(rest) == 0:
		return line
	case !found || len(text) > maxHint || slices.ContainsFunc(rest, isOdd):
		return line + " …"
	}
	return line + " " + text
}

// arguments returns the arguments of a command without --root, and whether they were found.
func arguments(args []string, verb string) (rest []string, found bool) {
	for i := 1; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--root":
			i++
		case strings.HasPrefix(arg, "--root="):
		case found:
			rest = append(rest, arg)
		case arg == verb:
			found = true
		}
	}
	return rest, found
}

// readsStdin reports whether an argument says that the context, the Dockerfile or the bake file is stdin.
func readsStdin(arg string) bool {
	return slices.Contains([]string{"-", "-f-", "-f=-", "--file=-"}, arg)
}

// isOdd reports whether an argument must not be repeated: it needs quotes, may be secret, or contradicts the hint.
func isOdd(arg string) bool {
	return !plainArgument().MatchString(arg) || redact.URLs(arg) != arg ||
		slices.ContainsFunc([]string{"--build-arg", "--on-error", "--shell-at", "--invoke"}, func(flag string) bool { return strings.HasPrefix(arg, flag) })
}
