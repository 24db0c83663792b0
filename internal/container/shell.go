package container

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/sandbox"
)

// shellNames are the names of programs that are shells.
var shellNames = []string{"sh", "ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "pwsh", "tcsh", "zsh"}

// usualShells are where images have a shell. Debug variants of distroless images have the last.
var usualShells = [][]string{{"/bin/sh"}, {"/bin/bash"}, {"/busybox/sh"}}

// Shells returns the shells that a container may have, the likeliest first. args is a SHELL instruction, or a command line that may begin
// with one.
func Shells(args []string) [][]string {
	own := 0
	switch {
	case len(args) > 0 && slices.Contains(shellNames, path.Base(args[0])):
		own = 1
	case len(args) > 1 && path.Base(args[0]) == "busybox" && slices.Contains(shellNames, args[1]):
		own = 2
	}
	var list [][]string
	if own > 0 {
		list = append(list, slices.Clone(args[:own]))
	}
	for _, sh := range usualShells {
		if len(list) == 0 || !slices.Equal(list[0], sh) {
			list = append(list, sh)
		}
	}
	return list
}

// NoShellError is the error for a container that has none of the shells that it may have.
type NoShellError struct{ Tried string }

func (e *NoShellError) Error() string { return "there is no shell (" + e.Tried + ")" }

// RunShell runs a shell in p, or a command in the form that RUN has: a JSON array of its arguments, or a text for the shell. It runs the
// first of shells that exists, and returns a NoShellError if none does.
func RunShell(ctx context.Context, run func(context.Context, *sandbox.Process) error, p *sandbox.Process, shells [][]string, command string) error {
	var exec []string
	if json.Unmarshal([]byte(command), &exec) == nil && len(exec) > 0 {
		p.Args = exec
		return run(ctx, p)
	}
	var tried []string
	for _, sh := range shells {
		p.Args = slices.Clone(sh)
		if command != "" {
			p.Args = append(p.Args, "-c", command)
		}
		err := run(ctx, p)
		var start *ociruntime.StartError
		if !errors.As(err, &start) || start.Code != notFound {
			return err
		}
		tried = append(tried, strings.Join(sh, " "))
	}
	return &NoShellError{strings.Join(tried, ", ")}
}

// notFound is the exit code of a shell for a command that does not exist.
const notFound = 127
