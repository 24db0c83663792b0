package builder

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/recorder"
	"github.com/micabuild/mica/internal/remotecache"
	"github.com/micabuild/mica/internal/solver"
)

// imports are the remote caches that a build reads: those of its request, and those that its front ends name later. It is safe for
// concurrent use.
type imports struct {
	b      *Builder
	o      *Options
	rec    *recorder.Recorder
	solver *solver.Solver // reads the caches that come later; nil before they can
	budget budget         // of the caches that front ends name

	mu      sync.Mutex
	cache   *remotecache.Cache // nil for a build that neither reads nor writes a cache
	sums    *remotecache.Sums
	layouts closers // for steps to fetch layers
	opened  map[string]*opening
	named   int // how many the user has not named
}

// openCaches reads the remote caches of a request. If one is missing or cannot be read, the display shows the error and the build continues.
func (b *Builder) openCaches(ctx context.Context, o *Options, rec *recorder.Recorder) *imports {
	x := &imports{b: b, o: o, rec: rec, opened: map[string]*opening{}}
	x.budget.left.Store(maxImported)
	var list []*remotecache.Import
	for _, c := range o.CacheFrom {
		if !c.Steps && o.hasCache(&c) { // see openSteps
			list = append(list, x.read(ctx, &c, nil)...)
		}
	}
	if len(o.CacheFrom) > 0 || len(o.CacheTo) > 0 || len(o.namedCaches()) > 0 || o.Elsewhere != nil {
		x.use(list)
	}
	return x
}

// use makes the build read caches.
func (x *imports) use(list []*remotecache.Import) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cache != nil {
		x.cache.Add(list...)
		return
	}
	x.sums = remotecache.OpenSums(x.b.Store.Path("cache", "buildkit-sums"))
	x.cache = remotecache.New(list, x.sums)
	if x.solver != nil {
		x.solver.ReadRemote(x.cache)
	}
}

// used returns the cache of the build, and its sums; nil for a build that neither reads nor writes a cache.
func (x *imports) used() (*remotecache.Cache, *remotecache.Sums) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cache, x.sums
}

func (x *imports) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return errors.Join(x.sums.Close(), x.layouts.close())
}

// read shows the reading of one cache, and returns an Import for each of its platforms. b limits what is read, nil for a cache of the request.
func (x *imports) read(ctx context.Context, c *buildspec.Cache, b *budget) []*remotecache.Import {
	name, shown := c.Ref, c.Ref
	switch c.Type {
	case buildspec.CacheLocal:
		name, shown = c.Dir, "local cache "+c.Dir
	case buildspec.CacheActions:
		name = "GitHub Actions cache " + c.Actions.Scope
		shown = name
	case buildspec.CacheS3:
		name = "S3 cache " + c.S3.Name
		shown = name
	case buildspec.CacheAzure:
		name = "Azure Blob Storage cache " + c.Azure.Name
		shown = name
	}
	p := startStep(x.o.Events, importing+shown)
	list, err := x.b.readCache(ctx, c, x.o.Client, x.keep, b)
	p.end(err)
	switch {
	case err != nil:
		x.rec.Unread(name, err)
	case len(list) == 0:
		x.rec.Unread(name, errNoCache)
	}
	for _, i := range list {
		i.Name = name
	}
	return list
}

// importing begins the name of the step that reads a cache.
const importing = "importing cache manifest from "

// errNoCache is the error for an image that was not exported with its cache.
var errNoCache = errors.New("the image has no cache: it was built without --cache-to type=inline")

// keep closes a layout when the build ends.
func (x *imports) keep(layout io.Closer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.layouts = append(x.layouts, layout)
}

type closers []io.Closer

func (list closers) close() error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// readCache reads one remote cache, with an Import for each of its platforms. keep closes a layout at the end of the build, and limit is nil
// for no limit.
func (b *Builder) readCache(ctx context.Context, c *buildspec.Cache, client Client, keep func(io.Closer), limit *budget) ([]*remotecache.Import, error) {
	if c.Type == buildspec.CacheRegistry {
		at, err := b.cacheRepository(ctx, c)
		if err != nil {
			return nil, err
		}
		root, err := at.Root(ctx)
		if err != nil {
			return nil, err
		}
		return limit.read(ctx, at, root)
	}
	if c.Type == buildspec.CacheActions {
		return b.readActions(ctx, c, client, limit)
	}
	if c.Type == buildspec.CacheS3 || c.Type == buildspec.CacheAzure {
		return b.readObjects(ctx, c, client, limit)
	}
	if client != nil {
		src, err := client.Store(ctx, "", localCachePrefix+c.Dir)
		if err != nil {
			return nil, err
		}
		root, err := readRoot(ctx, src, digest.Digest(c.Digest))
		if err != nil {
			return nil, err
		}
		return limit.read(ctx, src, root)
	}
	src, err := layoutOf(c).Open(ctx, "")
	if err != nil {
		return nil, err
	}
	keep(src)
	root, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	return limit.read(ctx, src, root)
}
