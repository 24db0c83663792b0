package buildcache

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

// split returns the part of a chain that its record holds, and writes the rest in pieces.
func (c *Cache) split(chain Chain) (recordBelow, []recordLayer, error) {
	links := chain.Links()
	n := max(len(links)-1, 0) / pieceLayers * pieceLayers
	top := recordLayers(links[n:])
	if n == 0 {
		return recordBelow{}, top, nil
	}
	_, chainIDs := chain.IDs()
	return recordBelow{chainIDs[n-1], n}, top, c.keep(links[:n], chainIDs)
}

// keep writes the pieces of a chain, lowest first, that this Cache has not written yet.
func (c *Cache) keep(links []Link, chainIDs []digest.Digest) error {
	n := len(links)
	id := chainIDs[n-1]
	c.store.Hold(store.HeldStep, id)
	if _, ok := c.kept.Load(id); ok {
		return nil
	}
	p := piece{Layers: recordLayers(links[n-pieceLayers:])}
	if n -= pieceLayers; n > 0 {
		if err := c.keep(links[:n], chainIDs); err != nil {
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

// join returns the chain that a record describes. If it is built on one of below, the layers of that one need not be read.
func (c *Cache) join(at recordBelow, top []recordLayer, below []Chain) (Chain, error) {
	var base Chain
	for _, b := range below {
		if b.isBase(at, top) && b.n > base.n {
			base = b
		}
	}
	if base.n == 0 {
		var err error
		if base, err = c.pieces(at); err != nil {
			return Chain{}, err
		}
	}
	return base.On(chainLinks(top[base.n-at.Layers:])...), nil
}

// isBase reports whether b has all layers of a record's chain that are in pieces, and the chain begins with b.
func (b Chain) isBase(at recordBelow, top []recordLayer) bool {
	n := b.n - at.Layers
	if b.n == 0 || n < 0 || n > len(top) {
		return false
	}
	diffIDs, chainIDs := b.IDs()
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
func (c *Cache) pieces(at recordBelow) (Chain, error) {
	if at.ChainID == "" {
		return Chain{}, nil
	}
	if chain, ok := c.joined.Load(at.ChainID); ok {
		return chain.(Chain), nil
	}
	data, err := os.ReadFile(filepath.Join(c.chains(), at.ChainID.Encoded()))
	if err != nil {
		return Chain{}, err
	}
	damaged := fmt.Errorf("layers of cache records %s are damaged: %w", at.ChainID, fs.ErrNotExist)
	var p piece
	if json.Unmarshal(data, &p) != nil || len(p.Layers) != pieceLayers || (p.Below == "") != (at.Layers == pieceLayers) ||
		p.Below != "" && p.Below.Validate() != nil {
		return Chain{}, damaged
	}
	base, err := c.pieces(recordBelow{p.Below, at.Layers - pieceLayers})
	if err != nil {
		return Chain{}, err
	}
	chain := base.On(chainLinks(p.Layers)...)
	if chain.ID() != at.ChainID {
		return Chain{}, damaged
	}
	c.joined.Store(at.ChainID, chain)
	return chain, nil
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
	joined := map[Chain]bool{}
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

func recordLayers(chain []Link) []recordLayer {
	list := make([]recordLayer, len(chain))
	for i, l := range chain {
		list[i] = recordLayer(l)
	}
	return list
}

func chainLinks(list []recordLayer) []Link {
	chain := make([]Link, len(list))
	for i, l := range list {
		chain[i] = Link(l)
	}
	return chain
}
