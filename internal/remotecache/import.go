package remotecache

import (
	"fmt"
	"slices"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Import is a cache that another build exported.
type Import struct {
	// Name is what users call it; "" for one that nobody asks for.
	Name string
	// From is where it was read from, and has the blobs of its layers.
	From content.Fetcher
	// Note describes the build that exported the cache; nil for a cache that mica has not exported.
	Note []byte
	// Untrusted is true if the user has not named the cache, but a program that may lie about results. They are for its own build only.
	Untrusted bool

	records []record
	byName  map[digest.Digest][]int
	layers  []configLayer
}

// record is a CacheRecord of BuildKit.
type record struct {
	digest  digest.Digest
	inputs  [][]link
	results []result
	lost    bool // it has a result with a layer that cannot be used
}

// link is a link to a record of an input.
type link struct {
	selector digest.Digest
	record   int
}

// result is a chain of layers: the layer top and those below it or, if top is negative, the layers of list.
type result struct {
	top     int
	list    []int
	created time.Time
}

// configLayer is a layer and the number of the layer below it. It is whole if it and all layers below it can be used.
type configLayer struct {
	ImportedLayer
	parent        int
	usable, whole bool
}

// The annotations of layers in a cache manifest (cache/refs.go, ociDesc; worker/base/worker.go, FromRemote).
const (
	AnnotationDiffID      = "containerd.io/uncompressed"
	annotationCreated     = "buildkit/createdat"
	annotationDescription = "buildkit/description"
)

// newImport checks a config (cache/remotecache/v1/parse.go). Layers are found by the digests of their blobs; a result with
// one that is missing, or whose DiffID is unknown, is ignored.
func newImport(from content.Fetcher, config *cachetypes.CacheConfig, blobs map[digest.Digest]ocispec.Descriptor) (*Import, error) {
	c := &Import{From: from, byName: map[digest.Digest][]int{}}
	for _, l := range config.Layers {
		c.layers = append(c.layers, c.layer(blobs[l.Blob], l.ParentIndex))
	}
	if err := c.checkLayers(); err != nil {
		return nil, err
	}
	for i, r := range config.Records {
		rec, err := c.record(&r, len(config.Records))
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		c.records = append(c.records, rec)
		c.byName[r.Digest] = append(c.byName[r.Digest], i)
	}
	return c, nil
}

func (c *Import) record(r *cachetypes.CacheRecord, records int) (record, error) {
	rec := record{digest: r.Digest, inputs: make([][]link, len(r.Inputs))}
	for i, list := range r.Inputs {
		if len(list) == 0 {
			return rec, fmt.Errorf("input %d is empty", i)
		}
		for _, in := range list {
			if in.LinkIndex < 0 || in.LinkIndex >= records {
				return rec, fmt.Errorf("it links to record %d, of %d", in.LinkIndex, records)
			}
			rec.inputs[i] = append(rec.inputs[i], link{digest.Digest(in.Selector), in.LinkIndex})
		}
	}
	results := make([]result, 0, len(r.Results)+len(r.ChainedResults))
	for _, res := range r.Results {
		results = append(results, result{top: res.LayerIndex, list: []int{res.LayerIndex}, created: res.CreatedAt})
	}
	for _, res := range r.ChainedResults {
		results = append(results, result{top: -1, list: res.LayerIndexes, created: res.CreatedAt})
	}
	for _, res := range results {
		usable := len(res.list) > 0
		for _, i := range res.list {
			if i < 0 || i >= len(c.layers) {
				return rec, fmt.Errorf("it has layer %d, of %d", i, len(c.layers))
			}
			usable = usable && c.layers[i].usable && (res.top < 0 || c.layers[i].whole)
		}
		if usable {
			rec.results = append(rec.results, res)
		} else {
			rec.lost = true
		}
	}
	return rec, nil
}

// checkLayers finds the layers that are whole. It visits every layer once.
func (c *Import) checkLayers() error {
	const open, done = 1, 2
	state := make([]int, len(c.layers))
	for i := range c.layers {
		// Go down to a layer that was visited, or to the bottom, and back up.
		var path []int
		for at := i; at != -1 && state[at] != done; at = c.layers[at].parent {
			if up := c.layers[at].parent; up < -1 || up >= len(c.layers) || state[at] == open {
				return fmt.Errorf("layer %d has the parent %d, of %d", at, up, len(c.layers))
			}
			state[at] = open
			path = append(path, at)
		}
		for _, at := range slices.Backward(path) {
			l := &c.layers[at]
			l.whole = l.usable && (l.parent == -1 || c.layers[l.parent].whole)
			state[at] = done
		}
	}
	return nil
}

// chain returns the layers of a result, bottom first.
func (c *Import) chain(r *result) []ImportedLayer {
	indexes := r.list
	if r.top >= 0 {
		indexes = nil
		for at := r.top; at != -1; at = c.layers[at].parent {
			indexes = append(indexes, at)
		}
		slices.Reverse(indexes)
	}
	chain := make([]ImportedLayer, len(indexes))
	for i, at := range indexes {
		chain[i] = c.layers[at].ImportedLayer
	}
	return chain
}

// layer reads the annotations of a layer.
func (c *Import) layer(d ocispec.Descriptor, parent int) configLayer {
	l := configLayer{parent: parent}
	l.ImportedLayer, l.usable = ReadLayer(c.From, d)
	return l
}

// ReadLayer returns the layer that the descriptor of a blob describes by annotations. ok is false if it does not.
func ReadLayer(from content.Fetcher, d ocispec.Descriptor) (l ImportedLayer, ok bool) {
	l.Blob, l.From = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, from
	l.DiffID = digest.Digest(d.Annotations[AnnotationDiffID])
	l.Description = d.Annotations[annotationDescription]
	if t := d.Annotations[annotationCreated]; t != "" {
		// A time that cannot be parsed is ignored.
		_ = l.Created.UnmarshalText([]byte(t))
	}
	return l, l.DiffID.Validate() == nil && d.Digest.Validate() == nil
}

// named returns the records with a name and a number of inputs.
func (c *Import) named(d digest.Digest, inputs int) []int {
	var list []int
	for _, i := range c.byName[d] {
		if len(c.records[i].inputs) == inputs {
			list = append(list, i)
		}
	}
	return list
}

func (c *Import) isRoot(i int) bool { return len(c.records[i].inputs) == 0 }

// best returns the newest result of records that has lost no layer, nil if they have none.
func (c *Import) best(records map[int]bool, lost func(digest.Digest) bool) *Hit {
	var best *result
	var of int
	for i := range c.records {
		if !records[i] {
			continue
		}
		for j, r := range c.records[i].results {
			if (best == nil || r.created.After(best.created)) && c.intact(&r, lost) {
				best, of = &c.records[i].results[j], i
			}
		}
	}
	if best == nil {
		return nil
	}
	return &Hit{Layers: c.chain(best), Created: best.created, cache: c, record: of}
}

// intact reports whether a result has lost no layer. lost is nil if none is.
func (c *Import) intact(r *result, lost func(digest.Digest) bool) bool {
	return lost == nil || !slices.ContainsFunc(c.chain(r), func(l ImportedLayer) bool { return lost(l.DiffID) })
}

// has reports whether one of records has a result that has lost no layer.
func (c *Import) has(records map[int]bool, lost func(digest.Digest) bool) bool {
	for i := range records {
		for j := range c.records[i].results {
			if c.intact(&c.records[i].results[j], lost) {
				return true
			}
		}
	}
	return false
}
