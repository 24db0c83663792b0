package buildcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// The names of locks begin with these.
const (
	StepLock  = "step-"  // on an operation that runs; its key follows
	FetchLock = "fetch-" // on a layer that is fetched from a remote cache; its DiffID follows
)

// Cache is the build cache of a store: one small JSON file per operation that ran, named by its key, in the store's cache/records.
// A record that does not parse or does not match its name counts as absent, and is written anew.
type Cache struct {
	store  *store.Store
	dir    string
	kept   sync.Map // the pieces that were written, by ChainID
	joined sync.Map // the chains that were read from pieces, by ChainID: Chain
}

// New returns the build cache of a store.
func New(s *store.Store) *Cache {
	return &Cache{store: s, dir: s.Path("cache", "records")}
}

// Record describes an operation that ran, and its results.
type Record struct {
	Key         digest.Digest   `json:"key"`
	Name        string          `json:"name"` // as the progress display showed it
	Created     time.Time       `json:"created"`
	Ingredients []Ingredient    `json:"ingredients"`
	Outputs     [][]recordLayer `json:"outputs"` // per output, the chain, or its top where Below says so
	Below       []recordBelow   `json:"below,omitempty"`
	// Used is when the record last served a build: the file's modification time.
	Used time.Time `json:"-"`
	// below are the chains of Below, in a record from a list.
	below []Chain
}

type recordLayer struct {
	DiffID      digest.Digest `json:"diffID"`
	Created     time.Time     `json:"created,omitzero"`
	Description string        `json:"description,omitempty"`
}

// Layers returns every layer that the results of a record that was listed are made of.
func (r *Record) Layers() []digest.Digest {
	var ids []digest.Digest
	for i, out := range r.Outputs {
		ids = append(ids, r.below[i].DiffIDs()...)
		for _, l := range out {
			ids = append(ids, l.DiffID)
		}
	}
	return ids
}

func (c *Cache) path(key digest.Digest) string { return filepath.Join(c.dir, key.Encoded()) }

// Get returns the chains recorded for key, one for each output; fs.ErrNotExist if there is no valid record.
func (c *Cache) Get(key Key) ([]Chain, error) {
	id := key.Digest()
	c.store.Hold(store.HeldStep, id)
	rec, err := c.read(id)
	if err != nil {
		return nil, err
	}
	outs := make([]Chain, len(rec.Outputs))
	for i, top := range rec.Outputs {
		if outs[i], err = c.join(rec.beneath(i), top, key.below); err != nil {
			return nil, err
		}
	}
	// Prune removes the least recently used records first; a lost time does no harm.
	now := time.Now()
	_ = os.Chtimes(c.path(id), now, now)
	return outs, nil
}

// First returns the chain that is the first output of an operation, by the digest of its key; fs.ErrNotExist if there is no valid record.
func (c *Cache) First(id digest.Digest) (Chain, error) {
	if err := id.Validate(); err != nil {
		return Chain{}, fmt.Errorf("cache record: %w", err)
	}
	c.store.Hold(store.HeldStep, id)
	rec, err := c.read(id)
	if err != nil {
		return Chain{}, err
	}
	if len(rec.Outputs) == 0 {
		return Chain{}, fmt.Errorf("cache record %s has no output: %w", id, fs.ErrNotExist)
	}
	return c.join(rec.beneath(0), rec.Outputs[0], nil)
}

// beneath is the part of an output's chain that is in pieces.
func (r *Record) beneath(output int) recordBelow {
	if output < len(r.Below) {
		return r.Below[output]
	}
	return recordBelow{}
}

