package catalog

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/store"
)

const (
	// maxKept is how many catalogues a store keeps: those that were used last.
	maxKept = 200
	// maxCatalog limits a catalogue in a store, in bytes.
	maxCatalog = 256 << 20
)

// cacheKey names the catalogue of a chain.
func cacheKey(chain []digest.Digest) string {
	var text strings.Builder
	text.WriteString(protocolVersion)
	for _, id := range chain {
		text.WriteString("\n" + id.String())
	}
	return digest.FromString(text.String()).Encoded()
}

func directory(s *store.Store) string { return s.Path("cache", "packages") }

func (c *Cataloguer) path(key string) string { return c.Store.Path("cache", "packages", key) }

// load returns a catalogue that the store has, nil if it has none that is whole.
func (c *Cataloguer) load(key string) *Catalog {
	f, err := os.Open(c.path(key))
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f) // its checksum covers the content
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(z, maxCatalog))
	if err != nil {
		return nil
	}
	found := &Catalog{}
	if json.Unmarshal(data, found) != nil {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(c.path(key), now, now) // the times say which were used last
	return found
}

// save keeps a catalogue. What cannot be kept is made again the next time.
func (c *Cataloguer) save(key string, made *Catalog) {
	data, err := json.Marshal(made)
	if err != nil || len(data) > maxCatalog {
		return
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err = z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		return
	}
	if os.MkdirAll(directory(c.Store), 0o700) == nil && c.Store.WriteCacheFile(c.path(key), out.Bytes()) == nil {
		_, _ = prune(c.Store, maxKept)
	}
}

// RemoveAll removes the catalogues that a store keeps. It returns the disk space that became free, in bytes.
func RemoveAll(s *store.Store) (freed int64, err error) { return prune(s, 0) }

// prune removes all catalogues but those that were used last.
func prune(s *store.Store, keep int) (freed int64, err error) {
	entries, err := os.ReadDir(directory(s))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) <= keep {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if st, err := e.Info(); err == nil { // else another process has removed it
			files = append(files, st)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, st := range files[min(keep, len(files)):] {
		err := os.Remove(s.Path("cache", "packages", st.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return freed, err
		}
		freed += st.Size()
	}
	return freed, nil
}
