// Package hostfiles says when the files and programs of this host are its own. In a container that lends its root directory to steps
// (internal/podroot) they are those of a step while it runs, whose author is not trusted.
package hostfiles

import (
	"context"
	"errors"
	"sync/atomic"
)

// Lender lends the root directory of this process to others.
type Lender interface {
	// Exclude waits until the root directory is lent to nobody, and keeps it so until release is called.
	Exclude(ctx context.Context) (release func() error, err error)
}

// lender is that of this process: a process has one root directory.
var lender atomic.Pointer[Lender]

// SetLender has [With] wait for l; nil lends nothing.
func SetLender(l Lender) { lender.Store(&l) }

// With calls f, which reads files of the host or runs its programs, while they are the host's own. It must not be called by f, and not by what a step
// waits for. The error is that of f, or of ctx.
func With(ctx context.Context, f func() error) (err error) {
	l := lender.Load()
	if l == nil || *l == nil {
		return f()
	}
	release, err := (*l).Exclude(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	return f()
}
