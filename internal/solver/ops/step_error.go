package ops

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/moby/buildkit/solver/errdefs"

	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// StepError is the error of an operation that failed, with the filesystems in which a front end can look for the reason.
type StepError struct {
	err error
	// Inputs are what the operation begins with, nil for what is no result: that of each mount of a process, all inputs of a file operation,
	// or the one whose content could not be read.
	Inputs []*solver.Result
	// Mounts give what the operation has left, nil for nothing: in each mount of a process, or after each action of a file operation.
	Mounts []func(ctx context.Context) (*solver.Result, error)
	// Subject is the action or the input that has failed, nil for a process.
	Subject errdefs.IsSolve_Subject
}

func (e *StepError) Error() string { return e.err.Error() }
func (e *StepError) Unwrap() error { return e.err }

// unreadable is the error of an input whose content is a part of the key, and could not be read.
func (w *Worker) unreadable(t *solver.Task, input int, err error) error {
	if w.ClientErrors {
		ref := "none"
		if input < len(t.Vertex.Inputs) {
			ref = t.Vertex.Inputs[input].Vertex.Digest.Encoded()
		}
		err = fmt.Errorf("failed to calculate checksum of ref mica::%s: %w", ref, err)
	}
	return &StepError{
		err: err, Inputs: []*solver.Result{t.Inputs[input]},
		Subject: &errdefs.Solve_Cache{Cache: &errdefs.ContentCache{Index: int64(input)}},
	}
}

// missing words the error of a source that does not exist as `docker build` does: "/file": not found. The missing file may be below
// src, if --parents names one. For a pattern, the error names the directory that is searched.
func missing(err error, src string, pattern bool) error {
	name := missingName(err, src, pattern)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q: not found", name)
	case pattern && errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%q: not a directory", name)
	}
	return err
}

func missingName(err error, src string, pattern bool) string {
	if pattern {
		src = view.BeforeWildcard(src)
	}
	name := path.Join("/", src)
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(at.Path, strings.TrimSuffix(name, "/")+"/") {
		return at.Path
	}
	return name
}

// uncopied is missing for a source that is no part of the key. Clients know the words of the operating system.
func (w *Worker) uncopied(err error, src string, pattern bool) error {
	if w.ClientErrors && errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "lstat", Path: missingName(err, src, pattern), Err: syscall.ENOENT}
	}
	return missing(err, src, pattern)
}
