package remotecache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
)

// Inline adds the records of the steps that made an image to its config. The results are the image's own layers: the image
// is its cache (cache/remotecache/inline). key is the key of the image's filesystem.
func (c *Cache) Inline(ctx context.Context, config []byte, key Key) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	var img inlineConfig
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	if err := json.Unmarshal(fields["rootfs"], &img.RootFS); err != nil {
		return nil, fmt.Errorf("image config: rootfs: %w", err)
	}
	g, err := c.gather(ctx, ModeMin, []Key{key})
	if err != nil {
		return nil, err
	}
	records, err := g.inline(img.RootFS.DiffIDs)
	if err != nil || records == nil {
		return config, err
	}
	if fields[inlineName], err = json.Marshal(records); err != nil {
		return nil, fmt.Errorf("image config: %w", err)
	}
	return json.Marshal(fields)
}

// inline returns the records as JSON, with layers numbered as in the image. It returns nil if no record has a result.
func (g *graph) inline(image []digest.Digest) ([]byte, error) {
	some := false
	records := g.write(func(out *cachetypes.CacheRecord, r *Result) {
		places := make([]int, len(r.Layers))
		stacked := len(places) <= len(image)
		for i, l := range r.Layers {
			if places[i] = slices.Index(image, l.DiffID); places[i] < 0 {
				return
			}
			stacked = stacked && image[i] == l.DiffID
		}
		some = true
		if stacked {
			out.Results = []cachetypes.CacheResult{{LayerIndex: len(places) - 1, CreatedAt: r.Created()}}
		} else {
			out.ChainedResults = []cachetypes.ChainedResult{{LayerIndexes: places, CreatedAt: r.Created()}}
		}
	})
	if !some {
		return nil, nil
	}
	return json.Marshal(records)
}
