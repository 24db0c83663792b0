// Package containers has the containers of Docker's API: their creation, their processes, logs and streams, and the volumes of a store. A
// container lives as long as the process that made it: its files are temporary files of the store, and its processes end with it. Volumes
// stay.
//
// Root and Fill prepare what mica run runs in, too.
package containers

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/micabuild/mica/internal/sandbox"
)

// Limits of a manager.
const (
	maxContainers = 1024
	maxExecs      = 256 // of a container
)

// Options are what a manager works with.
type Options struct {
	// Root is the directory of the store.
	Root string
	// Host runs the processes.
	Host *sandbox.Host
	// Publish gets the events of containers and volumes; nil for nobody.
	Publish func(kind events.Type, action events.Action, id string, attributes map[string]string)
}

// Manager has the containers of a server. It is safe for concurrent use.
type Manager struct {
	o       Options
	volumes *Volumes

	mu     sync.Mutex
	all    map[string]*Container // by ID
	names  map[string]string     // IDs by name
	execs  map[string]*Exec
	closed bool
	// networks are those that users have made, by name.
	networks map[string]apinetwork.Network
}

// NewManager returns a manager without containers.
func NewManager(o Options) *Manager {
	m := &Manager{o: o, all: map[string]*Container{}, names: map[string]string{}, execs: map[string]*Exec{}, networks: map[string]apinetwork.Network{}}
	m.volumes = &Volumes{root: o.Root, publish: m.publish}
	return m
}

// Volumes are those of the store.
func (m *Manager) Volumes() *Volumes { return m.volumes }

func (m *Manager) publish(kind events.Type, action events.Action, id string, attributes map[string]string) {
	if m.o.Publish != nil {
		m.o.Publish(kind, action, id, attributes)
	}
}

// Close ends all containers and removes them. It returns when nothing of them is left.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	var mu sync.Mutex
	var errs []error
	var wait sync.WaitGroup
	for _, c := range m.list() {
		wait.Go(func() {
			err := c.Remove(RemoveOptions{Force: true, Volumes: c.host.AutoRemove})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// list returns the containers, the newest first.
func (m *Manager) list() []*Container {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*Container
	for _, c := range m.all {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Container) int { return b.created.Compare(a.created) })
	return all
}

// Count returns how many containers run, and how many there are.
func (m *Manager) Count() (running, all int) {
	list := m.list()
	for _, c := range list {
		if c.Running() {
			running++
		}
	}
	return running, len(list)
}

// Find finds a container by its ID, name, or a prefix of its ID.
func (m *Manager) Find(ref string) (*Container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.all[ref]; c != nil {
		return c, nil
	}
	if id, ok := m.names[strings.TrimPrefix(ref, "/")]; ok && m.all[id] != nil {
		return m.all[id], nil
	}
	var found *Container
	for id, c := range m.all {
		if ref != "" && strings.HasPrefix(id, ref) {
			if found != nil {
				return nil, fail(Invalid, "multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fail(NotFound, "No such container: %s", ref)
	}
	return found, nil
}

// reserve gives a container its name, or one that is free. Others do not see the container before it is added.
func (m *Manager) reserve(c *Container, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return errClosed
	case len(m.names) >= maxContainers:
		return fail(Conflict, "there are %d containers, which is the limit: remove some", maxContainers)
	}
	if name == "" {
		name = m.freeName()
	}
	if len(name) < 2 || !validName(name) {
		return fail(Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if id, ok := m.names[name]; ok {
		return fail(Conflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, id)
	}
	c.name = name
	m.names[name] = c.ID
	return nil
}

// errClosed refuses containers after Close.
var errClosed = errors.New("the server is about to end")

// add adds a container that is complete.
func (m *Manager) add(c *Container) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	m.all[c.ID] = c
	return nil
}

func (m *Manager) forget(c *Container) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, c.ID)
	delete(m.names, c.name)
	for id, e := range m.execs {
		if e.c == c {
			delete(m.execs, id)
		}
	}
}

// rename gives a container another name.
func (m *Manager) rename(c *Container, name string) (old string, err error) {
	name = strings.TrimPrefix(name, "/")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch id, taken := m.names[name]; {
	case name == "":
		return "", fail(Invalid, "Neither old nor new names may be empty")
	case len(name) < 2 || !validName(name):
		return "", fail(Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	case name == c.name:
		return "", fail(Invalid, "Renaming a container with the same name as its current name")
	case taken:
		return "", fail(Conflict, "Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, id)
	}
	delete(m.names, c.name)
	old, c.name = c.name, name
	m.names[name] = c.ID
	return old, nil
}

// newID returns what Docker calls a container, an exec or an anonymous volume.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// formatTime is a time as Docker's API has it.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
