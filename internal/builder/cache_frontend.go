package builder

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/buildspec"
	"github.com/micabuild/mica/internal/remotecache"
)

// Limits on the caches that front ends name, beside those that the user has named.
const (
	maxImports    = 64
	maxImportSize = 64 << 10  // bytes of the attributes of one
	maxImported   = 128 << 20 // bytes that all of them may take in memory, about
)

// The options in which users name caches for the compiler of Dockerfiles (frontend/dockerui).
const (
	optCacheFrom    = "cache-from"
	optCacheImports = "cache-imports"
)

// namedCaches are the caches that the user has named for the front end, which may read them or not. An invalid list is for it to refuse.
func (o *Options) namedCaches() (list []client.CacheOptionsEntry) {
	_ = json.Unmarshal([]byte(o.Attrs[optCacheImports]), &list)
	for ref := range strings.SplitSeq(o.Attrs[optCacheFrom], ",") {
		if ref != "" {
			list = append(list, client.CacheOptionsEntry{Type: buildspec.CacheRegistry, Attrs: map[string]string{"ref": ref}})
		}
	}
	return list
}

// opening is a cache that a front end has named.
type opening struct {
	turn chan struct{} // to read it
	done bool          // it was read, or cannot be
}

// add reads the caches that a front end names with a graph, each once in a build. They count for all graphs of the build from then on. What
// cannot be read is shown, as for the caches of the request. A front end that is untrusted is not the user's own program.
func (x *imports) add(ctx context.Context, list []client.CacheOptionsEntry, untrusted bool) error {
	for _, e := range list {
		if x.requested(e) {
			continue
		}
		if e.Type == buildspec.CacheLocal && x.o.Client == nil {
			return fmt.Errorf("a front end cannot import the build cache %s: name it for the whole build", e.Attrs["src"])
		}
		if err := x.open(ctx, e, untrusted && !x.o.names(e)); err != nil {
			return err
		}
	}
	return nil
}

// requested reports whether a cache is one of the request, which are read when the build begins.
func (x *imports) requested(e client.CacheOptionsEntry) bool {
	return slices.ContainsFunc(x.o.CacheFrom, func(c buildspec.Cache) bool {
		if e.Type == buildspec.CacheLocal {
			return c.Type == e.Type && c.Dir == e.Attrs["src"]
		}
		if e.Type == buildspec.CacheActions {
			return c.Type == e.Type && c.Actions.Scope == cmp.Or(e.Attrs["scope"], buildspec.DefaultScope)
		}
		if e.Type == buildspec.CacheS3 || e.Type == buildspec.CacheAzure {
			same, err := buildspec.NewCaches([]buildspec.Entry{{Type: e.Type, Attrs: e.Attrs}}, false)
			return err == nil && c.Type == e.Type && c.S3 == same[0].S3 && c.Azure == same[0].Azure
		}
		return c.Type == e.Type && c.Ref == e.Attrs["ref"]
	})
}

// names reports whether the user has named a cache for the front end.
func (o *Options) names(e client.CacheOptionsEntry) bool {
	return slices.ContainsFunc(o.namedCaches(), func(n client.CacheOptionsEntry) bool { return n.Type == e.Type && maps.Equal(n.Attrs, e.Attrs) })
}

// open reads a cache, or waits for the graph that does.
func (x *imports) open(ctx context.Context, e client.CacheOptionsEntry, untrusted bool) error {
	o, err := x.opening(e, untrusted)
	if err != nil {
		return err
	}
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-o.turn }()
	if o.done {
		return nil
	}
	found := x.readNamed(ctx, e, untrusted)
	if ctx.Err() != nil { // another graph may try again
		return context.Cause(ctx)
	}
	o.done = true
	for _, i := range found {
		i.Untrusted = untrusted
	}
	if len(found) > 0 {
		x.use(found)
	}
	return nil
}

