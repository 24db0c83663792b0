package remotecache

import (
	"context"
	"slices"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
)

// Reason says why an imported cache has no result of a step. A cache has only digests of definitions and of contents: what else
// they were cannot be known.
type Reason int

// The reasons.
const (
	NoStep        Reason = iota // no step has this definition
	OtherPlatform               // the step is there for another platform
	OtherInputs                 // the step is there, with other inputs
	NoResult                    // the step is there with these inputs, and without a result
	NoLayers                    // the result is there, and the manifest has not all of its layers
	Lost                        // the result was there, and blobs of its layers are gone
	Unsearched                  // the files that the step reads could not be compared
	NoRecord                    // a cache of single steps has no result of the step with these inputs
)

// Miss says why an imported cache has no result of a step.
type Miss struct {
	Cache    *Import
	Reason   Reason
	Platform string // the other one
	Err      error  // of Unsearched
	// Inputs are those that the cache has the step without: none of their definitions and contents is what it has.
	Inputs []MissedInput
}

// MissedInput is an input that a cache has others in place of.
type MissedInput struct {
	Index int
	// Known is true if the cache has the input itself, elsewhere.
	Known bool
}

// Misses says of each imported cache, and of each cache of single steps, why it has no result of a wanted output of the step, after Find has found none. It reads no file
// that Find has not read.
func (s *Step) Misses(ctx context.Context, wanted ...int) (list []Miss) {
	for _, c := range s.cache.all() {
		for _, output := range wanted {
			if m, ok := s.miss(ctx, c, output); ok {
				list = append(list, m)
				break
			}
		}
	}
	s.cache.mu.Lock()
	named := s.cache.named
	s.cache.mu.Unlock()
	for _, c := range named {
		list = append(list, s.missSingle(c))
	}
	return list
}

func (s *Step) miss(ctx context.Context, c *Import, output int) (Miss, bool) {
	m := Miss{Cache: c}
	q := reach{c, output, ByContent}
	records, err := s.reach(ctx, q)
	if err != nil {
		m.Reason, m.Err = Unsearched, err
		return m, true
	}
	if c.has(records, s.cache.losses()) {
		return m, false
	}
	if len(records) > 0 {
		m.Reason = NoResult
		for r := range records {
			switch {
			case len(c.records[r].results) > 0:
				m.Reason = Lost
			case c.records[r].lost && m.Reason != Lost:
				m.Reason = NoLayers
			}
		}
		return m, true
	}
	candidates := s.candidates(c, output)
	if len(candidates) == 0 {
		if m.Platform = s.otherPlatform(c, output); m.Platform != "" {
			m.Reason = OtherPlatform
		}
		return m, true
	}
	inputs, err := s.below(ctx, q)
	if err != nil {
		m.Reason, m.Err = Unsearched, err
		return m, true
	}
	m.Reason, m.Inputs = OtherInputs, s.missedInputs(c, candidates, inputs)
	return m, true
}

// missedInputs returns the inputs that are not those of the candidate which has most of them.
func (s *Step) missedInputs(c *Import, candidates []int, known []map[int]bool) (fewest []MissedInput) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, r := range candidates {
		var missed []MissedInput
		for i := range s.inputs {
			if !s.linked(c, r, i, known[i]) {
				missed = append(missed, MissedInput{i, len(known[i]) > 0})
			}
		}
		if n == 0 || len(missed) < len(fewest) {
			fewest = missed
		}
	}
	return fewest
}

// usual are the platforms that images are commonly built for.
var usual = []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x"}

// otherPlatform returns the usual platform for which a cache has the step's definition, "" for none.
func (s *Step) otherPlatform(c *Import, output int) string {
	if s.op == nil {
		return ""
	}
	for _, name := range usual {
		p := platforms.Normalize(platforms.MustParse(name))
		op := s.op.CloneVT()
		op.Platform = &pb.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		o, err := describe(op)
		if err != nil || slices.Contains(s.digests, o.digest) {
			continue
		}
		if len(c.named(recordDigest(o.digest, output), len(s.inputs))) > 0 {
			return name
		}
	}
	return ""
}
