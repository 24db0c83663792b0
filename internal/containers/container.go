package containers

import (
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/overlay"
	"github.com/micabuild/mica/internal/pty"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/store"
)

// Container is a container of a manager.
type Container struct {
	ID      string
	m       *Manager
	created time.Time
	config  *container.Config
	host    *container.HostConfig
	image   *image.Image
	process *sandbox.Process // but for its streams
	root    overlay.Options
	mounts  []mountPoint
	log     *Log
	streams *streams

	// what it has of the store until it is removed
	store  *store.Store
	layers *layer.Layers
	use    *store.Use
	hold   *store.Lock
	tmp    *store.Temp

	removed chan struct{} // closed when it is
	// starting is held while the container starts, is copied from, or is removed.
	starting sync.Mutex

	mu        sync.Mutex
	name      string               // guarded by the manager
	endpoints map[string]*endpoint // by the name of the network; guarded by the manager
	state     container.ContainerState
	run       *run // nil unless it runs
	exit      chan struct{}
	exitCode  int
	failure   string
	oom       bool // the kernel has killed a process of it for lack of memory
	started   time.Time
	finished  time.Time
	size      pty.Size // of the terminal
	ports     apinetwork.PortMap
	removing  bool

	fileUsers sync.RWMutex // read-locked while the files are used; removing takes it for good
	// restarting counts the restarts that are stopping the process: its end is not that of the container.
	restarting int
}

// run is a process of a container that runs.
type run struct {
	box     *sandbox.Container
	process *sandbox.RunningProcess
	pid     int
	cancel  func(error)
	ended   chan struct{} // closed when the process has ended and its state is that

	hostsMu sync.Mutex
	hosts   map[string]bool // the names in its /etc/hosts
}

// Name is the container's name.
func (c *Container) Name() string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.name
}

// TTY reports whether the process has a terminal.
func (c *Container) TTY() bool { return c.config.Tty }

// Running reports whether the process runs.
func (c *Container) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run != nil
}

// PID is the process's ID in this pid namespace, 0 if it does not run.
func (c *Container) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return 0
	}
	return c.run.pid
}

// event publishes what has happened to the container.
func (c *Container) event(action events.Action, more ...string) {
	attributes := map[string]string{}
	maps.Copy(attributes, c.config.Labels)
	attributes["image"], attributes["name"] = c.config.Image, c.Name()
	for i := 0; i+1 < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	c.m.publish(events.ContainerEventType, action, c.ID, attributes)
}

// oomKilled notes that the kernel has killed a process of the container for lack of memory.
func (c *Container) oomKilled() {
	c.mu.Lock()
	c.oom = true
	c.mu.Unlock()
	c.event(events.ActionOOM)
}

// Removed is closed when the container has been removed.
func (c *Container) Removed() <-chan struct{} { return c.removed }

// holdFiles keeps the files of the container, and what it has of the store, from being removed until release is called. It refuses a
// container whose removal has begun.
func (c *Container) holdFiles() (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removing || !c.fileUsers.TryRLock() {
		return nil, fail(Conflict, "container %s is being removed", c.ID)
	}
	return c.fileUsers.RUnlock, nil
}

// Rename gives the container another name.
func (c *Container) Rename(name string) error {
	old, err := c.m.rename(c, name)
	if err == nil {
		c.event(events.ActionRename, "oldName", "/"+old)
	}
	return err
}

// Resize changes the size of the process's terminal.
func (c *Container) Resize(height, width uint16) error {
	c.mu.Lock()
	c.size = pty.Size{Rows: height, Columns: width}
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return fail(Conflict, "cannot resize a stopped container: container %s is not running", c.ID)
	}
	r.process.Resize(pty.Size{Rows: height, Columns: width})
	c.event(events.ActionResize, "height", strconv.Itoa(int(height)), "width", strconv.Itoa(int(width)))
	return nil
}