// opening is that of a cache for front ends which are trusted alike.
func (x *imports) opening(e client.CacheOptionsEntry, untrusted bool) (*opening, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxImportSize {
		return nil, fmt.Errorf("a front end names a build cache with more than %d bytes of attributes", maxImportSize)
	}
	key := fmt.Sprint(untrusted, " ", string(raw))
	x.mu.Lock()
	defer x.mu.Unlock()
	if o, ok := x.opened[key]; ok {
		return o, nil
	}
	if !x.o.names(e) {
		if x.named == maxImports {
			return nil, fmt.Errorf("the front ends of a build can import %d build caches beside those that you name", maxImports)
		}
		x.named++
	}
	o := &opening{turn: make(chan struct{}, 1)}
	x.opened[key] = o
	return o, nil
}

// errInsecure is the error for a cache by which a front end would have credentials sent to whoever answers in the place of a registry.
var errInsecure = errors.New("the front end asks for registry.insecure: only you can, for the whole build")

// errSteps is the error for a cache that counts for all graphs of a build from its beginning.
var errSteps = errors.New("the front end asks for mode=steps: only you can, for the whole build")

// anyURL are the types of caches by which a front end would have mica send requests to any URL.
var anyURL = []string{buildspec.CacheActions, buildspec.CacheS3, buildspec.CacheAzure}

var errElsewhere = errors.New("the front end asks for a cache of type gha, s3 or azblob: only you can")

// readNamed reads a cache that a front end has named.
func (x *imports) readNamed(ctx context.Context, e client.CacheOptionsEntry, untrusted bool) []*remotecache.Import {
	caches, err := buildspec.NewCaches([]buildspec.Entry{{Type: e.Type, Attrs: e.Attrs}}, false)
	if err == nil && untrusted && caches[0].Insecure {
		err = errInsecure
	}
	if err == nil && untrusted && slices.Contains(anyURL, caches[0].Type) {
		err = errElsewhere
	}
	if err == nil && caches[0].Steps {
		err = errSteps
	}
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the attributes, which may have credentials
		}
		name := e.Attrs["ref"] + e.Attrs["src"]
		if name == "" {
			name = "type " + e.Type
		}
		startStep(x.o.Events, importing+name).end(err)
		x.rec.Unread(name, err)
		return nil
	}
	return x.read(ctx, &caches[0], &x.budget)
}

// budget limits the memory that caches may take, by what is read of them. A nil one limits nothing.
type budget struct{ left atomic.Int64 }

// read reads the caches of a manifest.
func (b *budget) read(ctx context.Context, from content.Fetcher, root ocispec.Descriptor) ([]*remotecache.Import, error) {
	if b == nil {
		return remotecache.Read(ctx, from, root)
	}
	list, err := remotecache.Read(ctx, &limitedFetcher{from, b}, root)
	for _, i := range list {
		i.From = from // layers are not kept in memory
	}
	return list, err
}

// readConfig reads a cache that is a config alone. The budget counts what it takes in memory.
func (b *budget) readConfig(from content.Fetcher, raw []byte) (*remotecache.Import, error) {
	if b != nil {
		if _, err := io.Copy(io.Discard, &limitedReader{io.NopCloser(bytes.NewReader(raw)), b}); err != nil {
			return nil, err
		}
	}
	return remotecache.ReadConfig(from, raw)
}

type limitedFetcher struct {
	from content.Fetcher
	b    *budget
}

func (f *limitedFetcher) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := f.from.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	return &limitedReader{r, f.b}, nil
}

type limitedReader struct {
	io.ReadCloser
	b *budget
}

// The memory that an object or a list of JSON takes, beside its text.
const valueSize = 128

func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	values := bytes.Count(p[:n], []byte("{")) + bytes.Count(p[:n], []byte("["))
	if r.b.left.Add(-int64(n+valueSize*values)) < 0 {
		return 0, errors.New("the build caches that front ends name are too large together")
	}
	return n, err
}
