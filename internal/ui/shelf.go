package ui

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/micabuild/mica/internal/crash"
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
	id     string
	loaded chan struct{} // closed when tree and err are set
	tree   *imageTree
	err    error
}

// get returns the tree of an image; load makes one that is not there. Requests for one tree wait for one load.
func (s *shelf) get(ctx context.Context, id string, load func() (*imageTree, error)) (*imageTree, error) {
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
func (s *shelf) item(id string) (item *shelved, mine bool) {
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

// drop removes an item.
func (s *shelf) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = slices.DeleteFunc(s.items, func(it *shelved) bool { return it.id == id })
}

// tree returns the files of an image. The caller holds what is read.
func (s *Server) tree(ctx context.Context, img *opened) (*imageTree, error) {
	return s.trees.get(ctx, img.key(), func() (*imageTree, error) {
		// The load serves all who ask for the tree: it does not end with the first of them.
		own, err := s.open(s.ended, img.ref)
		if err != nil {
			return nil, err
		}
		defer own.close()
		if err := own.checkSize(s.ended); err != nil {
			return nil, err
		}
		return loadTree(s.ended, own)
	})
}

// namedTree returns the files of the image that a request names.
func (s *Server) namedTree(r *http.Request) (*imageTree, error) {
	img, err := s.openNamed(r)
	if err != nil {
		return nil, err
	}
	defer img.close()
	return s.tree(r.Context(), img)
}
