package buildcache

import (
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/remotecache"
)

// Link is one layer of a chain: when mica made it, which the record contains so that a rebuild gives the same image, and what an
// image's history says of a layer that nothing else describes.
type Link = remotecache.Layer

// Chain is a list of layers, bottom first. The zero Chain is the empty filesystem. Chains that were grown from one another share memory.
type Chain struct {
	trunk *trunk // nil for the empty chain
	n     int    // the chain is the first n links of the trunk
}

// NewChain returns a chain of layers.
func NewChain(links ...Link) Chain { return Chain{}.On(links...) }

// On returns the chain with more layers on top.
func (c Chain) On(top ...Link) Chain {
	if len(top) == 0 {
		return c
	}
	t := c.trunk
	if t == nil {
		t = &trunk{}
	}
	return Chain{t.grow(c.n, top), c.n + len(top)}
}

// Len returns the number of layers.
func (c Chain) Len() int { return c.n }

// Links returns the layers. The caller does not change them.
func (c Chain) Links() []Link {
	if c.n == 0 {
		return nil
	}
	return c.trunk.prefix(c.n)
}

// DiffIDs returns the layers' DiffIDs. The caller does not change them.
func (c Chain) DiffIDs() []digest.Digest {
	ids, _ := c.IDs()
	return ids
}

// IDs returns the DiffIDs of the layers, and the ChainIDs of all chains that this one begins with, itself last. The caller does not
// change them.
func (c Chain) IDs() (diffIDs, chainIDs []digest.Digest) {
	if c.n == 0 {
		return nil, nil
	}
	return c.trunk.identities(c.n)
}

// ID returns the ChainID of the whole chain, "" for the empty one.
func (c Chain) ID() digest.Digest {
	_, ids := c.IDs()
	if len(ids) == 0 {
		return ""
	}
	return ids[len(ids)-1]
}

// IsBeneath reports whether a list of layers begins with the chain.
func (c Chain) IsBeneath(links []Link) bool {
	own := c.Links()
	if len(own) > len(links) {
		return false
	}
	if len(own) == 0 || &own[0] == &links[0] {
		return true
	}
	return slices.EqualFunc(own, links[:len(own)], func(a, b Link) bool { return a.DiffID == b.DiffID })
}

// trunk holds the longest of the chains that were grown from each other; every other one is a prefix of it. A build of n steps
// then takes the memory and the time of n layers, not of n chains.
type trunk struct {
	mu       sync.Mutex
	links    []Link
	diffIDs  []digest.Digest
	chainIDs []digest.Digest // of the prefixes that were asked for, by length - 1
}

// add appends links. The caller holds the lock, or has the only reference.
func (t *trunk) add(links []Link) {
	t.links = append(t.links, links...)
	for _, l := range links {
		t.diffIDs = append(t.diffIDs, l.DiffID)
	}
}

// grow returns the trunk that has the first n links followed by more: this one, unless another chain grew from there first.
func (t *trunk) grow(n int, more []Link) *trunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.links) != n {
		fork := &trunk{}
		fork.add(t.links[:n])
		t = fork
	}
	t.add(more)
	return t
}

// prefix returns the first n links.
func (t *trunk) prefix(n int) []Link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.links[:n:n]
}

// identities returns the DiffIDs of the first n links, and the ChainIDs of the prefixes of each length up to n (OCI image-spec,
// config.md, "Layer ChainID").
func (t *trunk) identities(n int) (diffIDs, chainIDs []digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.chainIDs); i < n; i++ {
		id := t.diffIDs[i]
		if i > 0 {
			id = digest.FromString(string(t.chainIDs[i-1]) + " " + string(id))
		}
		t.chainIDs = append(t.chainIDs, id)
	}
	return t.diffIDs[:n:n], t.chainIDs[:n:n]
}
