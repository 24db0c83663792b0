package containers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	grammar "github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/network"
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
	if err := c.checkNets(); err != nil {
		return true, err
	}
	running, cancel := context.WithCancelCause(context.Background())
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })() // until it is started
	r := &run{cancel: cancel, ended: make(chan struct{}), told: map[string]bool{}}
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
	hosts := c.hosts()
	p.ExtraHosts = append(slices.Clone(p.ExtraHosts), hosts...)
	r.note(hosts)
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

// publishPorts publishes ports when the network is made, and returns what ends that.
func (c *Container) publishPorts(ctx context.Context, p *sandbox.Process) func() {
	var ends []func()
	p.NetworkMade = func(own *network.Namespace, err error) error {
		ports, parseErr := c.published()
		switch {
		case parseErr != nil:
			return parseErr
		case err != nil && len(ports) > 0:
			return fmt.Errorf("publish ports: the container cannot have a network of its own: %w", err)
		case err != nil:
			return nil
		}
		made := apinetwork.PortMap{}
		for _, port := range ports {
			at, end, err := own.Publish(ctx, port)
			if err != nil {
				return err
			}
			ends = append(ends, end)
			key, _ := apinetwork.PortFrom(port.Port, apinetwork.IPProtocol(port.Protocol))
			made[key] = append(made[key], bindings(port, at)...)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ports = made
		return nil
	}
	return func() {
		for _, end := range ends {
			end()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ports = nil
	}
}

// bindings are the addresses of the host that reach a port, as Docker lists them: those of IPv4 and IPv6 where all do.
func bindings(p network.Port, at net.Addr) []apinetwork.PortBinding {
	_, port, _ := net.SplitHostPort(at.String())
	if p.HostIP == "" {
		return []apinetwork.PortBinding{{HostIP: netip.IPv4Unspecified(), HostPort: port}, {HostIP: netip.IPv6Unspecified(), HostPort: port}}
	}
	ip, _ := netip.ParseAddr(p.HostIP)
	return []apinetwork.PortBinding{{HostIP: ip, HostPort: port}}
}

// published are the ports that the container publishes.
func (c *Container) published() ([]network.Port, error) {
	var publish, exposed []string
	for port, list := range c.host.PortBindings {
		for _, b := range list {
			text := b.HostPort + ":" + port.String()
			if b.HostIP.IsValid() {
				text = net.JoinHostPort(b.HostIP.String(), b.HostPort) + ":" + port.String()
				if b.HostPort == "" {
					text = strings.TrimSuffix(net.JoinHostPort(b.HostIP.String(), ""), ":") + "::" + port.String()
				}
			} else if b.HostPort == "" {
				text = port.String()
			}
			publish = append(publish, text)
		}
	}
	slices.Sort(publish)
	for port := range c.config.ExposedPorts {
		exposed = append(exposed, port.String())
	}
	ports, err := grammar.Ports(publish, exposed, c.host.PublishAllPorts)
	return ports, invalid(err)
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
	_ = c.m.announce(c) // a container that has ended meanwhile needs no names
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
	var typed *Error
	if err := c.stopToRestart(name, seconds); err != nil && (!errors.As(err, &typed) || typed.Kind != Unchanged) {
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
	var typed *Error
	if err != nil && (!errors.As(err, &typed) || typed.Kind != Unchanged) && ended && c.host.AutoRemove {
		return errors.Join(err, c.Remove(RemoveOptions{Force: true, Volumes: true}))
	}
	return err
}

// RemoveOptions say how a container is removed.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // with its anonymous volumes
}

// Remove removes the container.
func (c *Container) Remove(o RemoveOptions) error {
	if err := c.checkRemoval(o.Force); err != nil {
		return err
	}
	c.starting.Lock() // a start that is going on ends first
	defer c.starting.Unlock()
	if err := c.checkRemoval(o.Force); err != nil { // it may have been started
		return err
	}
	if c.isRemoved() {
		return nil
	}
	c.mu.Lock()
	c.removing = true
	r := c.run
	c.mu.Unlock()
	if r != nil {
		c.event(events.ActionKill, "signal", strconv.Itoa(int(syscall.SIGKILL)))
		r.cancel(errKilled)
		<-r.ended
	}
	c.kept.Lock() // who reads the files ends first
	c.m.forget(c)
	err := c.release()
	if o.Volumes {
		err = errors.Join(err, c.removeVolumes())
	}
	c.event(events.ActionDestroy)
	close(c.removed)
	return err
}

// checkRemoval refuses to remove a container that is being removed, or runs, unless that is forced.
func (c *Container) checkRemoval(force bool) error {
	c.mu.Lock()
	removing, running := c.removing, c.run != nil
	c.mu.Unlock()
	switch {
	case force:
		return nil
	case removing:
		return fail(Conflict, "removal of container %s is already in progress", c.ID)
	case running:
		return fail(Conflict, "cannot remove container %q: container is running: stop the container before removing or force remove", c.Name())
	}
	return nil
}

func (c *Container) isRemoved() bool {
	select {
	case <-c.removed:
		return true
	default:
		return false
	}
}

func isConflict(err error) bool {
	var typed *Error
	return errors.As(err, &typed) && typed.Kind == Conflict
}

// Rename gives the container another name.
func (c *Container) Rename(name string) error {
	old, err := c.m.rename(c, name)
	if err == nil {
		c.event(events.ActionRename, "oldName", "/"+old)
	}
	return err
}
