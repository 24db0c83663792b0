package containers

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/term"
)

// AttachOptions connect a client with the streams of a process.
type AttachOptions struct {
	Stdin          io.Reader    // nil for none
	Stdout, Stderr io.Writer    // nil for none. They fail when the client reads nothing for too long
	DetachKeys     string       // "" for ctrl-p,ctrl-q
	Logs, Stream   bool         // what was written before; what comes
	Ready          func() error // called when nothing that comes is missed; nil for none. An error ends the attachment
}

const defaultDetachKeys = "ctrl-p,ctrl-q"

// keyReader returns a reader that fails when the detach keys are typed.
func keyReader(in io.Reader, keys string) (io.Reader, error) {
	if keys == "" {
		keys = defaultDetachKeys
	}
	bytes, err := term.ToBytes(keys)
	if err != nil {
		return nil, fail(Invalid, "Invalid detach keys (%s) provided", keys)
	}
	return term.NewEscapeProxy(in, bytes), nil
}

// CheckDetachKeys refuses keys that there are not.
func CheckDetachKeys(keys string) error {
	_, err := keyReader(nil, keys)
	return err
}

// Attach connects a client, until the process ends, the client goes away, which ctx says, or it types the detach keys. A process that is not
// yet started is waited for.
func (c *Container) Attach(ctx context.Context, o AttachOptions) error {
	if o.Logs {
		err := c.log.Read(ctx, LogOptions{Stdout: o.Stdout != nil, Stderr: o.Stderr != nil, Tail: -1}, func(r *Record) error {
			to := o.Stdout
			if r.Stream == Stderr {
				to = o.Stderr
			}
			_, err := to.Write(r.Data)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !o.Stream {
		return nil
	}
	c.event(events.ActionAttach)
	if !c.config.OpenStdin {
		o.Stdin = nil
	}
	err := c.streams.serve(ctx, o, c.config.Tty, c.config.StdinOnce)
	if errors.Is(err, errDetached) {
		c.event(events.ActionDetach)
	}
	return err
}

// serve connects a client with the streams until they end, it goes away or it is detached. once says that its end of the input is that of the
// process.
func (s *streams) serve(ctx context.Context, o AttachOptions, tty, once bool) error {
	a := s.attach(o.Stdout, o.Stderr)
	defer s.detach(a)
	if o.Ready != nil {
		if err := o.Ready(); err != nil {
			return err
		}
	}
	detached := make(chan struct{})
	if o.Stdin != nil {
		if _, err := s.openStdin(); err != nil {
			return err
		}
		in := o.Stdin
		if tty {
			var err error
			if in, err = keyReader(in, o.DetachKeys); err != nil {
				return err
			}
		}
		go s.feed(in, a, detached, once && !tty)
	}
	select {
	case <-a.done:
		return nil
	case <-detached:
		return errDetached
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// feed passes on what a client sends until the client is detached, and closes detached if it sends the detach keys.
func (s *streams) feed(in io.Reader, a *attachment, detached chan<- struct{}, once bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 && s.writeStdin(a, buf[:n]) != nil {
			return
		}
		var escape term.EscapeError
		switch {
		case errors.As(err, &escape):
			close(detached)
			return
		case err != nil:
			if once {
				s.closeStdin()
			}
			return
		}
	}
}

// Logs calls f for each record of the log.
func (c *Container) Logs(ctx context.Context, o LogOptions, f func(*Record) error) error {
	return c.log.Read(ctx, o, f)
}
