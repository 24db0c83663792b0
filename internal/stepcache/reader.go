package stepcache

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
)

// Repository is a repository of a registry that has a cache. A Fetcher in it reads layers.
type Repository interface {
	content.Fetcher
	// Name returns its name.
	Name() string
	// Manifest reads the manifest that has a tag. registry.IsNotFound is true of the error if no manifest has it.
	Manifest(ctx context.Context, tag string) (*registry.Manifest, error)
	// Blob writes a small blob, unless it is there.
	Blob(ctx context.Context, d ocispec.Descriptor, raw []byte) error
	// PutTag writes a manifest under a tag.
	PutTag(ctx context.Context, d ocispec.Descriptor, raw []byte, tag string) error
}

// Reader finds records of steps. It asks for a key once in a build, and again if another build has written records. It is safe for concurrent use.
type Reader struct {
	at     Repository
	failed func(error)

	mu       sync.Mutex
	asked    map[digest.Digest]*answer
	reported bool
	failures int // one after the other
	age      int // how often it became known that other builds have added records
}

// maxFailures is how many requests may fail, one after the other, before the cache is not asked again: a build does not wait for a registry
// that does not work at every step.
const maxFailures = 3

// answer is what a cache has for a key.
type answer struct {
	turn  chan struct{} // to ask
	known bool
	rec   *Record // nil for none
	age   int     // of the reader when it was asked
}

// NewReader returns a reader of a cache. failed is called with the first error; a build continues without what cannot be read.
func NewReader(at Repository, failed func(error)) *Reader {
	return &Reader{at: at, failed: failed, asked: map[digest.Digest]*answer{}}
}

// Name returns the name of the repository.
func (r *Reader) Name() string { return r.at.Name() }

// Find returns the result that has a key, nil for none.
func (r *Reader) Find(ctx context.Context, key digest.Digest) *remotecache.Hit {
	rec := r.get(ctx, key)
	if rec == nil {
		return nil
	}
	hit := &remotecache.Hit{Layers: rec.Layers}
	for _, l := range rec.Layers {
		if l.Created.After(hit.Created) {
			hit.Created = l.Created
		}
	}
	return hit
}

// get returns the record that has a key, nil for none.
func (r *Reader) get(ctx context.Context, key digest.Digest) *Record {
	r.mu.Lock()
	a, ok := r.asked[key]
	if !ok {
		a = &answer{turn: make(chan struct{}, 1)}
		r.asked[key] = a
	}
	age := r.age
	r.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-a.turn }()
	if a.known && (a.rec != nil || a.age >= age) {
		return a.rec
	}
	if r.broken() {
		return nil
	}
	rec, err := read(ctx, r.at, key)
	if ctx.Err() != nil { // another may ask again
		return nil
	}
	r.note(err)
	a.known, a.rec, a.age = true, rec, age
	return rec
}

// again asks for a record that may have been written since it was not found, and reports whether there is one. If all is set, the same may
// be true of all records that were not found.
func (r *Reader) again(ctx context.Context, key digest.Digest, all bool) bool {
	r.mu.Lock()
	delete(r.asked, key)
	if all {
		r.age++
	}
	r.mu.Unlock()
	return r.get(ctx, key) != nil
}

// has reports whether a record was found under a key.
func (r *Reader) has(key digest.Digest) bool {
	r.mu.Lock()
	a := r.asked[key]
	r.mu.Unlock()
	if a == nil {
		return false
	}
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	return a.rec != nil
}

func (r *Reader) broken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures >= maxFailures
}

// note counts failures, and reports the first.
func (r *Reader) note(err error) {
	r.mu.Lock()
	report := err != nil && !r.reported
	if err == nil {
		r.failures = 0
	} else {
		r.failures++
		r.reported = true
	}
	r.mu.Unlock()
	if report {
		r.failed(err)
	}
}

// read reads the record that has a key, nil for none.
func read(ctx context.Context, at Repository, key digest.Digest) (*Record, error) {
	m, err := at.Manifest(ctx, Tag(key))
	if registry.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(at, m.Raw, key)
}
