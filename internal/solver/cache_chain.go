package solver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// pieceLayers is the number of layers in one file of cache/chains. A record holds a chain of up to this length itself. Of a longer
// chain it holds the top; the layers below, a multiple of pieceLayers, are in files that records share. Otherwise a build of 5,000
// steps would write 2.5 GB of records.
const pieceLayers = 64

// piece is a file of cache/chains. Its name is the ChainID of its layers and all layers beneath them.
type piece struct {
	Below  digest.Digest `json:"below,omitempty"` // the ChainID of the next piece beneath
	Layers []recordLayer `json:"layers"`
}

// recordBelow is the part of a record's chain that is in pieces.
type recordBelow struct {
	ChainID digest.Digest `json:"chainID,omitempty"` // "" for none
	Layers  int           `json:"layers,omitempty"`
}

func (c *Cache) chains() string { return c.store.Path("cache", "chains") }

// split returns the part of a result that its record holds, and writes the rest in pieces.
func (c *Cache) split(out *Result) (recordBelow, []recordLayer, error) {
	n := max(len(out.Chain)-1, 0) / pieceLayers * pieceLayers
	top := recordLayers(out.Chain[n:])
	if n == 0 {
		return recordBelow{}, top, nil
	}
	_, chainIDs := out.identities()
	return recordBelow{chainIDs[n-1], n}, top, c.keep(out.Chain[:n], chainIDs)
}

// keep writes the pieces of a chain, lowest first, that this Cache has not written yet.
func (c *Cache) keep(chain []ChainLink, chainIDs []digest.Digest) error {
	n := len(chain)
	id := chainIDs[n-1]
	c.store.Hold(store.HeldStep, id)
	if _, ok := c.kept.Load(id); ok {
		return nil
	}
	p := piece{Layers: recordLayers(chain[n-pieceLayers:])}
	if n -= pieceLayers; n > 0 {
		if err := c.keep(chain[:n], chainIDs); err != nil {
			return err
		}
		p.Below = chainIDs[n-1]
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.chains(), 0o700); err != nil {
		return err
	}
	if err := c.store.WriteCacheFile(filepath.Join(c.chains(), id.Encoded()), data); err != nil {
		return err
	}
	c.kept.Store(id, nil)
	return nil
}

// join returns the result that a record describes. If it is built on one of below, the layers of that one need not be read.
func (c *Cache) join(at recordBelow, top []recordLayer, below []*Result) (*Result, error) {
	var base *Result
	for _, b := range below {
		if b.isBeneath(at, top) && (base == nil || len(b.Chain) > len(base.Chain)) {
			base = b
		}
	}
	if base == nil {
		var err error
		if base, err = c.pieces(at); err != nil {
			return nil, err
		}
	}
	return base.on(chainLinks(top[len(base.Chain)-at.Layers:])...), nil
}

// isBeneath reports whether r has all layers of a record's chain that are in pieces, and the chain begins with r.
func (r *Result) isBeneath(at recordBelow, top []recordLayer) bool {
	n := len(r.Chain) - at.Layers
	if len(r.Chain) == 0 || n < 0 || n > len(top) {
		return false
	}
	diffIDs, chainIDs := r.identities()
	if at.Layers > 0 && chainIDs[at.Layers-1] != at.ChainID {
		return false
	}
	for i, l := range top[:n] {
		if diffIDs[at.Layers+i] != l.DiffID {
			return false
		}
	}
	return true
}

// pieces reads the part of a record's chain that is in pieces. The error is fs.ErrNotExist if one is missing or damaged.
func (c *Cache) pieces(at recordBelow) (*Result, error) {
	if at.ChainID == "" {
		return &Result{}, nil
	}
	if r, ok := c.joined.Load(at.ChainID); ok {
		return r.(*Result), nil
	}
	data, err := os.ReadFile(filepath.Join(c.chains(), at.ChainID.Encoded()))
	if err != nil {
		return nil, err
	}
	damaged := fmt.Errorf("layers of cache records %s are damaged: %w", at.ChainID, fs.ErrNotExist)
	var p piece
	if json.Unmarshal(data, &p) != nil || len(p.Layers) != pieceLayers || (p.Below == "") != (at.Layers == pieceLayers) ||
		p.Below != "" && p.Below.Validate() != nil {
		return nil, damaged
	}
	base, err := c.pieces(recordBelow{p.Below, at.Layers - pieceLayers})
	if err != nil {
		return nil, err
	}
	r := base.on(chainLinks(p.Layers)...)
	if r.chainID() != at.ChainID {
		return nil, damaged
	}
	c.joined.Store(at.ChainID, r)
	return r, nil
}

// addUnusedPieces adds the files of the pieces that no record needs.
func (c *Cache) addUnusedPieces(recs []*Record, unused map[string]digest.Digest) error {
	names, err := os.ReadDir(c.chains())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list build cache: %w", err)
	}
	needed := map[digest.Digest]bool{"": true}
	for _, r := range recs {
		for _, at := range r.Below {
			for !needed[at.ChainID] {
				needed[at.ChainID] = true
				data, err := os.ReadFile(filepath.Join(c.chains(), at.ChainID.Encoded()))
				var p piece
				if err = errors.Join(err, json.Unmarshal(data, &p)); err != nil {
					return fmt.Errorf("read build cache: %w", err)
				}
				at.ChainID = p.Below
			}
		}
	}
	for _, n := range names {
		if id := digest.NewDigestFromEncoded(digest.SHA256, n.Name()); !needed[id] {
			unused[filepath.Join(c.chains(), n.Name())] = id
		}
	}
	return nil
}

// LayersOf returns the layers of the results of records, each once.
func LayersOf(recs []*Record) []digest.Digest {
	seen := map[digest.Digest]bool{}
	var all []digest.Digest
	add := func(ids []digest.Digest) {
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				all = append(all, id)
			}
		}
	}
	joined := map[*Result]bool{}
	for _, r := range recs {
		for i, top := range r.Outputs {
			for _, l := range top {
				add([]digest.Digest{l.DiffID})
			}
			if b := r.below[i]; !joined[b] {
				joined[b] = true
				add(b.DiffIDs())
			}
		}
	}
	return all
}

func recordLayers(chain []ChainLink) []recordLayer {
	list := make([]recordLayer, len(chain))
	for i, l := range chain {
		list[i] = recordLayer(l)
	}
	return list
}

func chainLinks(list []recordLayer) []ChainLink {
	chain := make([]ChainLink, len(list))
	for i, l := range list {
		chain[i] = ChainLink(l)
	}
	return chain
}
