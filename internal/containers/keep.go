package containers

// keep keeps the files of the container, and what it has of the store, from being removed until release is called. It refuses a container
// whose removal has begun.
func (c *Container) keep() (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removing || !c.kept.TryRLock() {
		return nil, fail(Conflict, "container %s is being removed", c.ID)
	}
	return c.kept.RUnlock, nil
}
