package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/account"
	"github.com/micabuild/mica/internal/cgroup"
	"github.com/micabuild/mica/internal/ociruntime"
	"github.com/micabuild/mica/internal/pty"
)

// Command is a process of a Container.
type Command struct {
	Args, Env  []string
	Cwd        string // "" for /
	User       string // as in Process
	Groups     []string
	Privileged bool // it has all capabilities
	// TTY gives the process a terminal of the size Size, whose other end are Stdin and Stdout.
	TTY  bool
	Size pty.Size
	// Stdin is read until it ends, also after the end of the process: its owner closes it then.
	Stdin          io.Reader // nil for none
	Stdout, Stderr io.Writer // nil for none
	// OOMKilled is called when the kernel has killed a process of the container for lack of memory, for the command of Start alone. All
	// calls are made before Wait returns. Where there is no cgroup of memory it is not called; nil for nobody.
	OOMKilled func()
}

// drainTime is how long output is awaited after the end of a process from processes that it has started and that keep its streams: as in
// Docker.
const drainTime = 2 * time.Second

// RunningProcess is a process of a Container. It is safe for concurrent use.
type RunningProcess struct {
	ctx   context.Context // ends the process
	child *child
	done  chan struct{} // closed when err is set
	err   error

	mu     sync.Mutex
	pid    *os.File // its directory in /proc, by which it gets signals; nil before it is known and after the end
	memory *cgroup.OOMWatch
	ending bool // memory is not set any more
}

// Wait waits for the end of the process. Its errors are those of [Host.Run].
func (p *RunningProcess) Wait() error {
	<-p.done
	return p.err
}

// Done is closed at the end of the process.
func (p *RunningProcess) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process. There is no error if it has ended.
func (p *RunningProcess) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == nil {
		return nil
	}
	err := unix.PidfdSendSignal(int(p.pid.Fd()), sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send signal %d to process: %w", sig, err)
	}
	return nil
}

// Resize sets the size of the terminal of the process, if it has one.
func (p *RunningProcess) Resize(s pty.Size) {
	if p.child.terminal != nil {
		p.child.terminal.Resize(s)
	}
}

func (p *RunningProcess) kill() { _ = p.Signal(unix.SIGKILL) }

// with returns a bundle for a command. The container's own is not changed.
func (b *bundle) with(cmd Command) *bundle {
	p, with := *b.p, *b
	p.Args, p.Env, p.Cwd, p.User, p.Groups = cmd.Args, cmd.Env, cmd.Cwd, cmd.User, cmd.Groups
	p.Privileged = p.Privileged || cmd.Privileged
	p.TTY, p.Stdin, p.Stdout, p.Stderr = cmd.TTY, cmd.Stdin, cmd.Stdout, cmd.Stderr
	with.p, with.size = &p, cmd.Size
	return &with
}

// Start starts the first process, and returns when others can be started beside it. It is called once. If the process cannot be started,
// the error is an [ociruntime.StartError]. The end of ctx ends the container's processes.
func (c *Container) Start(ctx context.Context, cmd Command) (*RunningProcess, error) {
	if len(cmd.Args) == 0 {
		return nil, errors.New("process has no arguments")
	}
	p := newRunningProcess(ctx)
	err := c.do(func() error { return c.startFirst(p, cmd) })
	if err != nil {
		return nil, err
	}
	if err := c.started(p, firstPid); err != nil {
		return nil, err
	}
	if c.cgroup != "" && cmd.OOMKilled != nil {
		p.watchMemory(c.cgroup, cmd.OOMKilled)
	}
	context.AfterFunc(ctx, func() {
		_ = c.do(func() error {
			if !p.hasEnded() {
				c.host.remove(c.b, p.child)
			}
			return nil
		})
	})
	return p, nil
}

func newRunningProcess(ctx context.Context) *RunningProcess {
	return &RunningProcess{ctx: ctx, done: make(chan struct{})}
}

// firstPid is the name of the file with the process ID of the first process.
const firstPid = "pid"

func (c *Container) startFirst(p *RunningProcess, cmd Command) error {
	if c.b.clean != nil {
		return errors.New("the container has been started before")
	}
	b := c.b.with(cmd)
	c.b = b
	if b.ownCgroup() {
		c.cgroup = b.cgroupPath()
	}
	if err := c.host.ready(p.ctx, b); err != nil {
		return err
	}
	run, t, err := c.host.prepareRun(b, "--pid-file", c.path(firstPid))
	if err != nil {
		return err
	}
	if err := c.launch(p, b, run, t, ociruntime.LogPath(b.dir)); err != nil {
		return err
	}
	c.first = p
	return nil
}

// launch starts the runtime of a process.
func (c *Container) launch(p *RunningProcess, b *bundle, cmd *exec.Cmd, t *pty.Terminal, log string) (err error) {
	if p.child, err = c.host.launch(p.ctx, b, t, cmd, log); err != nil {
		if t != nil {
			t.Release()
		}
		return err
	}
	go func() {
		err := <-p.child.ended
		if t != nil {
			t.Release()
		}
		p.end(c, err)
	}()
	return nil
}

// watchMemory reports the processes of a cgroup that the kernel kills for lack of memory, until the end of the process.
func (p *RunningProcess) watchMemory(path string, killed func()) {
	w, err := cgroup.WatchOOM(path, killed)
	if err != nil {
		return // there is no cgroup of memory
	}
	p.mu.Lock()
	ending := p.ending
	p.memory = w
	p.mu.Unlock()
	if ending {
		w.Close()
	}
}

