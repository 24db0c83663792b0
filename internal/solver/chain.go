package solver

import (
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// trunk holds the longest of the chains that were grown from each other; every other one is a prefix of it. A build of n steps
// then takes the memory and the time of n layers, not of n chains.
type trunk struct {
	mu       sync.Mutex
	links    []ChainLink
	diffIDs  []digest.Digest
	chainIDs []digest.Digest // of the prefixes that were asked for, by length - 1
}

// newTrunk starts one with a chain.
func newTrunk(links []ChainLink) *trunk {
	t := &trunk{}
	t.add(links)
	return t
}

// add appends links. The caller holds the lock.
func (t *trunk) add(links []ChainLink) {
	t.links = append(t.links, links...)
	for _, l := range links {
		t.diffIDs = append(t.diffIDs, l.DiffID)
	}
}

// grow returns the trunk that has the first n links followed by more: this one, unless another chain grew from there first.
func (t *trunk) grow(n int, more []ChainLink) *trunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.links) != n {
		t = newTrunk(t.links[:n:n])
	}
	t.add(more)
	return t
}

// prefix returns the first n links.
func (t *trunk) prefix(n int) []ChainLink {
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

// newResult returns a result of a chain.
func newResult(links []ChainLink) *Result {
	r := &Result{}
	return r.on(links...)
}

// on returns r's chain with more layers on top.
func (r *Result) on(top ...ChainLink) *Result {
	t := r.trunk
	if t == nil {
		t = newTrunk(r.Chain)
	}
	n := len(r.Chain)
	t = t.grow(n, top)
	return &Result{Chain: t.prefix(n + len(top)), trunk: t}
}

// identities returns the DiffIDs of a chain and the ChainIDs of all that it begins with, itself last. The caller does not change them.
func (r *Result) identities() (diffIDs, chainIDs []digest.Digest) {
	t := r.trunk
	if t == nil {
		t = newTrunk(r.Chain)
	}
	return t.identities(len(r.Chain))
}

// chainID is the ChainID of the whole chain, "" for that of no layers.
func (r *Result) chainID() digest.Digest {
	_, ids := r.identities()
	if len(ids) == 0 {
		return ""
	}
	return ids[len(ids)-1]
}

// begins reports whether a list of layers begins with r's.
func (r *Result) begins(links []ChainLink) bool {
	if len(r.Chain) > len(links) {
		return false
	}
	if len(r.Chain) == 0 || &r.Chain[0] == &links[0] {
		return true
	}
	return slices.EqualFunc(r.Chain, links[:len(r.Chain)], func(a, b ChainLink) bool { return a.DiffID == b.DiffID })
}
