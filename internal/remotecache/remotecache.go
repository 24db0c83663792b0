// Package remotecache reads and writes build caches in BuildKit's format (--cache-from, --cache-to). mica finds results that
// BuildKit exported, and BuildKit those that mica exported.
//
// A cache is a graph of records. The name of a record is the digest of an operation's description. A record links to the
// records of the operation's inputs: by definition (the input's own records, with a selector of what is read) or by content
// (a record whose name is the digest of the files that are read). A record may have a result: a chain of layers. A builder
// that computes the same names finds the result. The names are BuildKit's cache keys. This package computes them from LLB
// and from Views; every rule cites the file of BuildKit that it follows.
//
// A build has one Cache. The solver makes a Step of every vertex, calls Find before it runs the vertex, and records the
// vertex's result in the Step. The exporters export the Cache.
package remotecache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// Cache has the caches that a build imports, and the steps that it can export. It is safe for concurrent use.
type Cache struct {
	sums *Sums
	// learned counts how often content of inputs became known: a search may find more then.
	learned atomic.Int64

	mu       sync.Mutex
	imports  []*Import
	imported map[digest.Digest][]ImportedLayer // by DiffID
	lost     map[digest.Digest]func() bool     // whether a layer is still missing, by DiffID

	readers   []StepReader
	writers   []StepWriter
	named     []*Import // the names of readers
	lastFirst bool
	used      []*Step // that have results, if there are writers
}

// New returns the cache of a build. The first of imports that has a result is used. sums is a cache of the digests of files,
// or nil.
func New(imports []*Import, sums *Sums) *Cache {
	return &Cache{imports: imports, sums: sums, imported: map[digest.Digest][]ImportedLayer{}, lost: map[digest.Digest]func() bool{}}
}

// Lose makes Find leave out results with a layer for as long as missing reports that nobody has it. A registry may have removed the blob
// of a layer, and kept the manifest of the cache.
func (c *Cache) Lose(id digest.Digest, missing func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[id] = missing
}

// Lost reports whether nobody has a layer.
func (c *Cache) Lost(id digest.Digest) bool {
	c.mu.Lock()
	missing := c.lost[id]
	c.mu.Unlock()
	return missing != nil && missing()
}

// losses returns Lost, nil if no layer was lost.
func (c *Cache) losses() func(digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lost) == 0 {
		return nil
	}
	return c.Lost
}

// Add adds caches behind those that the build imports already. Steps that are looked for from now on may be found in them.
func (c *Cache) Add(imports ...*Import) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.imports = append(c.imports, imports...)
}

// all returns the imported caches. Add leaves what it returns unchanged.
func (c *Cache) all() []*Import {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.imports[:len(c.imports):len(c.imports)]
}

// HasImports reports whether a step may be found in an imported cache.
func (c *Cache) HasImports() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.imports) > 0 || len(c.readers) > 0
}

// Layer is one layer of a result.
type Layer struct {
	DiffID      digest.Digest
	Created     time.Time // when its step ran; zero if unknown
	Description string    // of its step
}

// Result is the layers of an output of a step, bottom first. Without layers it is the empty filesystem.
type Result struct{ Layers []Layer }

// Key identifies an output of a step. The zero Key is a filesystem of unknown origin, which only its content identifies.
type Key struct {
	step   *Step
	output int
}

// Input is an input of a step.
type Input struct {
	Key Key
	// View opens the input's filesystem, to compute the content that the step reads. It is nil if the content is unavailable.
	View func(context.Context) (view.View, error)
	// Local is set for a directory of the host.
	Local bool
}

// recordDigest returns the name of the record of an operation's output (BuildKit: solver/cachemanager.go, rootKey).
func recordDigest(operation digest.Digest, output int) digest.Digest {
	return digest.FromString(fmt.Sprintf("%s@%d", operation, output))
}

// contentRecord returns the name of the record of files with a digest (BuildKit: solver/edge.go, processDepSlowCacheReq).
func contentRecord(content digest.Digest) digest.Digest { return recordDigest(content, -1) }
