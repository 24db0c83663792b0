package command

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/micabuild/mica/internal/redact"
)

// ExitError ends mica with a code of its own. Without an Err, nothing is printed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}
func (e *ExitError) Unwrap() error { return e.Err }

// Answer is the result of a command whose exit code 1 is an answer, as that of diff(1) and grep(1): other errors have the code 2, that of
// writing the output included. Mistakes in flags, and signals, keep their own.
func (a *App) Answer(err error) error {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) && exit.Err == nil {
		if writeErr := a.Flush(); writeErr != nil {
			exit, err = nil, writeErr
		}
	}
	if err == nil || exit != nil || errors.As(err, new(*UsageError)) || errors.Is(err, context.Canceled) {
		return err
	}
	return &ExitError{Code: 2, Err: err}
}

// Flush writes what is left of the output.
func (a *App) Flush() error {
	err := a.Stdout.Flush()
	if path := new(os.PathError); errors.As(err, &path) {
		err = path.Err
	}
	if err != nil {
		err = fmt.Errorf("write to stdout: %w", err)
	}
	return err
}

// UsageError is a mistake in the flags. Its exit code is 125, as docker's.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Verbatim is an error in docker's words, which is printed without "Error: " before it.
type Verbatim struct{ Err error }

func (v Verbatim) Error() string { return v.Err.Error() }
func (v Verbatim) Unwrap() error { return v.Err }

// FailedBuild is the error of a build, before which docker prints "ERROR: ".
type FailedBuild struct{ Err error }

func (f FailedBuild) Error() string { return "failed to build: " + f.Err.Error() }
func (f FailedBuild) Unwrap() error { return f.Err }

// ErrorList are the errors of several arguments, each of which is printed as one.
type ErrorList []error

func (l ErrorList) Error() string   { return errors.Join(l...).Error() }
func (l ErrorList) Unwrap() []error { return l }

// OrNil is nil for an empty list.
func (l ErrorList) OrNil() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Warn prints what the user may want to know although the command goes on.
func (a *App) Warn(text string) { fmt.Fprintln(a.Stderr, "WARNING: "+redact.URLs(text)) }

// PrintError prints an error as docker does, without its "response from daemon".
func (a *App) PrintError(err error) {
	var list ErrorList
	var words Verbatim
	var build FailedBuild
	prefix := "Error: "
	switch {
	case errors.As(err, &list):
		for _, err := range list {
			a.PrintError(err)
		}
		return
	case errors.As(err, &words):
		prefix = ""
	case errors.As(err, &build):
		prefix = "ERROR: "
	}
	fmt.Fprintln(a.Stderr, prefix+redact.URLs(err.Error()))
}
