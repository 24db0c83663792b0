package buildcache

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// link is a layer with a time and a description.
func link(name string) Link {
	return Link{DiffID: digest.FromString(name), Created: time.Unix(int64(len(name)), 0).UTC(), Description: name}
}

// described returns the descriptions of a chain's layers, one after another.
func described(c Chain) (text string) {
	for _, l := range c.Links() {
		text += l.Description
	}
	return text
}

// TestChainsThatForkKeepTheirLayers: chains that were grown from one share memory, and none sees the layers of another.
func TestChainsThatForkKeepTheirLayers(t *testing.T) {
	t.Parallel()
	a := NewChain(link("a"))
	b, c := a.On(link("b")), a.On(link("c"))
	d, e := b.On(link("d"), link("e")), b.On(link("f"))
	for want, chain := range map[string]Chain{"": {}, "a": a, "ab": b, "ac": c, "abde": d, "abf": e} {
		if got := described(chain); got != want || chain.Len() != len(want) {
			t.Errorf("chain %q is %q, of %d layers", want, got, chain.Len())
		}
		diffIDs, chainIDs := chain.IDs()
		var wantIDs []digest.Digest
		for _, l := range want {
			wantIDs = append(wantIDs, link(string(l)).DiffID)
		}
		if !slices.Equal(diffIDs, wantIDs) || !slices.Equal(chain.DiffIDs(), wantIDs) {
			t.Errorf("chain %q has DiffIDs %v", want, diffIDs)
		}
		for i, id := range chainIDs {
			if other := identity.ChainID(slices.Clone(diffIDs[:i+1])); id != other {
				t.Errorf("chain %q: the ChainID of %d layers is %s, want %s", want, i+1, id, other)
			}
		}
		if len(chainIDs) > 0 && chain.ID() != chainIDs[len(chainIDs)-1] || len(chainIDs) != len(want) {
			t.Errorf("chain %q has ID %s and ChainIDs %v", want, chain.ID(), chainIDs)
		}
	}
	if id := (Chain{}).ID(); id != "" {
		t.Errorf("the empty chain has ID %s", id)
	}
	if same := d.On(); same != d {
		t.Error("nothing on top makes another chain")
	}
}

func TestChainIsBeneath(t *testing.T) {
	t.Parallel()
	ab := NewChain(link("a"), link("b"))
	for name, c := range map[string]struct {
		lower, upper Chain
		want         bool
	}{
		"itself":          {ab, ab, true},
		"grown":           {ab, ab.On(link("c")), true},
		"the empty chain": {Chain{}, ab, true},
		"both empty":      {Chain{}, Chain{}, true},
		"of its own":      {ab, NewChain(link("a"), link("b"), link("c")), true},
		"longer":          {ab.On(link("c")), ab, false},
		"on nothing":      {ab, Chain{}, false},
		"another order":   {ab, NewChain(link("b"), link("a"), link("c")), false},
		"a fork":          {ab.On(link("c")), ab.On(link("d"), link("e")), false},
		"by DiffIDs alone": {
			NewChain(Link{DiffID: link("a").DiffID}), ab, true,
		},
	} {
		if got := c.lower.IsBeneath(c.upper.Links()); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
