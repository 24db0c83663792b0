package remotecache

import (
	"context"
	"fmt"
)

// NoteMediaType is the type of a blob that a cache manifest of mica has among its layers. No record refers to it: other builders
// ignore it. It tells of the build that exported the cache.
const NoteMediaType = "application/vnd.mica.buildcache.note.v1+zstd"

// Note reads what the cache tells of the build that exported it, up to a limit of bytes. It is nil for a cache that tells nothing.
func (c *Import) Note(ctx context.Context, limit int64) ([]byte, error) {
	if c.note.Digest == "" {
		return nil, nil
	}
	data, err := readBlob(ctx, c.From, c.note, limit)
	if err != nil {
		return nil, fmt.Errorf("read build cache %s: %w", c.Name, err)
	}
	return data, nil
}
