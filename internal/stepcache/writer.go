package stepcache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/remotecache"
)

// WriterOptions are what a Writer needs of a build.
type WriterOptions struct {
	// Reader reads the same cache; nil if the build does not read it.
	Reader *Reader
	// Blob pushes the blob of a layer, unless the repository has it, and returns its descriptor. It may be called by several goroutines. The
	// error is remotecache.ErrLost for a layer that nobody has: results with it are left out.
	Blob func(ctx context.Context, l remotecache.Layer) (ocispec.Descriptor, error)
	// Base returns how many layers at the bottom of a chain are those of a base image.
	Base func(chain []remotecache.Layer) int
	// Leases makes builds that need the same step at once wait for the one that runs it. They need Reader.
	Leases bool
}

// Writer writes records of steps while a build runs. It is safe for concurrent use.
type Writer struct {
	ctx context.Context // of the build
	at  Repository
	o   WriterOptions

	work  sync.WaitGroup
	slots chan struct{}

	unleased atomic.Bool // leases cannot be written

	mu   sync.Mutex
	done map[digest.Digest]bool // keys of results that were given
	err  error                  // the first
}

// parallelRecords limits how many records are written at the same time.
const parallelRecords = 4

// NewWriter returns a writer for a build, of which ctx is the context.
func NewWriter(ctx context.Context, at Repository, o WriterOptions) *Writer {
	return &Writer{ctx: ctx, at: at, o: o, slots: make(chan struct{}, parallelRecords), done: map[digest.Digest]bool{}}
}

// Keep begins to write a result.
func (w *Writer) Keep(r remotecache.StepResult) {
	under, _ := r.Lease().(*lease)
	if under != nil && under.w != w { // of another cache
		under = nil
	}
	if under != nil {
		under.writes.Add(1)
	}
	w.work.Go(func() {
		kept := false
		defer func() { under.wrote(kept) }()
		w.fail(crash.Guard(func() (err error) {
			select {
			case w.slots <- struct{}{}:
			case <-w.ctx.Done():
				return context.Cause(w.ctx)
			}
			defer func() { <-w.slots }()
			if w.failed() != nil {
				return nil
			}
			kept, err = w.write(w.ctx, &r)
			return err
		})())
	})
}

// Wait waits until all results are written, and returns the first error.
func (w *Writer) Wait() error {
	w.work.Wait()
	return w.failed()
}

func (w *Writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail keeps the first error. After one, nothing is written any more.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// begin reports whether no result with a key was given to the writer before.
func (w *Writer) begin(key digest.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done[key] {
		return false
	}
	w.done[key] = true
	return true
}

// write writes the record of a result, unless there is one: the first stays. It reports whether the cache has one.
func (w *Writer) write(ctx context.Context, r *remotecache.StepResult) (bool, error) {
	keys, err := r.Keys(ctx)
	if err != nil || len(keys) == 0 {
		return false, err
	}
	first := w.begin(keys[0])
	if !r.Replaces() && (!first || w.exists(ctx, keys[0])) {
		return true, nil
	}
	rec := Record{Keys: keys, Written: time.Now()}
	base := w.o.Base(r.Layers)
	for i, l := range r.Layers {
		at := remotecache.ImportedLayer{Layer: l}
		if i >= base {
			at.Blob, err = w.o.Blob(ctx, l)
			if errors.Is(err, remotecache.ErrLost) {
				return false, nil
			}
			if err != nil {
				return false, fmt.Errorf("layer %s: %w", l.DiffID, err)
			}
		}
		rec.Layers = append(rec.Layers, at)
	}
	return w.put(ctx, &rec)
}

// exists reports whether there is a valid record of a key. One that cannot be read is replaced.
func (w *Writer) exists(ctx context.Context, key digest.Digest) bool {
	if w.o.Reader != nil && w.o.Reader.has(key) {
		return true
	}
	rec, err := read(ctx, w.at, key)
	return err == nil && rec != nil
}

// put writes a record under each of its keys, and reports whether it can be one.
func (w *Writer) put(ctx context.Context, rec *Record) (bool, error) {
	d, raw, err := rec.encode()
	if err != nil {
		return false, err
	}
	if d.Size > registry.MaxManifest {
		return false, nil // a chain of thousands of layers: what follows is found by content
	}
	if err := w.at.Blob(ctx, empty, empty.Data); err != nil {
		return false, err
	}
	for _, key := range rec.Keys {
		if err := w.at.PutTag(ctx, d, raw, Tag(key)); err != nil {
			return false, err
		}
	}
	return true, nil
}
