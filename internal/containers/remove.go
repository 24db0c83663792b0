package containers

import (
	"errors"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/types/events"
)

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
	c.fileUsers.Lock() // who reads the files ends first
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
