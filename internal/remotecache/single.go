package remotecache

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
)

// StepReader is a cache that is asked for one step at a time.
type StepReader interface {
	// Find returns the result that has a key, nil for none. It may be asked for a key more than once.
	Find(ctx context.Context, key digest.Digest) *Hit
	// Name returns the name of the cache, for users.
	Name() string
}

// StepWriter is a cache that gets each result as soon as it is known. Keep does not wait until the result is written.
type StepWriter interface{ Keep(r StepResult) }

// StepLeaser is a StepWriter by which builds that need the same step at once wait for the one that runs it.
type StepLeaser interface {
	// Lease waits while another build runs the step with a key, and calls waiting if it has to. found is set if the cache has a result
	// by then. Otherwise the caller runs the step, and ends the lease unless it is nil.
	Lease(ctx context.Context, key digest.Digest, waiting func() (done func())) (lease StepLease, found bool)
}

// StepLease is a step that no other build runs meanwhile.
type StepLease interface {
	// End ends it as soon as the results that were kept are written. err is the error of the step.
	End(err error)
}

// StepResult is the result of one output of a step.
type StepResult struct {
	Result
	step   *Step
	output int
}

// Lease returns the lease under which the step ran, nil for none.
func (r *StepResult) Lease() StepLease {
	r.step.mu.Lock()
	defer r.step.mu.Unlock()
	return r.step.lease
}

// Keys returns the keys of the result: by the definition of the step, and by the content that it reads, as far as they are known.
func (r *StepResult) Keys(ctx context.Context) ([]digest.Digest, error) {
	keys, err := r.step.keys(ctx, r.output, ByContent)
	return slices.DeleteFunc(keys, func(k digest.Digest) bool { return k == "" }), err
}

// Replaces reports whether the result takes the place of one that a cache has: that was not to be used, or has lost layers.
func (r *StepResult) Replaces() bool {
	r.step.mu.Lock()
	lost := r.step.lost
	r.step.mu.Unlock()
	return lost || r.step.renewed()
}

// UseSteps adds caches of single steps. Find asks the readers after the caches that are imported as a whole. If lastFirst is set, nothing
// needs the results that a found one is made of.
func (c *Cache) UseSteps(readers []StepReader, writers []StepWriter, lastFirst bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers, c.writers, c.lastFirst = readers, writers, lastFirst
	for _, r := range readers {
		c.named = append(c.named, &Import{Name: r.Name()})
	}
}

// AsksSteps reports whether steps are found one at a time, and the last of a graph is best looked for first.
func (c *Cache) AsksSteps() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.readers) > 0 && c.lastFirst
}

// Identify gives a step the keys of its outputs by content. They are other keys than BuildKit's.
func (s *Step) Identify(content func(output int) digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byContent = content
}

// Lease waits while another build runs a process that the step is, if a cache of single steps has leases. It reports whether the caches may
// have the result by then. Otherwise the step runs. The caller ends it with EndLease.
func (s *Step) Lease(ctx context.Context, output int, waiting func() (done func())) bool {
	if s.op.GetExec() == nil || s.noExport || s.renewed() || s.cache.distrusts(s) {
		return false
	}
	s.mu.Lock()
	known, lost := s.byContent, s.lost
	s.mu.Unlock()
	if known == nil || lost {
		return false
	}
	for _, w := range s.cache.stepWriters() {
		l, ok := w.(StepLeaser)
		if !ok {
			continue
		}
		lease, found := l.Lease(ctx, known(output), waiting)
		if lease != nil {
			s.mu.Lock()
			s.lease = lease
			s.mu.Unlock()
		}
		if lease != nil || found {
			return found
		}
	}
	return false
}

// EndLease ends the lease of the step, if it has one. err is the error of the step.
func (s *Step) EndLease(err error) {
	s.mu.Lock()
	l := s.lease
	s.lease = nil
	s.mu.Unlock()
	if l != nil {
		l.End(err)
	}
}

func (c *Cache) stepWriters() []StepWriter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writers
}

// keep gives a result to the caches of single steps.
func (s *Step) keep(output int, r Result) {
	if s.op == nil || s.noExport || len(r.Layers) == 0 {
		return
	}
	s.cache.mu.Lock()
	writers := s.cache.writers
	if len(writers) > 0 {
		s.cache.used = append(s.cache.used, s)
	}
	s.cache.mu.Unlock()
	if len(writers) == 0 || s.cache.distrusts(s) {
		return
	}
	for _, w := range writers {
		w.Keep(StepResult{r, s, output})
	}
}

