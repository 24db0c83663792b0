package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	grammar "github.com/micabuild/mica/internal/container"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/sandbox"
)

// Exec is a further process in a container that runs. It is known as long as the container runs.
type Exec struct {
	ID      string
	created time.Time
	c       *Container
	r       *run
	o       container.ExecCreateRequest
	streams *streams
	started chan struct{} // closed when process is set, or the process could not be started

	mu      sync.Mutex
	process *sandbox.RunningProcess // nil before it is started
	begun   bool
	size    pty.Size
	code    *int
}

// Exec makes a further process, which Start starts.
func (c *Container) Exec(o container.ExecCreateRequest) (*Exec, error) {
	switch {
	case len(o.Cmd) == 0:
		return nil, fail(Invalid, "No exec command specified")
	case o.WorkingDir != "" && !filepath.IsAbs(o.WorkingDir):
		return nil, fail(Invalid, "the working directory %q is invalid, it needs to be an absolute path", o.WorkingDir)
	}
	if err := CheckDetachKeys(o.DetachKeys); err != nil {
		return nil, err
	}
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return nil, fail(Conflict, "container %s is not running", c.ID)
	}
	e := &Exec{ID: newID(), created: time.Now(), c: c, r: r, o: o, streams: newStreams(nil), started: make(chan struct{})}
	if o.ConsoleSize != nil {
		e.size = pty.Size{Rows: uint16(o.ConsoleSize[0]), Columns: uint16(o.ConsoleSize[1])}
	}
	if !c.m.addExec(e) {
		return nil, fail(Conflict, "container %s has %d processes of exec, which is the limit", c.ID, maxExecs)
	}
	e.event(events.ActionExecCreate)
	return e, nil
}

// addExec adds a process. When there are too many, those that cannot be started any more are forgotten, and then the oldest that was never
// started.
func (m *Manager) addExec(added *Exec) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*Exec
	for _, e := range m.execs {
		if e.c == added.c {
			all = append(all, e)
		}
	}
	if len(all) >= maxExecs {
		all = m.forgetExecs(all)
	}
	if len(all) >= maxExecs {
		return false
	}
	m.execs[added.ID] = added
	return true
}

func (m *Manager) forgetExecs(all []*Exec) (kept []*Exec) {
	var oldest *Exec
	for _, e := range all {
		if e.over() {
			delete(m.execs, e.ID)
			continue
		}
		kept = append(kept, e)
		if !e.claimed() && (oldest == nil || e.created.Before(oldest.created)) {
			oldest = e
		}
	}
	if len(kept) >= maxExecs && oldest != nil {
		delete(m.execs, oldest.ID)
		kept = slices.DeleteFunc(kept, func(e *Exec) bool { return e == oldest })
	}
	return kept
}

func (e *Exec) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process != nil && e.code == nil
}

func (e *Exec) claimed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.begun
}

// over reports whether the process, or that of its container, has ended.
func (e *Exec) over() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.r.ended:
		return true
	default:
		return e.code != nil
	}
}

// FindExec finds a process of exec by its ID.
func (m *Manager) FindExec(id string) (*Exec, error) {
	m.mu.Lock()
	e := m.execs[id]
	m.mu.Unlock()
	if e == nil {
		return nil, fail(NotFound, "No such exec instance: %s", id)
	}
	return e, nil
}

func (e *Exec) event(action events.Action, more ...string) {
	if action != events.ActionExecDie {
		action = events.Action(string(action) + ": " + strings.Join(e.o.Cmd, " "))
	}
	e.c.event(action, append([]string{"execID", e.ID}, more...)...)
}

// TTY reports whether the process has a terminal.
func (e *Exec) TTY() bool { return e.o.Tty }

// Check refuses a process that cannot be started any more.
func (e *Exec) Check() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.check()
}

// check is Check for a caller that has the lock.
func (e *Exec) check() error {
	switch {
	case e.code != nil:
		return fail(Conflict, "Exec command %s has already run", e.ID)
	case e.begun:
		return fail(Conflict, "Error: Exec command %s is already running", e.ID)
	}
	select {
	case <-e.r.ended:
		return fail(Conflict, "container %s is not running", e.c.ID)
	default:
		return nil
	}
}

// claim takes the one start that a process has. A size that is not zero is that of its terminal.
func (e *Exec) claim(size pty.Size) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(); err != nil {
		return err
	}
	e.begun = true
	if size != (pty.Size{}) {
		e.size = size
	}
	return nil
}