func (c *Cache) read(id digest.Digest) (*Record, error) {
	f, err := os.Open(c.path(id))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	rec := &Record{}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("cache record %s: %w", id, errors.Join(err, fs.ErrNotExist))
	}
	key := Key{Ingredients: rec.Ingredients}
	if rec.Key != id || key.Digest() != id {
		return nil, fmt.Errorf("cache record %s is damaged: %w", id, fs.ErrNotExist)
	}
	for _, b := range rec.Below {
		if b.ChainID != "" && b.ChainID.Validate() != nil || b.Layers < 0 || b.Layers%pieceLayers != 0 || (b.ChainID == "") != (b.Layers == 0) {
			return nil, fmt.Errorf("cache record %s is damaged: %w", id, fs.ErrNotExist)
		}
	}
	rec.Used = info.ModTime()
	return rec, nil
}

// Put records the chains that are the outputs of the operation called name.
func (c *Cache) Put(key Key, name string, outs []Chain) error {
	c.store.Hold(store.HeldStep, key.Digest())
	rec := Record{Key: key.Digest(), Name: name, Created: time.Now().UTC(), Ingredients: key.Ingredients}
	for _, out := range outs {
		below, top, err := c.split(out)
		if err != nil {
			return fmt.Errorf("write cache record: %w", err)
		}
		rec.Outputs = append(rec.Outputs, top)
		rec.Below = append(rec.Below, below)
	}
	if !slices.ContainsFunc(rec.Below, func(b recordBelow) bool { return b.Layers > 0 }) {
		rec.Below = nil
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write cache record: %w", err)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("write cache record: %w", err)
	}
	if err := c.store.WriteCacheFile(c.path(rec.Key), data); err != nil {
		return fmt.Errorf("write cache record: %w", err)
	}
	return nil
}

// Records lists the cache, least recently used first.
func (c *Cache) Records() ([]*Record, error) {
	recs, _, err := c.list()
	return recs, err
}

// Sweep is Records, and removes what no build can use: damaged records, those of versions of mica that computed keys
// differently, and pieces that no record needs. What a process holds stays.
func (c *Cache) Sweep(w *store.Sweep) ([]*Record, error) {
	recs, unused, err := c.survey()
	if err != nil || len(unused) == 0 {
		return recs, err
	}
	var taken []string
	for path, id := range unused {
		ok, err := w.Take(store.HeldStep, id)
		if err != nil {
			return nil, err
		}
		if ok {
			taken = append(taken, path)
		}
	}
	// A build may have written some of them again before they were taken.
	if recs, unused, err = c.survey(); err != nil {
		return nil, err
	}
	for _, path := range taken {
		if _, ok := unused[path]; ok {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return recs, err
}

// survey returns the valid records, and the files that no build can use, with what they are held by.
func (c *Cache) survey() (recs []*Record, unused map[string]digest.Digest, err error) {
	unused = map[string]digest.Digest{}
	recs, invalid, err := c.list()
	for _, rec := range invalid {
		unused[c.path(rec.Key)] = rec.Key
	}
	if err != nil {
		return nil, nil, err
	}
	return recs, unused, c.addUnusedPieces(recs, unused)
}

// list returns the valid records, least recently used first, and the invalid ones, with their keys alone.
func (c *Cache) list() (recs, invalid []*Record, err error) {
	names, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list build cache: %w", err)
	}
	for _, n := range names {
		key := digest.NewDigestFromEncoded(digest.SHA256, n.Name())
		rec, err := c.read(key)
		if err == nil {
			err = c.resolve(rec)
		}
		switch {
		case err == nil:
			recs = append(recs, rec)
		case errors.Is(err, fs.ErrNotExist):
			invalid = append(invalid, &Record{Key: key})
		}
	}
	slices.SortStableFunc(recs, func(a, b *Record) int { return a.Used.Compare(b.Used) })
	return recs, invalid, nil
}

// resolve reads the pieces of a record.
func (c *Cache) resolve(rec *Record) error {
	rec.below = make([]Chain, len(rec.Outputs))
	for i := range rec.Outputs {
		var err error
		if rec.below[i], err = c.pieces(rec.beneath(i)); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes the record of a key; a missing one is not an error.
func (c *Cache) Remove(key digest.Digest) error {
	if err := os.Remove(c.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cache record: %w", err)
	}
	return nil
}
