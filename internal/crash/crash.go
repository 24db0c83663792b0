// Package crash makes errors of panics. mica, and the libraries that it reads files with, meet images, archives and registries
// that nobody has tested them with: what they do not expect there is to end one command, in one line.
//
// A panic ends the process unless its own goroutine recovers it. So each goroutine that reads what others wrote begins with
// [Recover] or [Guard].
package crash

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// Error is a panic.
type Error struct {
	Value any
	Stack []byte // of its goroutine
}

func (e *Error) Error() string {
	return "internal error: " + strings.Join(strings.Fields(fmt.Sprint(e.Value)), " ")
}

// Unwrap returns the error that was the panic's value, if it was one.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recover makes the error of a panic that of the function that it is deferred in: defer crash.Recover(&err).
func Recover(err *error) {
	if value := recover(); value != nil {
		*err = &Error{value, debug.Stack()}
	}
}

// Guard returns f with its panics as errors.
func Guard(f func() error) func() error {
	return func() (err error) {
		defer Recover(&err)
		return f()
	}
}
