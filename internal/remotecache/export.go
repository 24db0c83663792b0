package remotecache

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/crash"
)

// Mode selects the results to export. Every mode exports the records of all steps (solver/types.go, CacheExportMode).
type Mode int

// The modes.
const (
	ModeMin Mode = iota // results whose layers are all in the image
	ModeMax             // the results of all steps
)

// ExportOptions are the options of an export.
type ExportOptions struct {
	Mode Mode
	// Blob stores a layer in the destination of the cache, and returns the descriptor of its blob. It is called once for every
	// layer, from several goroutines. The error is ErrLost for a layer that nobody has: results with it are left out.
	Blob func(ctx context.Context, l Layer) (ocispec.Descriptor, error)
	// Parallel is how many layers are stored at the same time, 0 for the usual number.
	Parallel int
	// Note describes the build, for Import.Note; nil for nothing.
	Note []byte
	// Index writes the manifest as an index, as old versions of BuildKit do.
	Index bool
	// DockerTypes uses Docker's media types, for which the manifest is always an index.
	DockerTypes bool
	// Describe describes the layers in the config, for caches that have no manifest.
	Describe bool
}

// ErrLost is the error for a layer that an imported cache names, and no longer has.
var ErrLost = errors.New("the layer is no longer in the build cache that it was imported from")

// Exported is a cache whose layers are stored, and whose config and manifest are not.
type Exported struct {
	Config, Manifest                     []byte
	ConfigDescriptor, ManifestDescriptor ocispec.Descriptor
	Layers                               []ocispec.Descriptor
}

// Push stores the config and the manifest.
func (x *Exported) Push(ctx context.Context, to content.Pusher) error {
	if err := to.Push(ctx, x.ConfigDescriptor, bytes.NewReader(x.Config)); err != nil {
		return err
	}
	return to.Push(ctx, x.ManifestDescriptor, bytes.NewReader(x.Manifest))
}

// Export makes the cache of the results with the given keys, and of the steps that they depend on. It returns nil if no
// step has a result to export.
func (c *Cache) Export(ctx context.Context, o ExportOptions, keys ...Key) (*Exported, error) {
	g, err := c.gather(ctx, o.Mode, keys)
	if err != nil {
		return nil, err
	}
	blobs, err := g.blobs(ctx, o)
	if err != nil {
		return nil, err
	}
	layers := &layerList{blobs: blobs, number: map[layerKey]int{}}
	records := g.write(func(out *cachetypes.CacheRecord, r *Result) {
		out.Results = []cachetypes.CacheResult{{LayerIndex: layers.add(r.Layers), CreatedAt: r.Created()}}
	})
	if len(layers.list) == 0 {
		return nil, nil
	}
	return encode(&cachetypes.CacheConfig{Layers: layers.list, Records: records}, blobs, o)
}

// parallelBlobs limits how many layers are stored at the same time.
const parallelBlobs = 4

