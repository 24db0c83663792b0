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
// keeps in cache/kin which that was, so that its files can be taken. The name of a kin says what the step does and on
// what, not with which content.

func (c *Cache) kinDir() string { return c.store.Path("cache", "kin") }

// Last is the layer that a step of this kin made last; "" for none.
func (c *Cache) Last(kin string) digest.Digest {
	if kin == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(c.kinDir(), kin))
	id := digest.Digest(data)
	if err != nil || id.Validate() != nil {
		return ""
	}
	return id
}

// SetLast remembers a layer. It only saves time: what cannot be written is not missed.
func (c *Cache) SetLast(kin string, id digest.Digest) {
	if kin == "" || os.MkdirAll(c.kinDir(), 0o700) != nil {
		return
	}
	_ = c.store.WriteCacheFile(filepath.Join(c.kinDir(), kin), []byte(id))
}

// ForgetKin removes what is remembered of layers that are not among those that the store has.
func (c *Cache) ForgetKin(layers []digest.Digest) error {
	names, err := os.ReadDir(c.kinDir())
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
		if there[c.Last(n.Name())] {
			continue
		}
		if err := os.Remove(filepath.Join(c.kinDir(), n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove from build cache: %w", err)
		}
	}
	return nil
}
