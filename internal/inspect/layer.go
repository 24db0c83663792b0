package inspect

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// Layer is a layer of an image. Its methods are safe for concurrent use.
type Layer struct {
	// DiffID is "" for the only layer of a directory.
	DiffID digest.Digest
	// Blob is the layer in the manifest; zero without one.
	Blob ocispec.Descriptor
	// CreatedBy is the line of history of the layer, "" if it has none, and History its number in Image.History, -1 then.
	CreatedBy string
	History   int

	layers *layer.Layers
	host   *hostDirectory
	fetch  func(ctx context.Context) error // nil if the layer is not elsewhere

	mu      sync.Mutex
	fetched bool
}

// Stored reports whether the store has the layer, so that to read it fetches nothing.
func (l *Layer) Stored() bool {
	if l.host != nil {
		return true
	}
	got, err := l.layers.Get(l.DiffID)
	return err == nil && got.Present()
}

// Fetch puts the layer into the store, unless the store has it.
func (l *Layer) Fetch(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fetched || l.host != nil {
		return nil
	}
	if !l.Stored() && l.fetch != nil {
		if err := l.fetch(ctx); err != nil {
			return l.named(err)
		}
	}
	l.fetched = true
	return nil
}

// named is an error with the name of the layer, once.
func (l *Layer) named(err error) error {
	var known *layer.Error
	if errors.As(err, &known) && known.DiffID == l.DiffID {
		return err
	}
	return &layer.Error{DiffID: l.DiffID, Err: err}
}

// Table returns the files of the layer alone, with whiteouts, in the order of its tar. It fetches the layer. The entries are not to be
// changed. Some may have no digest (toc.Summary.Undigested): a View computes it.
func (l *Layer) Table(ctx context.Context) (*toc.Table, error) {
	if l.host != nil {
		return l.host.table()
	}
	if err := l.Fetch(ctx); err != nil {
		return nil, err
	}
	return l.layers.TOC(ctx, l.DiffID)
}

// List is Table in a form that takes less memory where there is one.
func (l *Layer) List(ctx context.Context) (toc.List, error) {
	if l.host != nil {
		return l.host.table()
	}
	if err := l.Fetch(ctx); err != nil {
		return nil, err
	}
	return l.layers.Records(ctx, l.DiffID)
}

// AddDigests computes the digests of the layer's files where its table of contents does not have them, before many of them are needed. It
// fetches the layer.
func (l *Layer) AddDigests(ctx context.Context) error {
	if l.host != nil {
		return nil
	}
	if err := l.Fetch(ctx); err != nil {
		return err
	}
	return l.layers.AddDigests(ctx, l.DiffID)
}

// Size is the size of the layer as Docker counts it, in bytes. It fetches the layer.
func (l *Layer) Size(ctx context.Context) (int64, error) {
	if l.host != nil {
		t, err := l.host.table()
		if err != nil {
			return 0, err
		}
		return t.Size, nil
	}
	if err := l.Fetch(ctx); err != nil {
		return 0, err
	}
	return l.layers.Size(l.DiffID)
}

// View is the filesystem of the layer alone, without whiteouts. It fetches the layer.
func (l *Layer) View(ctx context.Context) (view.View, error) {
	if l.host != nil {
		return l.host.view()
	}
	if err := l.Fetch(ctx); err != nil {
		return nil, err
	}
	return l.layers.View(ctx, []digest.Digest{l.DiffID})
}
