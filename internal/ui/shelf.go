package ui

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
)

// The bounds of what a server keeps in memory: files of the images that were looked at last, and of one image.
const (
	maxShelf = 3_000_000
	maxImage = 4_000_000
)

// shelf keeps the trees of the images that were looked at last.
type shelf struct {
	mu    sync.Mutex
	items []*shelved // the last used first
}

// shelved is a tree, or one that is being loaded.
type shelved struct {
	id     digest.Digest
	loaded chan struct{} // closed when tree and err are set
	tree   *imageTree
	err    error
}

// get returns the tree of an image; load makes one that is not there. Requests for one tree wait for one load.
func (s *shelf) get(ctx context.Context, id digest.Digest, load func() (*imageTree, error)) (*imageTree, error) {
	item, mine := s.item(id)
	if mine {
		item.err = crash.Guard(func() (err error) { item.tree, err = load(); return err })()
		close(item.loaded)
		s.tidy(item)
	}
	select {
	case <-item.loaded:
		return item.tree, item.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// item finds an item and makes it the first. mine is true for a new one, which the caller loads.
func (s *shelf) item(id digest.Digest) (item *shelved, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, it := range s.items {
		if it.id == id {
			copy(s.items[1:i+1], s.items[:i])
			s.items[0] = it
			return it, false
		}
	}
	item = &shelved{id: id, loaded: make(chan struct{})}
	s.items = append([]*shelved{item}, s.items...)
	return item, true
}

// tidy removes an item that could not be loaded, and the items that were used least recently where there are too many files.
func (s *shelf) tidy(new *shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, total := s.items[:0:0], 0
	for _, it := range s.items {
		select {
		case <-it.loaded:
		default:
			kept = append(kept, it)
			continue
		}
		if it.err != nil {
			continue
		}
		if total += it.tree.count; total <= maxShelf || it == new {
			kept = append(kept, it)
		}
	}
	s.items = kept
}

// tree returns the files of the image that a request names. The caller holds what is read.
func (s *Server) tree(r *http.Request) (*imageTree, error) {
	layers, images := s.newLayers()
	img, err := find(r.Context(), images, r.URL.Query().Get("image"))
	if err != nil {
		return nil, err
	}
	return s.trees.get(r.Context(), img.ID, func() (*imageTree, error) {
		if err := checkSize(layers, img); err != nil {
			return nil, err
		}
		// The load serves all who ask for the tree: it does not end with the first of them.
		return loadTree(s.ended, layers, img)
	})
}

// checkSize fails for an image that has too many files to be kept in memory.
func checkSize(layers *layer.Layers, img *image.Image) error {
	count := 0
	for _, id := range img.Chain() {
		l, err := layers.Get(id)
		if err != nil {
			return err
		}
		count += l.Count
	}
	if count > maxImage {
		return fmt.Errorf("image %s has %d files: this page shows at most %d", img.ShortID(), count, maxImage)
	}
	return nil
}
