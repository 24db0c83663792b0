package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/network"
)

// Container is a root filesystem with its mounts, in which processes run at the same time: the first one, and others while it runs. With
// the first process all end. A Container is safe for concurrent use. It holds a thread until it is closed, and ends with this process.
//
//	c, err := host.Open(ctx, &sandbox.Process{Root: …, Mounts: …})
//	first, err := c.Start(ctx, sandbox.Command{Args: …, Stdout: …})
//	other, err := c.Exec(ctx, sandbox.Command{Args: …, TTY: true, …})
//	err = other.Resize(pty.Size{Rows: 24, Columns: 80})
//	err = other.Wait()
//	err = first.Signal(unix.SIGTERM)
//	err = first.Wait()
//	err = c.Close()
type Container struct {
	host *Host
	at   string // the directory of the bundle, by its name

	ctx   context.Context // ends with Close, and with that of Open
	close context.CancelCauseFunc
	calls chan func() // to run on the container's thread
	ended chan struct{}
	err   error // of the end

	// Descriptors of directories that only the thread sees: the bundle, /proc, the root filesystem and the sources of the mounts. They are
	// not closed while files is locked.
	dir, proc, root *os.File
	mounts          []*os.File
	files           sync.RWMutex
	filesClosed     bool

	// These belong to the thread.
	b        *bundle
	first    *RunningProcess
	others   map[*RunningProcess]bool
	launched int // processes, for their names

	cgroup string // of the processes; "" before the start, and without one
}

// ErrClosed is the error of calls after Close, and of the processes that it has ended.
var ErrClosed = errors.New("the container has ended")

// ErrNotRunning is the error of a process for a container whose first process does not run.
var ErrNotRunning = errors.New("the container is not running")

// Open mounts the root filesystem and the mounts of p. Nothing runs yet: the fields of p that Command has are ignored, but for Privileged.
// The end of ctx closes the container.
func (h *Host) Open(ctx context.Context, p *Process) (*Container, error) {
	init, err := h.readyInit()
	if err != nil {
		return nil, err
	}
	c := &Container{host: h, calls: make(chan func()), ended: make(chan struct{}), others: map[*RunningProcess]bool{}}
	remove := func() error { return nil }
	if c.at = p.Dir; c.at == "" {
		tmp, err := h.store.TempDir("run")
		if err != nil {
			return nil, err
		}
		c.at, remove = tmp.Path, tmp.Remove
	}
	c.ctx, c.close = context.WithCancelCause(ctx)
	opened := make(chan struct{})
	go func() {
		err := inNamespaces(init, crash.Guard(func() error { return c.live(p, opened) }))
		c.close(ErrClosed)
		c.err = errors.Join(err, remove())
		close(c.ended)
	}()
	select {
	case <-opened:
		return c, nil
	case <-c.ended:
		return nil, c.err
	}
}

// Close ends the processes of the container and unmounts it. It returns what has failed at the end of its filesystems, not the errors of
// processes.
func (c *Container) Close() error {
	c.close(ErrClosed)
	<-c.ended
	return c.err
}

// Done is closed when the container has been closed, also by the end of the context of Open.
func (c *Container) Done() <-chan struct{} { return c.ended }

// Hold keeps the files of Root and Mount open, and so the container from its end, until release is called.
func (c *Container) Hold() (release func(), err error) {
	c.files.RLock()
	if c.filesClosed {
		c.files.RUnlock()
		return nil, ErrClosed
	}
	return c.files.RUnlock, nil
}

// Root is the directory (O_PATH) of the root filesystem, without mounts. It is valid until Close, which Hold
// delays. Processes change it meanwhile: see package inroot.
func (c *Container) Root() *os.File { return c.root }

// Mount is the directory or file (O_PATH) that is the source of a mount, by the index in Process.Mounts, and nil for one that is not in a
// filesystem of layers or of the host. A selector is not applied. It is valid until Close, as Root.
func (c *Container) Mount(i int) *os.File {
	if i < 0 || i >= len(c.mounts) {
		return nil
	}
	return c.mounts[i]
}

// AddHosts adds lines to the processes' /etc/hosts, which they may have changed.
func (c *Container) AddHosts(hosts []network.ExtraHost) error {
	if len(hosts) == 0 {
		return nil
	}
	return c.do(func() error {
		f, err := os.OpenFile(c.path("hosts"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return fmt.Errorf("add hosts: %w", err)
		}
		_, err = f.Write(network.HostLines(hosts))
		return errors.Join(err, f.Close())
	})
}

// live is the container from its beginning to its end, on its thread.
func (c *Container) live(p *Process, opened chan<- struct{}) (err error) {
	b, err := c.host.newBundle(p, c.at)
	if err != nil {
		return err
	}
	c.b, b.remote, b.drain = b, true, drainTime
	defer func() { c.b.unmount() }()
	if err := b.mount(); err != nil {
		return err
	}
	defer c.closeFiles()
	if err := c.openFiles(); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	close(opened)
	for c.ctx.Err() == nil {
		select {
		case call := <-c.calls:
			call()
		case <-c.ctx.Done():
		}
	}
	c.endProcesses()
	if c.cgroup != "" {
		removeCgroup(filepath.Join(cgroupRoot, c.cgroup)) // the runtime removes only that of the container
	}
	c.closeFiles()
	c.b.detach()
	return c.b.seal()
}

// do calls f on the container's thread.
func (c *Container) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case c.calls <- func() { done <- crash.Guard(f)() }:
		return <-done
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// openFiles opens what other threads need of the container's mount namespace.
func (c *Container) openFiles() (err error) {
	open := func(path string) *os.File {
		fd, openErr := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if openErr != nil {
			err = errors.Join(err, &os.PathError{Op: "open", Path: path, Err: openErr})
			return nil
		}
		return os.NewFile(uintptr(fd), path)
	}
	c.dir, c.proc, c.root = open(c.b.dir), open("/proc"), open(c.b.rootfs)
	c.mounts = make([]*os.File, len(c.b.p.Mounts))
	for i, m := range c.b.p.Mounts {
		switch m.Type {
		case MountUnion:
			c.mounts[i] = open(c.b.unionDir(i))
		case MountBind:
			c.mounts[i] = open(m.Source)
		}
	}
	return err
}

func (c *Container) closeFiles() {
	c.files.Lock()
	defer c.files.Unlock()
	c.filesClosed = true
	for _, f := range append([]*os.File{c.dir, c.proc, c.root}, c.mounts...) {
		_ = f.Close() // a nil file can be closed
	}
}

// endProcesses ends all processes of the container and waits for them.
func (c *Container) endProcesses() {
	if c.first == nil {
		return
	}
	select {
	case <-c.first.done:
	default:
		c.host.remove(c.b, c.first.child)
	}
	<-c.first.done
	for p := range c.others {
		p.kill()
		<-p.done
	}
}

// path is a path in the bundle of the container.
func (c *Container) path(name string) string { return filepath.Join(c.b.dir, name) }
