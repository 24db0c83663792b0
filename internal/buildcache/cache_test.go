package buildcache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// newCache is the cache of an empty store.
func newCache(t testing.TB) *Cache {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return New(s)
}

// stepKey is the key of a step on a chain.
func stepKey(below Chain) Key {
	var k Key
	k.Add(KindOperation, "test", "")
	k.AddLayers(0, "base", below)
	return k
}

// build records n steps, each of which adds a layer to that of the one before, and returns the last chain. It takes the
// chains that the cache has.
func build(t testing.TB, c *Cache, n int) Chain {
	t.Helper()
	var chain Chain
	for i := range n {
		key := stepKey(chain)
		if outs, err := c.Get(key); err == nil {
			chain = outs[0]
			continue
		}
		chain = chain.On(link(fmt.Sprint(i)))
		if err := c.Put(key, "step", []Chain{chain}); err != nil {
			t.Fatal(err)
		}
	}
	return chain
}

// sweep is one of the build cache alone.
func sweep(t *testing.T, c *Cache) ([]*Record, error) {
	t.Helper()
	w, err := c.store.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recs, err := c.Sweep(w)
	_, endErr := w.End(t.Context())
	return recs, errors.Join(err, endErr)
}

// TestRecordsComeBack: what is put is what another process gets, whatever the outputs are.
func TestRecordsComeBack(t *testing.T) {
	t.Parallel()
	two := NewChain(link("a"), link("b"))
	for name, outs := range map[string][]Chain{
		"no output":       {},
		"a layer":         {NewChain(link("a"))},
		"nothing":         {{}},
		"several outputs": {two, {}, two.On(link("c"))},
		"no times":        {NewChain(Link{DiffID: link("a").DiffID})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t)
			key := stepKey(two)
			if _, err := c.Get(key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before it is put: %v", err)
			}
			if _, err := c.First("../x"); err == nil {
				t.Error("a name that is no digest has a record")
			}
			if err := c.Put(key, "step", outs); err != nil {
				t.Fatal(err)
			}
			got, err := New(c.store).Get(key)
			if err != nil || len(got) != len(outs) {
				t.Fatalf("%v, %v", got, err)
			}
			for i, out := range outs {
				if !slices.Equal(got[i].Links(), out.Links()) {
					t.Errorf("output %d: %v, want %v", i, got[i].Links(), out.Links())
				}
			}
			first, err := New(c.store).First(key.Digest())
			if len(outs) == 0 && !errors.Is(err, fs.ErrNotExist) || len(outs) > 0 && (err != nil || !slices.Equal(first.Links(), outs[0].Links())) {
				t.Errorf("the first output: %v, %v", first.Links(), err)
			}
			recs, err := c.Records()
			if err != nil || len(recs) != 1 || recs[0].Key != key.Digest() || recs[0].Name != "step" || !slices.Equal(recs[0].Ingredients, key.Ingredients) {
				t.Errorf("%+v, %v", recs, err)
			}
		})
	}
}

// TestRemove: a record that is removed is a miss, and a removal of nothing is not an error.
func TestRemove(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	build(t, c, 2)
	key := stepKey(Chain{})
	for range 2 {
		if err := c.Remove(key.Digest()); err != nil {
			t.Error(err)
		}
		if _, err := c.Get(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	}
	if recs, err := c.Records(); err != nil || len(recs) != 1 {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

// TestRecordsAreListedByUse: a record that is read counts as used.
func TestRecordsAreListedByUse(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	build(t, c, 3)
	keys := []Key{stepKey(Chain{}), stepKey(NewChain(link("0"))), stepKey(NewChain(link("0"), link("1")))}
	for i, k := range keys {
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(c.path(k.Digest()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(keys[0]); err != nil {
		t.Fatal(err)
	}
	recs, err := c.Records()
	var got []digest.Digest
	for _, r := range recs {
		got = append(got, r.Key)
	}
	if want := []digest.Digest{keys[1].Digest(), keys[2].Digest(), keys[0].Digest()}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestDamagedRecordsAreMisses(t *testing.T) {
	t.Parallel()
	other := digest.FromString("other").String()
	for name, damage := range map[string]func(data string, key digest.Digest) string{
		"another value": func(data string, _ digest.Digest) string { return strings.Replace(data, `"base"`, `"case"`, 1) },
		"another key":   func(data string, key digest.Digest) string { return strings.ReplaceAll(data, key.String(), other) },
		"cut":           func(data string, _ digest.Digest) string { return data[:len(data)/2] },
		"empty":         func(string, digest.Digest) string { return "" },
		"not an object": func(string, digest.Digest) string { return "[]" },
		"pieces without ID": func(data string, _ digest.Digest) string {
			return strings.Replace(data, `"outputs"`, `"below":[{"layers":64}],"outputs"`, 1)
		},
		"no layers in pieces": func(data string, _ digest.Digest) string {
			return strings.Replace(data, `"outputs"`, `"below":[{"chainID":"`+other+`"}],"outputs"`, 1)
		},
		"half a piece": func(data string, _ digest.Digest) string {
			return strings.Replace(data, `"outputs"`, `"below":[{"chainID":"`+other+`","layers":5}],"outputs"`, 1)
		},
		"an ID with a path": func(data string, _ digest.Digest) string {
			return strings.Replace(data, `"outputs"`, `"below":[{"chainID":"sha256:../x","layers":64}],"outputs"`, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCache(t)
			build(t, c, 1)
			key := stepKey(Chain{})
			data, err := os.ReadFile(c.path(key.Digest()))
			if err != nil {
				t.Fatal(err)
			}
			damaged := damage(string(data), key.Digest())
			if damaged == string(data) {
				t.Fatal("nothing is damaged")
			}
			if err := os.WriteFile(c.path(key.Digest()), []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			if outs, err := c.Get(key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v, %v", outs, err)
			}
			if recs, err := c.Records(); err != nil || len(recs) != 0 {
				t.Errorf("listed: %v, %v", recs, err)
			}
			// The next build writes it anew.
			build(t, c, 1)
			if _, err := c.Get(key); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSweepRemovesDamagedRecords(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	build(t, c, 2)
	damaged, valid := stepKey(Chain{}), stepKey(NewChain(link("0")))
	path := c.path(damaged.Digest())
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As one of a mica that makes other keys: it is valid but for its name.
	if err := os.WriteFile(path, bytes.Replace(data, []byte("base"), []byte("case"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	recs, err := sweep(t, c)
	if err != nil || len(recs) != 1 || recs[0].Key != valid.Digest() {
		t.Errorf("%v, %v; want the valid record", recs, err)
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != 1 || left[0].Name() != valid.Digest().Encoded() {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestEmptyCache: a store without build cache has no records, and nothing to sweep.
func TestEmptyCache(t *testing.T) {
	t.Parallel()
	c := newCache(t)
	if recs, err := c.Records(); err != nil || recs != nil {
		t.Errorf("%v, %v", recs, err)
	}
	if recs, err := sweep(t, c); err != nil || recs != nil {
		t.Errorf("%v, %v", recs, err)
	}
	if all := LayersOf(nil); all != nil {
		t.Errorf("layers %v", all)
	}
}
