package remotecache

import (
	"context"
	"fmt"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/view"
)

// Step is one vertex of a build. It is safe for concurrent use.
type Step struct {
	cache *Cache
	op    *pb.Op // nil for a source
	// digests are the digests of the operation. A source may have several.
	digests []digest.Digest
	outputs int
	inputs  []*stepInput
	// ignore disables Find, as --no-cache does. noExport excludes the results from exports.
	ignore, noExport bool

	mu      sync.Mutex
	reached map[reach]reached
	results map[int]Result
	hits    []*Hit

	// Of caches of single steps.
	defined   digest.Digest           // of the definition, "" if it is unknown
	byContent func(int) digest.Digest // the keys of outputs by content, nil if they are unknown
	isNew     *bool
	lost      bool // a result was found whose layers are gone
	found     bool // a result was found
	missed    bool // no result was found by all keys
	lease     StepLease
}

// stepInput is an input and the operation's dependency on it.
type stepInput struct {
	Input
	dep
	records []digest.Digest // content records; empty until the content is known
}

// Source returns the step of a source with names (ImageKeys, GitKey, HTTPKey). A directory of the host has no name.
func (c *Cache) Source(names ...string) *Step {
	s := &Step{cache: c, outputs: 1, reached: map[reach]reached{}, results: map[int]Result{}}
	for _, name := range names {
		s.digests = append(s.digests, sourceDigest(name))
	}
	return s
}

// Step returns the step of an operation. meta may be nil.
func (c *Cache) Step(op *pb.Op, meta *pb.OpMetadata, inputs []Input) (*Step, error) {
	if len(inputs) != len(op.Inputs) {
		return nil, fmt.Errorf("operation has %d inputs, but %d were given", len(op.Inputs), len(inputs))
	}
	o, err := describe(op)
	if err != nil {
		return nil, err
	}
	s := &Step{
		cache: c, op: op, digests: []digest.Digest{o.digest}, outputs: o.outputs, ignore: meta.GetIgnoreCache(),
		noExport: meta.GetExportCache() != nil && !meta.GetExportCache().Value,
		reached:  map[reach]reached{}, results: map[int]Result{},
	}
	if len(o.deps) != len(inputs) {
		return nil, fmt.Errorf("operation depends on %d of %d inputs", len(o.deps), len(inputs))
	}
	for i, in := range inputs {
		s.inputs = append(s.inputs, &stepInput{Input: in, dep: o.deps[i]})
	}
	return s, nil
}

// Key returns the key of an output.
func (s *Step) Key(output int) Key { return Key{s, output} }

// Record records the result of an output. The step ran, or a cache had the result.
func (s *Step) Record(output int, r Result) {
	s.mu.Lock()
	s.results[output] = r
	s.mu.Unlock()
	s.keep(output, r)
}

// result returns the recorded result of the key's output.
func (k Key) result() (Result, bool) {
	if k.step == nil {
		return Result{}, false
	}
	k.step.mu.Lock()
	defer k.step.mu.Unlock()
	r, ok := k.step.results[k.output]
	return r, ok
}

// readable reports whether content can identify the input, and is available.
func (in *stepInput) readable() bool { return in.content && in.View != nil }

// learn computes the content records of an input. The caller holds the step's lock.
func (in *stepInput) learn(ctx context.Context, c *Cache) error {
	if len(in.records) > 0 || !in.readable() {
		return nil
	}
	d, err := in.digest(ctx, c.sums)
	if err != nil {
		return err
	}
	c.learned.Add(1)
	in.records = []digest.Digest{contentRecord(d)}
	return nil
}

func (in *stepInput) digest(ctx context.Context, sums *Sums) (digest.Digest, error) {
	if r, ok := in.Key.result(); ok && len(r.Layers) == 0 && !in.Local {
		return emptyDigest(in.selections)
	}
	v, err := in.View(ctx)
	if err != nil {
		return "", err
	}
	return contentDigest(ctx, v, in.Local, in.selections, sums)
}

// emptyDigest returns the digest of a selection of a filesystem without layers. BuildKit has no reference to such a filesystem,
// and digests only its root (cache/contenthash/checksum.go, cacheManager.Checksum).
func emptyDigest(list []selection) (digest.Digest, error) {
	for _, s := range list {
		if view.Clean(s.path) != "." {
			return "", fmt.Errorf("%q: not found", s.path)
		}
	}
	parts := make([][]byte, max(1, len(list)))
	for i := range parts {
		parts[i] = []byte(digest.FromBytes(nil))
	}
	return listDigest(parts), nil
}