// blobs stores every layer of the results, and returns the annotated descriptors. It removes results with layers that are lost.
func (g *graph) blobs(ctx context.Context, o ExportOptions) (map[digest.Digest]ocispec.Descriptor, error) {
	var mu sync.Mutex
	ready := map[digest.Digest]ocispec.Descriptor{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(cmp.Or(o.Parallel, parallelBlobs))
	seen := map[digest.Digest]bool{}
	for _, rec := range g.records {
		if rec.result == nil {
			continue
		}
		for _, l := range rec.result.Layers {
			if seen[l.DiffID] {
				continue
			}
			seen[l.DiffID] = true
			eg.Go(crash.Guard(func() error {
				d, err := o.Blob(ctx, l)
				if errors.Is(err, ErrLost) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("layer %s: %w", l.DiffID, err)
				}
				mu.Lock()
				defer mu.Unlock()
				ready[l.DiffID] = Annotate(d, l)
				return nil
			}))
		}
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	for _, rec := range g.records {
		if rec.result != nil && slices.ContainsFunc(rec.result.Layers, func(l Layer) bool { return ready[l.DiffID].Digest == "" }) {
			rec.result = nil
		}
	}
	return ready, nil
}

// graph has the records of a build that is exported.
type graph struct {
	cache   *Cache
	wanted  func(Result) bool
	records []*exportRecord
	byID    map[digest.Digest]*exportRecord
	steps   map[Key][]*exportRecord
	// untrusted says of the steps that were asked for whether isUntrusted.
	untrusted map[*Step]bool
}

// exportRecord is a record. Its ID is the digest of its name and the IDs of its inputs.
type exportRecord struct {
	id     digest.Digest
	name   digest.Digest
	inputs [][]exportLink
	result *Result
}

type exportLink struct {
	selector digest.Digest
	to       *exportRecord
}

// gather walks the steps of a build from its results to its sources (solver/exporter.go, ExportTo).
func (c *Cache) gather(ctx context.Context, mode Mode, keys []Key) (*graph, error) {
	g := &graph{cache: c, byID: map[digest.Digest]*exportRecord{}, steps: map[Key][]*exportRecord{}, untrusted: map[*Step]bool{}}
	final := map[digest.Digest]bool{}
	for _, k := range keys {
		r, _ := k.result()
		for _, l := range r.Layers {
			final[l.DiffID] = true
		}
	}
	g.wanted = func(r Result) bool {
		return mode == ModeMax || !slices.ContainsFunc(r.Layers, func(l Layer) bool { return !final[l.DiffID] })
	}
	for _, k := range keys {
		if _, err := g.key(ctx, k); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// key returns the records of a key, or none if an input has none.
func (g *graph) key(ctx context.Context, k Key) ([]*exportRecord, error) {
	if k.step == nil {
		return nil, nil
	}
	if list, ok := g.steps[k]; ok {
		return list, nil
	}
	inputs, err := g.inputs(ctx, k.step)
	if err != nil {
		return nil, err
	}
	var list []*exportRecord
	if !slices.ContainsFunc(inputs, func(l []exportLink) bool { return len(l) == 0 }) {
		for _, d := range k.step.digests {
			list = append(list, g.add(recordDigest(d, k.output), inputs))
		}
	}
	// A source has no result: other builders fetch it again.
	if r, ok := k.result(); ok && len(inputs) > 0 && !k.step.noExport && len(r.Layers) > 0 && g.wanted(r) && !g.isUntrusted(k.step) {
		for _, rec := range list {
			rec.result = &r
		}
	}
	g.steps[k] = list
	return list, nil
}

// isUntrusted reports whether the result of a step, or of one that it depends on, is from an untrusted cache. It is not exported: its record
// would claim that it is what the definition of the step gives.
func (g *graph) isUntrusted(s *Step) bool {
	if s == nil {
		return false
	}
	if known, ok := g.untrusted[s]; ok {
		return known
	}
	s.mu.Lock()
	found := slices.ContainsFunc(s.hits, func(h *Hit) bool { return h != nil && h.Untrusted() })
	s.mu.Unlock()
	found = found || slices.ContainsFunc(s.inputs, func(in *stepInput) bool { return g.isUntrusted(in.Key.step) })
	g.untrusted[s] = found
	return found
}

func (g *graph) inputs(ctx context.Context, s *Step) ([][]exportLink, error) {
	all := make([][]exportLink, len(s.inputs))
	for i, in := range s.inputs {
		known, err := g.key(ctx, in.Key)
		if err != nil {
			return nil, err
		}
		var links []exportLink
		for _, rec := range known {
			links = append(links, exportLink{in.selector, rec})
		}
		content, err := s.content(ctx, i)
		if err != nil {
			return nil, err
		}
		for _, d := range content {
			links = append(links, exportLink{"", g.add(d, nil)})
		}
		all[i] = links
	}
	return all, nil
}

// content returns the content records of an input: those that were computed, or else those of the cache that the step comes
// from, or else those of its files.
func (s *Step) content(ctx context.Context, i int) ([]digest.Digest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.inputs[i]
	if len(in.records) > 0 || !in.content {
		return in.records, nil
	}
	if list := s.contentOf(i); len(list) > 0 {
		return list, nil
	}
	err := in.learn(ctx, s.cache)
	return in.records, err
}

// add returns the record with a name and inputs. Equal records are one record.
func (g *graph) add(name digest.Digest, inputs [][]exportLink) *exportRecord {
	h := digest.SHA256.Digester()
	_, _ = h.Hash().Write([]byte(name))
	for _, links := range inputs {
		slices.SortFunc(links, compareLinks)
		_, _ = h.Hash().Write([]byte{0})
		for _, l := range links {
			_, _ = h.Hash().Write([]byte("|" + l.selector + "|" + l.to.id))
		}
	}
	id := h.Digest()
	rec, ok := g.byID[id]
	if !ok {
		rec = &exportRecord{id: id, name: name, inputs: inputs}
		g.byID[id] = rec
		g.records = append(g.records, rec)
	}
	return rec
}

func compareLinks(a, b exportLink) int {
	return cmp.Or(cmp.Compare(a.selector, b.selector), cmp.Compare(a.to.id, b.to.id))
}
