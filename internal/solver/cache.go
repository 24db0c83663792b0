package solver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

// Cache is the build cache: one small JSON file per operation that ran, named by its key, in the store's cache/records.
// A record that does not parse or does not match its name counts as absent, and is written anew.
type Cache struct {
	store *store.Store
	dir   string
}

// NewCache is the build cache of a store.
func NewCache(s *store.Store) *Cache {
	return &Cache{store: s, dir: s.Path("cache", "records")}
}

// Record is what is kept of an operation that ran.
type Record struct {
	Key         digest.Digest   `json:"key"`
	Name        string          `json:"name"` // as the progress display showed it
	Created     time.Time       `json:"created"`
	Ingredients []Ingredient    `json:"ingredients"`
	Outputs     [][]recordLayer `json:"outputs"` // per output, the chain
	// Used is when the record last served a build: the file's modification time.
	Used time.Time `json:"-"`
}

type recordLayer struct {
	DiffID      digest.Digest `json:"diffID"`
	Created     time.Time     `json:"created,omitzero"`
	Description string        `json:"description,omitempty"`
}

// Layers returns every layer that the record's results are made of.
func (r *Record) Layers() []digest.Digest {
	var ids []digest.Digest
	for _, out := range r.Outputs {
		for _, l := range out {
			ids = append(ids, l.DiffID)
		}
	}
	return ids
}

func (c *Cache) path(key digest.Digest) string { return filepath.Join(c.dir, key.Encoded()) }

// Get returns the results recorded for key; fs.ErrNotExist when there is no sound record.
func (c *Cache) Get(key Key) ([]*Result, error) {
	id := key.Digest()
	rec, err := c.read(id)
	if err != nil {
		return nil, err
	}
	outs := make([]*Result, len(rec.Outputs))
	for i, chain := range rec.Outputs {
		outs[i] = &Result{}
		for _, l := range chain {
			outs[i].Chain = append(outs[i].Chain, ChainLink(l))
		}
	}
	// The time of use orders what a prune removes first; losing one costs nothing.
	now := time.Now()
	_ = os.Chtimes(c.path(id), now, now)
	return outs, nil
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
	rec.Used = info.ModTime()
	return rec, nil
}

// Put records the results of the operation called name.
func (c *Cache) Put(key Key, name string, outs []*Result) error {
	rec := Record{Key: key.Digest(), Name: name, Created: time.Now().UTC(), Ingredients: key.Ingredients}
	for _, out := range outs {
		chain := make([]recordLayer, len(out.Chain))
		for i, l := range out.Chain {
			chain[i] = recordLayer(l)
		}
		rec.Outputs = append(rec.Outputs, chain)
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

// Sweep is Records, and removes what no build will meet: damaged records, and those of a mica that made keys otherwise. The
// caller holds store.Sweep.
func (c *Cache) Sweep() ([]*Record, error) {
	recs, unsound, err := c.list()
	for _, rec := range unsound {
		err = errors.Join(err, c.Remove(rec))
	}
	return recs, err
}

// list gives the sound records, least recently used first, and the keys of the others.
func (c *Cache) list() (recs, unsound []*Record, err error) {
	names, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list build cache: %w", err)
	}
	for _, n := range names {
		key := digest.NewDigestFromEncoded(digest.SHA256, n.Name())
		rec, err := c.read(key)
		switch {
		case err == nil:
			recs = append(recs, rec)
		case errors.Is(err, fs.ErrNotExist):
			unsound = append(unsound, &Record{Key: key})
		}
	}
	slices.SortStableFunc(recs, func(a, b *Record) int { return a.Used.Compare(b.Used) })
	return recs, unsound, nil
}

// Remove forgets a record.
func (c *Cache) Remove(r *Record) error {
	if err := os.Remove(c.path(r.Key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cache record: %w", err)
	}
	return nil
}
