package buildcache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/micabuild/mica/internal/store"
)

// TestLongChains: a chain of several pieces comes back from the cache as it was, and so do the layers that a prune keeps.
func TestLongChains(t *testing.T) {
	t.Parallel()
	const n = 2*pieceLayers + 7
	c := newCache(t)
	built := build(t, c, n)
	again := build(t, New(c.store), n)
	if !slices.Equal(again.Links(), built.Links()) {
		t.Errorf("from the cache, the chain of %d layers has %d", n, again.Len())
	}
	recs, err := sweep(t, New(c.store))
	if err != nil || len(recs) != n {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	slices.SortFunc(recs, func(a, b *Record) int { return len(a.Layers()) - len(b.Layers()) })
	for i, r := range recs {
		if !slices.Equal(r.Layers(), built.DiffIDs()[:i+1]) {
			t.Errorf("record %d has %d layers that are not the chain's", i, len(r.Layers()))
		}
	}
	if all := LayersOf(recs); len(all) != n {
		t.Errorf("the records have %d layers, want each of %d once", len(all), n)
	}
}

// TestChainsBesidePieces: the length of a chain may be just that of its pieces, and the chain that a step is built on is taken from
// the step only if it is the one of the record.
func TestChainsBesidePieces(t *testing.T) {
	t.Parallel()
	for _, n := range []int{pieceLayers - 1, pieceLayers, pieceLayers + 1, 2 * pieceLayers} {
		c := newCache(t)
		built := build(t, c, n)
		key := stepKey(Chain{})
		key.Add(KindSource, "more", "")
		if err := c.Put(key, "a whole chain", []Chain{built}); err != nil {
			t.Fatal(err)
		}
		for name, below := range map[string]Chain{
			"nothing": {}, "itself": built, "another": NewChain(link("x")), "a part": NewChain(built.Links()[:n-2]...),
			"a longer one": built.On(link("x")), "a fork": NewChain(built.Links()[:n-1]...).On(link("x")),
		} {
			key.below = []Chain{below}
			got, err := New(c.store).Get(key)
			if err != nil || len(got) != 1 || !slices.Equal(got[0].Links(), built.Links()) {
				t.Errorf("%d layers on %s: %v, %v", n, name, got, err)
			}
		}
	}
}

// TestSweepOfPieces: pieces go with the last record that needs them, and a record whose piece is damaged is invalid.
func TestSweepOfPieces(t *testing.T) {
	t.Parallel()
	const n = 2*pieceLayers + 1
	c := newCache(t)
	_, ids := build(t, c, n).IDs()
	if err := os.WriteFile(filepath.Join(c.chains(), ids[pieceLayers-1].Encoded()), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	recs, err := sweep(t, New(c.store))
	if err != nil || len(recs) != pieceLayers {
		t.Errorf("%d records are left, %v; want those that need no piece", len(recs), err)
	}
	if left, err := os.ReadDir(c.chains()); err != nil || len(left) != 0 {
		t.Errorf("pieces %v are left, %v", left, err)
	}
	build(t, New(c.store), n)
	if recs, err := New(c.store).Records(); err != nil || len(recs) != n {
		t.Errorf("built again: %d records, %v", len(recs), err)
	}
}

// TestSweepBesideABuild: what a build is about to write or to read again stays, until it has ended.
func TestSweepBesideABuild(t *testing.T) {
	t.Parallel()
	const n = 2*pieceLayers + 1
	c := newCache(t)
	_, ids := build(t, c, n).IDs()
	other, err := store.Open(c.store.Root())
	if err != nil {
		t.Fatal(err)
	}
	use, err := other.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recs, err := c.Records()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs { // no record needs a piece any more, and one record is damaged
		if len(r.Layers()) > pieceLayers {
			err = errors.Join(err, c.Remove(r.Key))
		}
	}
	damaged := recs[slices.IndexFunc(recs, func(r *Record) bool { return len(r.Layers()) == 1 })].Key
	if err = errors.Join(err, os.WriteFile(c.path(damaged), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	other.Hold(store.HeldStep, damaged)
	other.Hold(store.HeldStep, ids[pieceLayers-1])
	for i, want := range []int{1, 0} {
		if i > 0 {
			if err := use.End(); err != nil {
				t.Fatal(err)
			}
		}
		if recs, err := sweep(t, New(c.store)); err != nil || len(recs) != pieceLayers-1 {
			t.Errorf("%d records are valid, %v", len(recs), err)
		}
		if left, err := os.ReadDir(c.chains()); err != nil || len(left) != want {
			t.Errorf("%d pieces are left, %v, want %d", len(left), err, want)
		}
		if left, err := os.ReadDir(c.dir); err != nil || len(left) != pieceLayers-1+want {
			t.Errorf("%d records are left, %v, want %d", len(left), err, pieceLayers-1+want)
		}
	}
}

// TestRecordsGrowWithSteps: what is kept of a build grows with its steps, not with their square.
func TestRecordsGrowWithSteps(t *testing.T) {
	t.Parallel()
	size := func(n int) (total int64) {
		c := newCache(t)
		build(t, c, n)
		err := filepath.WalkDir(c.store.Path("cache"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, infoErr := d.Info()
				err = infoErr
				total += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return total
	}
	if short, long := size(2*pieceLayers), size(8*pieceLayers); long > 5*short {
		t.Errorf("%d steps take %d bytes, four times as many %d", 2*pieceLayers, short, long)
	}
}
