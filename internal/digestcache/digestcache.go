// Package digestcache is the cache of what mica has read of the host's files: their digests, by their states, so that a
// file that has not changed is not read again.
package digestcache

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/table"
)

// Sum is a sha256.
type Sum [sumSize]byte

const sumSize = 32

// Cache holds digests of files by their states, and digests of selections by the state of all files in a directory, so
// that of an unchanged directory only the metadata is read. It is safe for concurrent use.
type Cache struct {
	files, selections *table.Table
}

// What the cache holds at most. Past it, only what the last build used is kept.
const (
	maxFiles      = 1 << 20 // 76 bytes each
	maxSelections = 1 << 14 // 68 bytes each
)

var (
	filesFormat      = table.Format{Magic: "mica-digests-3\n\x00", KeySize: stateSize, ValueSize: sumSize}
	selectionsFormat = table.Format{Magic: "mica-selection-2", KeySize: sumSize, ValueSize: sumSize}
)

// Open opens the cache in a directory, which it makes if it is missing. Missing or damaged files count as empty.
func Open(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the digest cache: %w", err)
	}
	return &Cache{
		files:      table.Open(filepath.Join(dir, "files"), filesFormat),
		selections: table.Open(filepath.Join(dir, "selections"), selectionsFormat),
	}, nil
}

// Close releases the cache, which must not be used afterwards. It does not save.
func (c *Cache) Close() error { return errors.Join(c.files.Close(), c.selections.Close()) }

// File returns the digest of a file in a state.
func (c *Cache) File(s FileState) (digest.Digest, bool) {
	return get(c.files, s.Append(make([]byte, 0, stateSize)))
}

// Selection returns the digest of what was selected in a state of a directory.
func (c *Cache) Selection(state Sum) (digest.Digest, bool) { return get(c.selections, state[:]) }

func get(t *table.Table, key []byte) (digest.Digest, bool) {
	raw, ok := t.Get(key)
	if !ok {
		return "", false
	}
	return digest.NewDigestFromBytes(digest.SHA256, raw), true
}

// Save writes what was added to disk, together with what other processes have saved since Open.
func (c *Cache) Save(ctx context.Context) error {
	err := errors.Join(c.files.Save(ctx, maxFiles), c.selections.Save(ctx, maxSelections))
	if err != nil {
		return fmt.Errorf("save the digest cache: %w", err)
	}
	return nil
}

// put adds a digest. One that is not a sha256 is not kept.
func put(t *table.Table, key []byte, d digest.Digest) {
	raw, err := hex.DecodeString(d.Encoded())
	if err == nil && len(raw) == sumSize {
		t.Put(key, raw)
	}
}

// AddSelection adds the digest of what was selected in a state of a directory. The caller sees to it that the states of
// all files in it are settled.
func (c *Cache) AddSelection(state Sum, d digest.Digest) { put(c.selections, state[:], d) }
