package ops

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/sandbox"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/view"
)

// lockCaches locks the cache mounts of a step. A cache that is mounted twice is locked once, in the strictest mode.
func (o *execOp) lockCaches(ctx context.Context) (*cachemount.Locks, error) {
	wanted := map[string]pb.CacheSharingOpt{}
	for _, m := range o.op.Mounts {
		if m.MountType != pb.MountType_CACHE {
			continue
		}
		_, name, err := o.initialCache(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("cache mount %s: %w", m.Dest, err)
		}
		wanted[name] = max(wanted[name], m.CacheOpt.Sharing) // shared, private, locked
		if o.w.Host.Plain() && wanted[name] == pb.CacheSharingOpt_SHARED {
			wanted[name] = pb.CacheSharingOpt_LOCKED // it is moved into the root filesystem
		}
	}
	return o.w.mounts.Lock(ctx, wanted)
}

// initialCache returns the initial content of a cache, and the name of the cache with that content.
func (o *execOp) initialCache(ctx context.Context, m *pb.Mount) (*solver.Result, string, error) {
	initial := &solver.Result{}
	var ids []digest.Digest
	if in := o.input(m); in != nil {
		var err error
		if initial, err = o.w.asLayers(ctx, in, "/"); err != nil {
			return nil, "", err
		}
		ids = initial.Chain.DiffIDs()
	}
	return initial, cachemount.Name(m.CacheOpt.ID, ids), nil
}

// cacheMount returns the mount of a cache that the step has locked.
func (o *execOp) cacheMount(ctx context.Context, locks *cachemount.Locks, m *pb.Mount) (mount sandbox.Mount, err error) {
	initial, name, err := o.initialCache(ctx, m)
	if err != nil {
		return mount, err
	}
	dir, err := o.w.mounts.Open(ctx, locks.Name(name), m.CacheOpt.ID, func() (view.View, error) { return o.t.View(ctx, initial) })
	if err != nil {
		return mount, err
	}
	return sandbox.Mount{
		Type: sandbox.MountBind, Target: m.Dest, Source: dir, Selector: m.Selector, ReadOnly: m.Readonly, Shared: true,
	}, nil
}

// emptiedCache is what emptyCaches empties: the caches with an ID that have no initial content, or those that have any.
type emptiedCache struct {
	id      string
	initial bool
}

// emptyCaches empties the caches of a step that is not to be cached, each once in a build, so that a later step finds what this one has left. As
// in BuildKit, that is before anything of its graph runs. A cache that another process uses stays as it is.
func (w *Worker) emptyCaches(op *pb.ExecOp) error {
	w.emptying.Lock() // a step of another graph waits until its caches are empty
	defer w.emptying.Unlock()
	for _, m := range op.Mounts {
		if m.MountType != pb.MountType_CACHE || m.CacheOpt == nil {
			continue
		}
		c := emptiedCache{m.CacheOpt.ID, m.Input >= 0}
		if w.emptied[c] {
			continue
		}
		w.emptied[c] = true
		taken, err := w.mounts.Discard(c.id, c.initial)
		for _, t := range taken {
			w.removeLater(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
