package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/redact"
)

// exitError ends mica with a code of its own. Without an err, nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the flags, which docker ends with 125.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// verbatim is an error in docker's words, which is printed without "Error: " before it.
type verbatim struct{ err error }

func (v verbatim) Error() string { return v.err.Error() }
func (v verbatim) Unwrap() error { return v.err }

// failedBuild is the error of a build, before which docker prints "ERROR: ".
type failedBuild struct{ err error }

func (f failedBuild) Error() string { return "failed to build: " + f.err.Error() }
func (f failedBuild) Unwrap() error { return f.err }

// errorList are the errors of several arguments, each of which is printed as one.
type errorList []error

func (l errorList) Error() string   { return errors.Join(l...).Error() }
func (l errorList) Unwrap() []error { return l }

// orNil is nil for an empty list.
func (l errorList) orNil() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// printError prints an error as docker does, without its "response from daemon".
func (a *App) printError(err error) {
	var list errorList
	var words verbatim
	var build failedBuild
	prefix := "Error: "
	switch {
	case errors.As(err, &list):
		for _, err := range list {
			a.printError(err)
		}
		return
	case errors.As(err, &words):
		prefix = ""
	case errors.As(err, &build):
		prefix = "ERROR: "
	}
	fmt.Fprintln(a.Stderr, prefix+redact.URLs(err.Error()))
}

// printFault prints an error that is a fault of mica.
func (a *App) printFault(err error, fault *crash.Error) {
	hint := "MICA_DEBUG=1 shows where it is"
	if os.Getenv("MICA_DEBUG") != "" {
		fmt.Fprintf(a.Stderr, "%s\n", fault.Stack)
		hint = "the lines above say where it is"
	}
	text := strings.Join(strings.Fields(redact.URLs(err.Error())), " ")
	if !strings.Contains(text, "internal error: ") {
		text = "internal error: " + text
	}
	fmt.Fprintf(a.Stderr, "mica: %s; please report this fault (%s)\n", text, hint)
}