// UsedKeys returns keys of the results that the build has used, and of all that they are made of: that by definition of each, or that by content
// where it has no definition. It reads no files.
func (c *Cache) UsedKeys(ctx context.Context) (keys []digest.Digest) {
	c.mu.Lock()
	list := slices.Clone(c.used)
	c.mu.Unlock()
	seen := map[*Step]bool{}
	for len(list) > 0 {
		s := list[len(list)-1]
		list = list[:len(list)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		for _, in := range s.inputs {
			if in.Key.step != nil {
				list = append(list, in.Key.step)
			}
		}
		for output := range s.outputs {
			if key := s.usedKey(ctx, output); key != "" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func (s *Step) usedKey(ctx context.Context, output int) digest.Digest {
	if s.op == nil {
		return ""
	}
	key, err := s.definition(ctx, output, ByDefinition)
	if err == nil && key != "" {
		return key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byContent == nil {
		return ""
	}
	return s.byContent(output)
}

// distrusts reports whether a result is from an untrusted cache, or made of one that is.
func (c *Cache) distrusts(s *Step) bool {
	if !slices.ContainsFunc(c.all(), func(i *Import) bool { return i.Untrusted }) {
		return false
	}
	g := &graph{cache: c, untrusted: map[*Step]bool{}}
	return g.isUntrusted(s)
}

// findSingle looks for an output in the caches of single steps.
func (s *Step) findSingle(ctx context.Context, output int, depth Depth) (*Hit, error) {
	s.cache.mu.Lock()
	readers := s.cache.readers
	s.cache.mu.Unlock()
	if len(readers) == 0 || s.ignore {
		return nil, nil
	}
	keys, err := s.keys(ctx, output, depth)
	if err != nil {
		return nil, err
	}
	if s.renewed() { // by definition it is what it was, although an input is not
		keys[0] = ""
	}
	lost := s.cache.losses()
	for _, key := range keys {
		for _, c := range readers {
			if key == "" {
				break
			}
			hit := c.Find(ctx, key)
			if hit == nil {
				continue
			}
			usable := lost == nil || !slices.ContainsFunc(hit.Layers, func(l ImportedLayer) bool { return lost(l.DiffID) })
			s.mu.Lock()
			s.found = s.found || usable
			s.lost = s.lost || !usable
			s.mu.Unlock()
			if usable {
				return hit, nil
			}
		}
	}
	s.mu.Lock()
	s.missed = s.missed || depth == ByContent && s.byContent != nil
	s.mu.Unlock()
	return nil, nil
}

// missSingle says why a cache of single steps has no result of the step, after Find has found none. A record is found by a key that has all that the
// step depends on: all that can be known is which of the steps that it is made of the caches do not have either.
func (s *Step) missSingle(c *Import) Miss {
	m := Miss{Cache: c, Reason: NoRecord}
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if lost {
		m.Reason = Lost
		return m
	}
	for i, in := range s.inputs {
		if below := in.Key.step; below != nil && below.missedSingle() {
			m.Reason, m.Inputs = OtherInputs, append(m.Inputs, MissedInput{Index: i})
		}
	}
	return m
}

// missedSingle reports whether caches of single steps were asked for the step by all of its keys, and had no result.
func (s *Step) missedSingle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missed && !s.found
}

// renewed reports whether the step, or one that it depends on, was not to be found in a cache.
func (s *Step) renewed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isNew == nil {
		isNew := s.ignore || slices.ContainsFunc(s.inputs, func(in *stepInput) bool { return in.Key.step != nil && in.Key.step.renewed() })
		s.isNew = &isNew
	}
	return *s.isNew
}

// keys returns the key of an output by definition, "" if it is unknown, and at the depth ByContent that by content, if it is known.
func (s *Step) keys(ctx context.Context, output int, depth Depth) ([]digest.Digest, error) {
	key, err := s.definition(ctx, output, depth)
	if err != nil {
		return nil, err
	}
	list := []digest.Digest{key}
	s.mu.Lock()
	defer s.mu.Unlock()
	if depth == ByContent && s.byContent != nil {
		list = append(list, s.byContent(output))
	}
	return list, nil
}

// definition returns the digest of what an output is by definition: the operation, and the definitions of its inputs. A directory of the host
// has none; the content that is read of it is in its place.
func (s *Step) definition(ctx context.Context, output int, depth Depth) (digest.Digest, error) {
	if len(s.digests) == 0 {
		return "", nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.defined == "" {
		d, err := s.define(ctx, depth)
		if err != nil || d == "" {
			return "", err
		}
		s.defined = d
	}
	return recordDigest(s.defined, output), nil
}

func (s *Step) define(ctx context.Context, depth Depth) (digest.Digest, error) {
	h := digest.SHA256.Digester()
	// An image has several names. The last is the most general one: the layers.
	_, _ = fmt.Fprintf(h.Hash(), "mica-step-1\n%s\n", s.digests[len(s.digests)-1])
	for _, in := range s.inputs {
		d, err := in.definition(ctx, s.cache, depth)
		if err != nil || d == "" {
			return "", err
		}
		_, _ = io.WriteString(h.Hash(), in.selector.String()+" "+d+"\n")
	}
	return h.Digest(), nil
}

// definition is what an input is for the definition of a step, "" if that is unknown. The caller holds the step's lock.
func (in *stepInput) definition(ctx context.Context, c *Cache, depth Depth) (string, error) {
	if in.Key.step != nil {
		d, err := in.Key.step.definition(ctx, in.Key.output, depth)
		if err != nil || d != "" {
			return d.String(), err
		}
	}
	if depth == ByContent || depth == ByLocalContent && in.Local {
		if err := in.learn(ctx, c); err != nil {
			return "", err
		}
	}
	if len(in.records) == 0 {
		return "", nil
	}
	return "content " + in.records[0].String(), nil
}
