package remotecache

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Hit is a result that an imported cache has of a step's output.
type Hit struct {
	Layers  []ImportedLayer
	Created time.Time

	cache  *Import // nil for a result from a cache of single steps
	record int
}

// Untrusted reports whether the cache is untrusted.
func (h *Hit) Untrusted() bool { return h.cache != nil && h.cache.Untrusted }

// ImportedLayer is a layer of an imported cache, and where its blob can be fetched.
type ImportedLayer struct {
	Layer
	Blob ocispec.Descriptor
	From content.Fetcher
}

// Depth limits what a search reads.
type Depth int

// The depths of a search.
const (
	// ByDefinition reads no files.
	ByDefinition Depth = iota
	// ByLocalContent also reads directories of the host, which have no definition, if an imported cache has a record by content.
	ByLocalContent
	// ByContent also reads all other inputs.
	ByContent
)

// reach identifies a search for the records of an output in an imported cache.
type reach struct {
	cache  *Import
	output int
	depth  Depth
}

// Find searches the imported caches for the wanted outputs of the step. It returns their results, and those of other outputs as far as the
// caches have them (a cache of mode=min has only what the image is made of); nil if a wanted one is missing. It downloads nothing.
func (s *Step) Find(ctx context.Context, depth Depth, wanted ...int) ([]*Hit, error) {
	hits := make([]*Hit, s.outputs)
	for i := range hits {
		hit, err := s.find(ctx, i, depth)
		if slices.Contains(wanted, i) && (err != nil || hit == nil) {
			return nil, err
		}
		hits[i] = hit
	}
	if slices.ContainsFunc(wanted, func(i int) bool { return i >= len(hits) }) {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits = hits
	s.cache.found(hits)
	return hits, nil
}

// found records where the layers of hits can be fetched.
func (c *Cache) found(hits []*Hit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, hit := range hits {
		if hit == nil {
			continue
		}
		for _, l := range hit.Layers {
			if l.Blob.Digest == "" { // of a base image
				continue
			}
			known := slices.ContainsFunc(c.imported[l.DiffID], func(o ImportedLayer) bool { return o.Blob.Digest == l.Blob.Digest })
			if !known {
				c.imported[l.DiffID] = append(c.imported[l.DiffID], l)
			}
		}
	}
}

// AddLayers records where layers can be fetched that are in no imported cache.
func (c *Cache) AddLayers(layers ...ImportedLayer) { c.found([]*Hit{{Layers: layers}}) }

// Imported returns where a layer of the results that were found can be fetched. Steps build on a result before its layers
// are fetched, and most layers are never needed.
func (c *Cache) Imported(id digest.Digest) []ImportedLayer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.imported[id])
}

func (s *Step) find(ctx context.Context, output int, depth Depth) (*Hit, error) {
	for _, c := range s.cache.all() {
		records, err := s.reach(ctx, reach{c, output, depth})
		if err != nil {
			return nil, err
		}
		if hit := c.best(records, s.cache.losses()); hit != nil {
			return hit, nil
		}
	}
	return s.findSingle(ctx, output, depth)
}

// reached is the result of a search. A search by definition is repeated when more content is known.
type reached struct {
	records map[int]bool
	learned int64
}

// reach finds the records of an output (solver/edge.go: probeCache and recalcCurrentState).
func (s *Step) reach(ctx context.Context, q reach) (map[int]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.reached[reach{q.cache, q.output, ByContent}]; ok {
		return known.records, nil
	}
	learned := s.cache.learned.Load()
	if known, ok := s.reached[q]; ok && known.learned == learned {
		return known.records, nil
	}
	found, err := s.search(ctx, q)
	if err != nil {
		return nil, err
	}
	s.reached[q] = reached{found, learned}
	if q.depth == ByContent && len(found) > 0 {
		s.cache.learned.Add(1)
	}
	return found, nil
}

func (s *Step) search(ctx context.Context, q reach) (map[int]bool, error) {
	found := map[int]bool{}
	if s.ignore {
		return found, nil
	}
	candidates := s.candidates(q.cache, q.output)
	if len(s.inputs) == 0 || len(candidates) == 0 {
		for _, r := range candidates {
			found[r] = true
		}
		return found, nil
	}
	inputs, err := s.below(ctx, q)
	if err != nil {
		return nil, err
	}
	s.match(q.cache, candidates, inputs, found)
	if q.depth == ByDefinition || q.cache.has(found, s.cache.losses()) {
		return found, nil
	}
	if err := s.read(ctx, q.cache, candidates, q.depth); err != nil {
		return nil, err
	}
	s.match(q.cache, candidates, inputs, found)
	return found, nil
}

// candidates are the records in a cache that have the definition of an output.
func (s *Step) candidates(c *Import, output int) (list []int) {
	for _, d := range s.digests {
		list = append(list, c.named(recordDigest(d, output), len(s.inputs))...)
	}
	return list
}

// below returns the records that a cache has of each input.
func (s *Step) below(ctx context.Context, q reach) ([]map[int]bool, error) {
	inputs := make([]map[int]bool, len(s.inputs))
	for i, in := range s.inputs {
		if in.Key.step == nil {
			continue
		}
		known, err := in.Key.step.reach(ctx, reach{q.cache, in.Key.output, q.depth})
		if err != nil {
			return nil, err
		}
		inputs[i] = known
	}
	return inputs, nil
}

// read computes the content records of the inputs that candidates link to by content.
func (s *Step) read(ctx context.Context, c *Import, candidates []int, depth Depth) error {
	for i, in := range s.inputs {
		if depth == ByLocalContent && !in.Local {
			continue
		}
		useful := slices.ContainsFunc(candidates, func(r int) bool {
			return slices.ContainsFunc(c.records[r].inputs[i], func(l link) bool { return l.selector == "" && c.isRoot(l.record) })
		})
		if !useful {
			continue
		}
		if err := in.learn(ctx, s.cache); err != nil {
			return err
		}
	}
	return nil
}

// match adds to found the candidates to which every input links, by its own records or by its content records.
func (s *Step) match(c *Import, candidates []int, inputs []map[int]bool, found map[int]bool) {
	for _, r := range candidates {
		ok := true
		for i := range s.inputs {
			ok = ok && s.linked(c, r, i, inputs[i])
		}
		if ok {
			found[r] = true
		}
	}
}

// linked reports whether an input, of which known are the records, links to the candidate r.
func (s *Step) linked(c *Import, r, input int, known map[int]bool) bool {
	in := s.inputs[input]
	return slices.ContainsFunc(c.records[r].inputs[input], func(l link) bool {
		if l.selector == in.selector && known[l.record] {
			return true
		}
		return l.selector == "" && c.isRoot(l.record) && slices.Contains(in.records, c.records[l.record].digest)
	})
}

// contentOf returns the content records of an input from imported caches: from the cache of the step's result or, if the step
// was not solved, from all caches that have the step.
func (s *Step) contentOf(input int) []digest.Digest {
	var list []digest.Digest
	add := func(c *Import, record int) {
		for _, l := range c.records[record].inputs[input] {
			if l.selector == "" && c.isRoot(l.record) {
				list = append(list, c.records[l.record].digest)
			}
		}
	}
	for _, hit := range s.hits {
		if hit == nil || hit.cache == nil {
			continue
		}
		add(hit.cache, hit.record)
	}
	if len(s.hits) == 0 && len(s.results) == 0 {
		for q, known := range s.reached {
			for record := range known.records {
				add(q.cache, record)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
