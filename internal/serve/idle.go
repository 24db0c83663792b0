package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// restTime is how long a server has no connection before it rests: the next one may come soon.
const restTime = 2 * time.Second

// idle says for how long a server has had nothing to do.
type idle struct {
	timeout time.Duration // 0 for never
	busy    func() bool
	rest    *time.Timer // calls what returns memory

	mu    sync.Mutex
	conns int
	since time.Time // when the last connection was closed
}

func newIdle(timeout time.Duration, busy func() bool, rest func()) *idle {
	if busy == nil {
		busy = func() bool { return false }
	}
	if rest == nil {
		rest = func() {}
	}
	return &idle{timeout: timeout, busy: busy, rest: time.AfterFunc(restTime, rest), since: time.Now()}
}

// enter notes a connection, and returns the function that notes its end.
func (i *idle) enter() (left func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns++
	i.rest.Stop()
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.since = time.Now()
		if i.conns--; i.conns == 0 {
			i.rest.Reset(restTime)
		}
	}
}

// remaining is how long nothing must happen from now on; 0 after the timeout.
func (i *idle) remaining() time.Duration {
	busy := i.busy()
	i.mu.Lock()
	defer i.mu.Unlock()
	if busy || i.conns > 0 {
		i.since = time.Now()
	}
	return max(0, i.timeout-time.Since(i.since))
}

// wait returns after the timeout, or when ctx ends.
func (i *idle) wait(ctx context.Context) {
	timer := time.NewTimer(i.timeout)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		left := i.remaining()
		if left == 0 {
			return
		}
		timer.Reset(left)
	}
}

// acceptAll accepts clients until a listener fails, and returns nil when the server is idle. A client that comes in the last moment is
// answered: the listeners stop before the server decides.
func (s *Server) acceptAll(ctx context.Context, listeners []net.Listener) error {
	for {
		err := s.acceptUntilIdle(ctx, listeners)
		if err != nil || ctx.Err() != nil || s.idle.remaining() == 0 {
			return err
		}
	}
}

// acceptUntilIdle accepts clients, and returns nil when all listeners have stopped because the server is idle.
func (s *Server) acceptUntilIdle(ctx context.Context, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.idle.timeout > 0 {
		go func() {
			s.idle.wait(ctx)
			for _, l := range listeners {
				_ = setDeadline(l, time.Unix(1, 0))
			}
		}()
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			err := s.accept(l)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = setDeadline(l, time.Time{})
			}
			ended <- err
		}()
	}
	for range listeners {
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}

// setDeadline ends an Accept of a listener that waits at a time; the zero time is never.
func setDeadline(l net.Listener, t time.Time) error {
	if d, ok := l.(interface{ SetDeadline(t time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return nil
}