// Start starts the process. With a client, it serves that until the process ends.
func (e *Exec) Start(ctx context.Context, size pty.Size, client *AttachOptions) error {
	if err := e.claim(size); err != nil {
		return err
	}
	served := make(chan error, 1)
	if err := e.launch(ctx, client, served); err != nil {
		close(e.started)
		e.end(notStarted{err})
		return startError(err)
	}
	close(e.started)
	e.event(events.ActionExecStart)
	go func() { e.end(e.process.Wait()) }()
	if client == nil {
		return nil
	}
	return <-served
}

// launch attaches the client, if there is one, and starts the process. What serves the client sends its end to served.
func (e *Exec) launch(ctx context.Context, client *AttachOptions, served chan<- error) error {
	cmd, err := e.command()
	if err != nil {
		return err
	}
	if client != nil {
		if !e.o.AttachStdin {
			client.Stdin = nil
		}
		client.DetachKeys = e.o.DetachKeys
		if client.Stdin != nil {
			if cmd.Stdin, err = e.streams.openStdin(); err != nil {
				return err
			}
		}
		ready := make(chan struct{})
		client.Ready = func() error { close(ready); return nil }
		go func() { served <- e.streams.serve(ctx, *client, e.o.Tty, true) }()
		<-ready
	}
	p, err := e.r.box.Exec(context.Background(), cmd)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.process = p
	if e.size != cmd.Size {
		p.Resize(e.size)
	}
	return nil
}

// startError is the error of a process that could not be started.
func startError(err error) error {
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	var start *ociruntime.StartError
	kind := Kind(0)
	if errors.As(err, &start) && (start.Code == 126 || start.Code == 127) {
		kind = Invalid
	}
	if errors.Is(err, sandbox.ErrNotRunning) {
		kind = Conflict
	}
	if start == nil {
		return &Error{kind, err}
	}
	return &Error{kind, fmt.Errorf("failed to start the process: %w", err)}
}

func (e *Exec) command() (sandbox.Command, error) {
	e.mu.Lock()
	size := e.size
	e.mu.Unlock()
	c := e.c
	env := grammar.Environment{Image: append(append([]string(nil), c.config.Env...), e.o.Env...), Hostname: c.hostname(), TTY: e.o.Tty}
	variables, err := env.Variables()
	if err != nil {
		return sandbox.Command{}, invalid(err)
	}
	return sandbox.Command{
		Args: e.o.Cmd, Env: variables, Cwd: cmp.Or(e.o.WorkingDir, c.config.WorkingDir), User: cmp.Or(e.o.User, c.config.User),
		Groups: c.host.GroupAdd, Privileged: e.o.Privileged, TTY: e.o.Tty, Size: size,
		Stdout: output{e.streams, Stdout}, Stderr: output{e.streams, Stderr},
	}, nil
}

// notStarted is the error of a process that has not been started.
type notStarted struct{ error }

func (e notStarted) Unwrap() error { return e.error }

// end notes that the process has ended.
func (e *Exec) end(err error) {
	code := 0
	var exit *ociruntime.ExitError
	var start *ociruntime.StartError
	switch {
	case errors.As(err, &exit):
		code = exit.Code
	case errors.As(err, &start):
		code = start.Code
	case errors.As(err, &notStarted{}):
		code = 126
	case err != nil:
		code = killedCode
	}
	e.mu.Lock()
	e.code = &code
	e.mu.Unlock()
	e.streams.stop()
	e.event(events.ActionExecDie, "exitCode", strconv.Itoa(code))
}

// Resize changes the size of the terminal. As in Docker, it waits for a process that is being started: what is typed after it finds the size.
func (e *Exec) Resize(ctx context.Context, height, width uint16) error {
	e.mu.Lock()
	e.size = pty.Size{Rows: height, Columns: width}
	begun := e.begun
	e.mu.Unlock()
	if !begun {
		return nil
	}
	select {
	case <-e.started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process != nil {
		e.process.Resize(e.size)
	}
	return nil
}

// Inspect describes the process.
func (e *Exec) Inspect() *container.ExecInspectResponse {
	e.mu.Lock()
	defer e.mu.Unlock()
	privileged := e.o.Privileged
	return &container.ExecInspectResponse{
		ID: e.ID, Running: e.begun && e.code == nil, ExitCode: e.code, ContainerID: e.c.ID, OpenStdin: e.o.AttachStdin, OpenStdout: e.o.AttachStdout,
		OpenStderr: e.o.AttachStderr, CanRemove: e.code != nil, DetachKeys: []byte{},
		ProcessConfig: &container.ExecProcessConfig{Tty: e.o.Tty, Entrypoint: e.o.Cmd[0], Arguments: e.o.Cmd[1:], Privileged: &privileged, User: e.o.User},
	}
}
