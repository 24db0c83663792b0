package containers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/sys/signal"
)

// Wait returns a function that waits for a condition, and returns the exit code. What it waits for is fixed when Wait returns.
func (c *Container) Wait(until container.WaitCondition) (func(context.Context) (int, string, error), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ch chan struct{}
	switch until {
	case "", container.WaitConditionNotRunning:
		if c.run == nil {
			code, failure := c.exitCode, c.failure
			return func(context.Context) (int, string, error) { return code, failure, nil }, nil
		}
		ch = c.exit
	case container.WaitConditionNextExit:
		ch = c.exit
	case container.WaitConditionRemoved:
		ch = c.removed
	default:
		return nil, fail(Invalid, "invalid condition: %q", until)
	}
	return func(ctx context.Context) (int, string, error) {
		select {
		case <-ch:
		case <-c.removed:
		case <-ctx.Done():
			return 0, "", context.Cause(ctx)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.exitCode, "", nil
	}, nil
}

// Kill sends a signal to the process; "" for SIGKILL.
func (c *Container) Kill(name string) error {
	sig := syscall.SIGKILL
	if name != "" {
		var err error
		if sig, err = signal.ParseSignal(name); err != nil {
			return fail(Invalid, "cannot kill container: %s: %w", c.Name(), err)
		}
	}
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return fail(Conflict, "cannot kill container: %s: container %s is not running", c.Name(), c.ID)
	}
	c.event(events.ActionKill, "signal", strconv.Itoa(int(sig)))
	if err := r.process.Signal(sig); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", c.Name(), err)
	}
	if sig == syscall.SIGKILL {
		<-r.ended
	}
	return nil
}

// defaultStop is the time that a process has to end after its stop signal.
const defaultStop = 10

// Stop sends the stop signal, and kills the process if it has not ended after a number of seconds: nil for the container's own, negative for
// any time. As in Docker, it goes on when its client has gone.
func (c *Container) Stop(name string, seconds *int) error {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return fail(Unchanged, "the container is not running")
	}
	if name == "" {
		name = c.config.StopSignal
	}
	sig := syscall.SIGTERM
	if name != "" {
		var err error
		if sig, err = signal.ParseSignal(name); err != nil {
			return invalid(err)
		}
	}
	wait := defaultStop
	if c.config.StopTimeout != nil {
		wait = *c.config.StopTimeout
	}
	if seconds != nil {
		wait = *seconds
	}
	c.event(events.ActionKill, "signal", strconv.Itoa(int(sig)))
	if err := r.process.Signal(sig); err != nil {
		return fmt.Errorf("cannot stop container: %s: %w", c.Name(), err)
	}
	var over <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(time.Duration(wait) * time.Second)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-r.ended:
	case <-over:
		c.event(events.ActionKill, "signal", strconv.Itoa(int(syscall.SIGKILL)))
		r.cancel(errKilled)
		<-r.ended
	}
	c.event(events.ActionStop)
	return nil
}

// Restart stops the process if it runs, and starts it again, also when its client has gone.
func (c *Container) Restart(ctx context.Context, name string, seconds *int) error {
	if err := c.stopToRestart(name, seconds); err != nil && !isKind(err, Unchanged) {
		return err
	}
	if err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	c.event(events.ActionRestart)
	return nil
}

// stopToRestart stops the process. A container that removes itself with its process stays, unless that fails.
func (c *Container) stopToRestart(name string, seconds *int) error {
	c.mu.Lock()
	c.restarting++
	c.mu.Unlock()
	err := c.Stop(name, seconds)
	c.mu.Lock()
	c.restarting--
	ended := c.run == nil && c.state == container.StateExited
	c.mu.Unlock()
	if err != nil && !isKind(err, Unchanged) && ended && c.host.AutoRemove {
		return errors.Join(err, c.Remove(RemoveOptions{Force: true, Volumes: true}))
	}
	return err
}
