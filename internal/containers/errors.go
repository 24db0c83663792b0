package containers

import (
	"errors"
	"fmt"
)

// Kind says what kind of error a request has met.
type Kind int

// The kinds of errors.
const (
	Invalid     Kind = iota + 1 // the request is wrong
	NotFound                    // what it names does not exist
	Conflict                    // the state of the container forbids it
	Unsupported                 // mica does not have it
	Unchanged                   // there is nothing to do
	Forbidden                   // it is never possible
)

// Error is an error of a kind, in the words of Docker's daemon.
type Error struct {
	Kind Kind
	err  error
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

func fail(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Errorf(format, args...)}
}

// invalid makes an error that of a wrong request.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Invalid, err}
}

// isKind reports whether an error is of a kind.
func isKind(err error, kind Kind) bool {
	var typed *Error
	return errors.As(err, &typed) && typed.Kind == kind
}
