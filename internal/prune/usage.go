package prune

import (
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/image"
)

// Usage is what a store takes, as docker system df shows it.
type Usage struct {
	Images, Cache Row
	Records       []*buildcache.Record // of the build cache, least recently used first
	Mounts        []cachemount.Mount   // in the same order
	CacheSize     int64                // bytes of both, with the layers that images have, too
}

// Row is one kind of objects.
type Row struct {
	Total, Active     int
	Size, Reclaimable int64 // bytes; a layer that several objects share counts once
}

// imageUsage adds up images. An image is active while it runs; what only others have can be reclaimed.
func imageUsage(images []image.Use, size func(digest.Digest) int64) Row {
	row := Row{Total: len(images)}
	active := map[digest.Digest]bool{}
	for _, img := range images {
		if img.Running {
			row.Active++
		}
		for _, id := range img.Layers {
			active[id] = active[id] || img.Running
		}
	}
	for id, running := range active {
		n := size(id)
		row.Size += n
		if !running {
			row.Reclaimable += n
		}
	}
	return row
}

// cacheUsage adds up the build cache. A step is active if images have all its layers; what images have is counted with them.
func cacheUsage(steps []step, mounts []cachemount.Mount, inImages map[digest.Digest]bool, size func(digest.Digest) int64) Row {
	row := Row{Total: len(steps) + len(mounts)}
	sizes := newSizes(steps, size)
	row.Size = sizes.total + mountsSize(mounts)
	for id := range inImages {
		row.Size -= sizes.size[id]
	}
	for _, s := range steps {
		if allIn(s.layers, inImages) {
			row.Active++
		}
	}
	row.Reclaimable = row.Size
	return row
}
