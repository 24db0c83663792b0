package builder

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
	"github.com/micabuild/mica/internal/stepcache"
)

// stepCaches are the caches of mode=steps of a build, which are read and written while it runs. A nil one has no cache.
type stepCaches struct {
	ctx     context.Context // of the build
	cache   *remotecache.Cache
	events  solver.Events
	writers []*stepWriter
	end     sync.Once
	err     error
}

type stepWriter struct {
	*stepcache.Writer
	spec *buildspec.Cache
}

// openSteps opens the caches of mode=steps, without a request. w writes the layers.
func (b *Builder) openSteps(ctx context.Context, o *Options, x *imports, base *baseImages, w *cacheWriter) (*stepCaches, error) {
	s := &stepCaches{ctx: ctx, events: o.Events}
	readers := map[string]*stepcache.Reader{}
	var reads []remotecache.StepReader
	for _, c := range o.CacheFrom {
		if !c.Steps {
			continue
		}
		at, err := b.cacheRepository(ctx, &c)
		if err != nil {
			return nil, err
		}
		r := stepcache.NewReader(at, func(err error) {
			startStep(o.Events, "importing steps from "+c.Ref).end(err)
			x.rec.Unread(c.Ref, err)
		})
		readers[at.Name()] = r
		reads = append(reads, r)
	}
	var writes []remotecache.StepWriter
	for _, c := range o.CacheTo {
		if !c.Steps || o.Explain {
			continue
		}
		at, err := w.repository(ctx, &c)
		if err != nil {
			return nil, err
		}
		writer := stepcache.NewWriter(ctx, at, stepcache.WriterOptions{
			Reader: readers[at.Name()], Base: base.beneath, Leases: !c.NoLeases,
			Blob: func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error) {
				return w.toRegistry(ctx, at, &c, l.DiffID)
			},
		})
		s.writers = append(s.writers, &stepWriter{writer, &c})
		writes = append(writes, writer)
	}
	if len(reads)+len(writes) > 0 {
		w.cache, w.sums = x.used()
		s.cache = w.cache
		w.cache.UseSteps(reads, writes, !o.exportsCache() && !o.InlineCache())
	}
	return s, nil
}

// finish waits until all results are written, and returns the error of a cache that could not be.
func (s *stepCaches) finish() error {
	if s == nil {
		return nil
	}
	s.end.Do(func() {
		for _, w := range s.writers {
			p := startStep(s.events, "exporting steps to "+w.spec.Ref)
			err := w.Wait()
			if err == nil {
				err = w.Use(s.ctx, s.cache.UsedKeys(s.ctx))
			}
			p.end(err)
			if err != nil && !w.spec.IgnoreError {
				s.err = errors.Join(s.err, fmt.Errorf("export build cache: %w", err))
			}
		}
	})
	return s.err
}

// beneath returns how many layers at the bottom of a chain are those of a base image.
func (b *baseImages) beneath(chain []remotecache.Layer) int {
	b.mu.Lock()
	list := make([]*baseImage, 0, len(b.found))
	for _, f := range b.found {
		list = append(list, f)
	}
	b.mu.Unlock()
	most := 0
	for _, f := range list {
		select {
		case <-f.done:
		default:
			continue
		}
		if f.err != nil {
			continue
		}
		n := 0
		for i, id := range f.img.Chain() {
			if i == len(chain) || chain[i].DiffID != id {
				break
			}
			n++
		}
		most = max(most, n)
	}
	return most
}