// endMemory ends the watch of the memory.
func (p *RunningProcess) endMemory() {
	p.mu.Lock()
	p.ending = true
	w := p.memory
	p.mu.Unlock()
	if w != nil {
		w.Close()
	}
}

// end sets the result of a process.
func (p *RunningProcess) end(c *Container, err error) {
	p.endMemory()
	for _, ctx := range []context.Context{p.ctx, c.ctx} {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != nil {
		_ = p.pid.Close()
		p.pid = nil
	}
	p.err = err
	close(p.done)
}

func (p *RunningProcess) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Exec starts another process while the first one runs. The end of ctx kills the process, but not those that it has started. A process that
// cannot be started gives the error of Start, here or, if that shows later, from Wait. (runc waits for the end of the output, also of
// processes that stay behind, and crun only for the process.)
func (c *Container) Exec(ctx context.Context, cmd Command) (*RunningProcess, error) {
	if len(cmd.Args) == 0 {
		return nil, errors.New("process has no arguments")
	}
	p := newRunningProcess(ctx)
	var pidFile string
	err := c.do(func() (err error) {
		pidFile, err = c.startOther(p, cmd)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := c.started(p, pidFile); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, p.kill)
	return p, nil
}

func (c *Container) startOther(p *RunningProcess, cmd Command) (pidFile string, err error) {
	for old := range c.others {
		if old.hasEnded() {
			delete(c.others, old)
		}
	}
	if c.first == nil || c.first.hasEnded() {
		return "", ErrNotRunning
	}
	c.launched++
	n := strconv.Itoa(c.launched)
	b := c.b.with(cmd)
	b.p.Init = false
	if b.ids, err = account.Lookup(b.root, cmd.User, cmd.Groups); err != nil {
		return "", err
	}
	if b.env, err = account.WithHome(cmd.Env, b.root, b.ids.UID); err != nil {
		return "", err
	}
	if err := c.host.checkAccounts(b); err != nil {
		return "", err
	}
	pidFile = "pid-" + n
	run, t, err := c.host.prepareExec(b, n, "--pid-file", c.path(pidFile))
	if err != nil {
		return "", err
	}
	if err := c.launch(p, b, run, t, execLog(b, n)); err != nil {
		return "", err
	}
	c.others[p] = true
	return pidFile, nil
}

func execLog(b *bundle, n string) string { return filepath.Join(b.dir, "log-"+n+".json") }

// prepareExec writes the specification of another process, and returns the runtime's command for it and its terminal, nil for none.
func (h *Host) prepareExec(b *bundle, n string, options ...string) (cmd *exec.Cmd, t *pty.Terminal, err error) {
	spec, err := b.spec()
	if err != nil {
		return nil, nil, err
	}
	if b.p.TTY && b.size != (pty.Size{}) {
		spec.Process.ConsoleSize = &specs.Box{Height: uint(b.size.Rows), Width: uint(b.size.Columns)}
	}
	data, err := json.Marshal(spec.Process)
	if err != nil {
		return nil, nil, err
	}
	file, socket := filepath.Join(b.dir, "process-"+n+".json"), "console-"+n
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, nil, fmt.Errorf("prepare process: %w", err)
	}
	args := append([]string{"exec", "--process", file}, options...)
	if b.p.TTY && h.isCrun() {
		args = append(args, "--console-socket", socket)
	}
	cmd = ociruntime.CommandWithLog(h.runtime, b.dir, execLog(b, n), h.hasCgroups(), append(args, containerID)...)
	if b.p.TTY {
		if t, err = h.terminal(cmd, b, socket); err != nil {
			return nil, nil, fmt.Errorf("prepare process: %w", err)
		}
	}
	return cmd, t, nil
}

// startedPause is how long the runtime is left to start a process before it is asked again.
const startedPause = time.Millisecond

// started waits until the process runs, and its container is one in which others can be started. If the process cannot be started, it
// returns the reason.
func (c *Container) started(p *RunningProcess, pidFile string) error {
	for !c.isStarted(p, pidFile) {
		select {
		case <-p.done:
			var failed *ociruntime.ExitError
			if p.err != nil && !errors.As(p.err, &failed) {
				return p.err
			}
			return nil
		case <-time.After(startedPause):
		}
	}
	return nil
}

// isStarted reports whether the process runs, and opens its directory in /proc.
func (c *Container) isStarted(p *RunningProcess, pidFile string) bool {
	release, err := c.Hold()
	if err != nil {
		return false // it is about to end
	}
	defer release()
	pid, ok := c.pidIn(pidFile)
	if !ok || !c.hasState() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hasEnded() {
		return true
	}
	fd, err := unix.Openat(int(c.proc.Fd()), strconv.Itoa(pid), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		p.pid = os.NewFile(uintptr(fd), "process")
	}
	return true
}

// pidIn returns the process ID in a file that the runtime writes.
func (c *Container) pidIn(name string) (int, bool) {
	fd, err := unix.Openat(int(c.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, err == nil && pid > 0
}

// hasState reports whether the runtime has written the state of the container, which its other commands need.
func (c *Container) hasState() bool {
	name := "state.json"
	if c.host.isCrun() {
		name = "status"
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(c.dir.Fd()), filepath.Join(ociruntime.StatePath(""), containerID, name), &st, 0)
	return err == nil && st.Size > 0
}
