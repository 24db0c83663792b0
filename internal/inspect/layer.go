package inspect

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/layer/seekable"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/registry"
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
	// list reads the table of contents that the layer's publisher has made; nil if there is none.
	list func(ctx context.Context) (*seekable.Layer, error)
	note func(text string) // or nil

	mu      sync.Mutex
	fetched bool
	listed  *seekable.Layer // until it is fetched
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
	l.fetched, l.listed = true, nil
	return nil
}

// Unverified reports whether what was read of the layer is the table of contents that its publisher has made. That it is right is known
// when the layer is fetched.
func (l *Layer) Unverified() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listed != nil
}

// Listed reports whether the layer has a table of contents where it is, and the store does not have the layer.
func (l *Layer) Listed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list != nil && !l.fetched && !l.Stored()
}

// Coarse reports whether the times of the layer's files are those of a table of contents that has whole seconds.
func (l *Layer) Coarse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listed != nil && l.listed.Coarse
}

// Look fetches what Table needs.
func (l *Layer) Look(ctx context.Context) error {
	if l.host != nil {
		return nil
	}
	_, err := l.look(ctx)
	return err
}

// look reads the layer's table of contents where the layer is, or fetches the layer: then it returns nil.
func (l *Layer) look(ctx context.Context) (*seekable.Layer, error) {
	listed, err := l.tryList(ctx)
	if listed != nil || err != nil {
		return listed, err
	}
	return nil, l.Fetch(ctx)
}

// tryList returns nil if the layer is to be fetched.
func (l *Layer) tryList(ctx context.Context) (*seekable.Layer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fetched || l.host != nil || l.list == nil || l.listed != nil || l.Stored() {
		return l.listed, nil
	}
	listed, err := l.list(ctx)
	if err == nil {
		l.listed = listed
		return listed, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	l.list = nil
	if l.note != nil && !errors.Is(err, registry.ErrNoRanges) {
		l.note(l.named(err).Error() + ": the whole layer is downloaded")
	}
	return nil, nil
}

// named is an error with the name of the layer, once.
func (l *Layer) named(err error) error {
	var known *layer.Error
	if errors.As(err, &known) && known.DiffID == l.DiffID {
		return err
	}
	return &layer.Error{DiffID: l.DiffID, Err: err}
}

// Table returns the files of the layer alone, with whiteouts, in the order of its tar. It fetches the layer, or its table of contents
// (Unverified). The entries are not to be changed. Some may have no digest (toc.Summary.Undigested): a View computes it.
func (l *Layer) Table(ctx context.Context) (*toc.Table, error) {
	if l.host != nil {
		return l.host.table()
	}
	listed, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	if listed != nil {
		return listed.Table()
	}
	return l.layers.TOC(ctx, l.DiffID)
}

// List is Table in a form that takes less memory where there is one.
func (l *Layer) List(ctx context.Context) (toc.List, error) {
	if l.host != nil {
		return l.host.table()
	}
	listed, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	if listed != nil {
		return listed.Records, nil
	}
	return l.layers.Records(ctx, l.DiffID)
}

// AddDigests computes the digests of the layer's files where its table of contents does not have them, before many of them are needed. It
// fetches the layer, or its table of contents.
func (l *Layer) AddDigests(ctx context.Context) error {
	if l.host != nil {
		return nil
	}
	if listed, err := l.look(ctx); listed != nil || err != nil {
		return err
	}
	return l.layers.AddDigests(ctx, l.DiffID)
}

// Size is the size of the layer as Docker counts it, in bytes. It fetches the layer, or its table of contents.
func (l *Layer) Size(ctx context.Context) (int64, error) {
	if l.host != nil {
		t, err := l.host.table()
		if err != nil {
			return 0, err
		}
		return t.Size, nil
	}
	listed, err := l.look(ctx)
	if err != nil {
		return 0, err
	}
	if listed != nil {
		return listed.Records.Size, nil
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
