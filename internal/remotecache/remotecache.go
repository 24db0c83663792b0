// Package remotecache reads and writes the build caches that BuildKit exchanges (--cache-from, --cache-to), so that either
// builder is served by what the other exported.
//
// A cache is a graph of records. A record is named by the digest of what an operation does, and linked to the records of
// the operation's inputs: by definition (the input's own records, under a selector that says what is read of it) and by
// content (a record whose name is the digest of the files that are read). A record may have a result: a chain of layers.
// Whoever computes the same names finds the result. The names are BuildKit's own cache keys, which this package computes
// from LLB and from Views; every rule cites the file of BuildKit that it follows.
//
// A build has one Cache. The solver makes a Step of every vertex, asks it for a result before it runs the vertex, and
// records the vertex's result in it. The exporters export the Cache.
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

// Cache has the caches that a build imports, and the steps that it may export.
// It is safe for concurrent use.
type Cache struct {
	imports []*Import
	sums    *Sums
	// learned counts how often content of inputs became known. Then a step may be found that was not before.
	learned atomic.Int64

	mu       sync.Mutex
	imported map[digest.Digest][]ImportedLayer // by DiffID
}

// New is the cache of a build that may use imports, the first that has a result winning. sums remembers the digests of
// files; nil remembers nothing.
func New(imports []*Import, sums *Sums) *Cache {
	return &Cache{imports: imports, sums: sums, imported: map[digest.Digest][]ImportedLayer{}}
}

// HasImports reports whether a step may be found in an imported cache.
func (c *Cache) HasImports() bool { return len(c.imports) > 0 }

// Layer is one layer of a result.
type Layer struct {
	DiffID      digest.Digest
	Created     time.Time // when the step that it came from ran; zero if unknown
	Description string    // what that step did
}

// Result is one output of a step: layers, bottom first. None is the empty filesystem.
type Result struct{ Layers []Layer }

// Key is that of one output of a step. The zero Key is that of a filesystem of unknown origin: nothing is found by
// it, only by its content.
type Key struct {
	step   *Step
	output int
}

// Input is what a step reads through one of its inputs.
type Input struct {
	Key Key
	// View opens the input's filesystem, for the content of what the step reads; nil where that is not to be had.
	View func(context.Context) (view.View, error)
	// Local is set for a directory of the host.
	Local bool
}

// recordDigest names the record of an output of an operation (BuildKit: solver/cachemanager.go, rootKey).
func recordDigest(operation digest.Digest, output int) digest.Digest {
	return digest.FromString(fmt.Sprintf("%s@%d", operation, output))
}

// contentRecord names the record of files with a digest (BuildKit: solver/edge.go, processDepSlowCacheReq).
func contentRecord(content digest.Digest) digest.Digest { return recordDigest(content, -1) }
