package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/sandbox"
)

// killedCode is the exit code of a process that SIGKILL has ended.
const killedCode = 128 + int(syscall.SIGKILL)

// errKilled ends the context of a process that is to be killed.
var errKilled = &ociruntime.ExitError{Code: killedCode}

// Start starts the process. It returns when the process runs, or the reason why it does not.
func (c *Container) Start(ctx context.Context) error {
	started, err := c.start(ctx)
	if err != nil && started && c.host.AutoRemove { // before the answer, as in Docker: its client waits for both
		_ = c.Remove(RemoveOptions{Force: true, Volumes: true})
	}
	return err
}

// start reports whether it has tried to start the process.
func (c *Container) start(ctx context.Context) (tried bool, err error) {
	c.starting.Lock()
	defer c.starting.Unlock()
	c.mu.Lock()
	switch {
	case c.run != nil:
		c.mu.Unlock()
		return false, fail(Unchanged, "the container is already running")
	case c.removing:
		c.mu.Unlock()
		return false, fail(Conflict, "container is marked for removal and cannot be started")
	}
	c.oom = false
	c.mu.Unlock()
	if err := c.checkNetworks(); err != nil {
		return true, err
	}
	running, cancel := context.WithCancelCause(context.Background())
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })() // until it is started
	r := &run{cancel: cancel, ended: make(chan struct{}), hosts: map[string]bool{}}
	unpublish, err := c.launch(running, r)
	if err != nil {
		if r.box != nil {
			_ = r.box.Close()
		}
		cancel(nil)
		unpublish()
		return true, c.notStarted(err)
	}
	c.begin(r)
	go c.await(r, unpublish)
	return true, nil
}

// launch starts the process. What it returns ends the publishing of ports.
func (c *Container) launch(ctx context.Context, r *run) (unpublish func(), err error) {
	p := *c.process
	p.Mounts = slices.Clone(p.Mounts)
	p.ExtraHosts = append(slices.Clone(p.ExtraHosts), c.networkHosts()...)
	for _, h := range p.ExtraHosts[len(c.process.ExtraHosts):] {
		r.hosts[h.Host] = true
	}
	unpublish = c.publishPorts(ctx, &p)
	cmd := sandbox.Command{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, User: p.User, Groups: p.Groups, Privileged: p.Privileged, TTY: p.TTY,
		Stdout: output{c.streams, Stdout}, Stderr: output{c.streams, Stderr}, OOMKilled: c.oomKilled,
	}
	c.mu.Lock()
	cmd.Size = c.size
	if cmd.Size == (pty.Size{}) {
		cmd.Size = pty.Size{Rows: uint16(c.host.ConsoleSize[0]), Columns: uint16(c.host.ConsoleSize[1])}
	}
	c.mu.Unlock()
	if c.config.OpenStdin {
		in, err := c.streams.openStdin()
		if err != nil {
			return unpublish, err
		}
		cmd.Stdin = in
	}
	if r.box, err = c.m.o.Host.Open(ctx, &p); err != nil {
		return unpublish, err
	}
	c.log.Begin()
	r.process, err = r.box.Start(ctx, cmd)
	return unpublish, err
}

// await waits for the end of the process.
func (c *Container) await(r *run, unpublish func()) {
	err := r.process.Wait()
	if closeErr := r.box.Close(); err == nil {
		err = closeErr
	}
	c.ended(r, err, unpublish)
}

// begin notes that the process runs.
func (c *Container) begin(r *run) {
	if pids := r.box.PIDs(); len(pids) > 0 {
		r.pid = pids[0]
	}
	c.mu.Lock()
	c.run, c.state, c.started, c.failure, c.exitCode = r, container.StateRunning, time.Now(), "", 0
	c.mu.Unlock()
	c.event(events.ActionStart)
	_ = c.m.updateHosts(c) // a container that has ended meanwhile needs no names
}

// notStarted notes that the process could not be started, and returns why.
func (c *Container) notStarted(err error) error {
	c.streams.stop()
	c.log.End()
	code := 128
	var start *ociruntime.StartError
	kind := Kind(0)
	if errors.As(err, &start) {
		code = start.Code
		if code == 126 || code == 127 {
			kind = Invalid
		}
	}
	c.mu.Lock()
	c.exitCode, c.failure = code, err.Error()
	exit := c.exit
	c.exit = make(chan struct{})
	c.mu.Unlock()
	close(exit)
	c.event(events.ActionDie, "exitCode", strconv.Itoa(code))
	switch {
	case start == nil:
		return err
	case code == 126 && !strings.Contains(err.Error(), "permission denied"):
		err = fmt.Errorf("%w: permission denied", err) // by which docker finds its exit code
	}
	return &Error{kind, fmt.Errorf("failed to start the container: %w", err)}
}

// ended notes that the process has ended.
func (c *Container) ended(r *run, err error, unpublish func()) {
	unpublish()
	r.cancel(nil)
	c.streams.stop()
	c.log.End()
	code, failure := 0, ""
	var exit *ociruntime.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		code = exit.Code
	default:
		code, failure = 255, err.Error()
	}
	c.mu.Lock()
	now := time.Now()
	c.run, c.state, c.exitCode, c.failure, c.finished = nil, container.StateExited, code, failure, now
	took := now.Sub(c.started)
	done, remove := c.exit, c.host.AutoRemove && c.restarting == 0
	c.exit = make(chan struct{})
	c.mu.Unlock()
	close(r.ended)
	c.event(events.ActionDie, "exitCode", strconv.Itoa(code), "execDuration", strconv.Itoa(int(took.Seconds())))
	close(done)
	if remove {
		go func() { _ = c.Remove(RemoveOptions{Force: true, Volumes: true}) }()
	}
}
