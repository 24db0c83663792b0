package containers

import (
	"strconv"

	"github.com/moby/moby/api/types/events"

	"github.com/micabuild/mica/internal/pty"
)

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
