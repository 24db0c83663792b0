package solver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// A step that is done again because a file has changed makes a layer that is nearly the one of the last time: the store
// keeps in cache/previous which that was, so that its files can be taken. A step is called by what it does and on what, not
// with which content.

func (c *Cache) previousDir() string { return c.store.Path("cache", "previous") }

// Previous is the layer that a step of this name made last; "" for none.
func (c *Cache) Previous(step string) digest.Digest {
	if step == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(c.previousDir(), step))
	id := digest.Digest(data)
	if err != nil || id.Validate() != nil {
		return ""
	}
	return id
}

// SetPrevious remembers a layer. It only saves time: what cannot be written is not missed.
func (c *Cache) SetPrevious(step string, id digest.Digest) {
	if step == "" || os.MkdirAll(c.previousDir(), 0o700) != nil {
		return
	}
	_ = c.store.WriteCacheFile(filepath.Join(c.previousDir(), step), []byte(id))
}

// ForgetPrevious removes what is remembered of layers that are not among those that the store has.
func (c *Cache) ForgetPrevious(layers []digest.Digest) error {
	names, err := os.ReadDir(c.previousDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list build cache: %w", err)
	}
	there := make(map[digest.Digest]bool, len(layers))
	for _, id := range layers {
		there[id] = true
	}
	for _, n := range names {
		if there[c.Previous(n.Name())] {
			continue
		}
		if err := os.Remove(filepath.Join(c.previousDir(), n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove from build cache: %w", err)
		}
	}
	return nil
}
