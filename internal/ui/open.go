package ui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/transfer"
)

// opened is an image that a request looks into, wherever it is.
type opened struct {
	*inspect.Image
	ref    string       // names it in requests
	stored *image.Image // nil for one that is not in the store
	layers *layer.Layers
}

// openNamed opens the image that a request names. The caller closes it.
func (s *Server) openNamed(r *http.Request) (*opened, error) {
	return s.open(r.Context(), r.URL.Query().Get("image"))
}

// open opens an image by what users may write for it (inspect.Opener). The caller closes it.
func (s *Server) open(ctx context.Context, name string) (*opened, error) {
	if name == "" {
		return nil, badRequest("name an image")
	}
	layers, images := s.newLayers()
	img := &opened{ref: name, layers: layers}
	found, err := images.FindNamed(ctx, name, nil)
	var invalid *image.InvalidReferenceError
	switch {
	case err == nil:
		img.stored, img.ref = found, found.ID.String()
	case !image.IsMissing(err) && !errors.As(err, &invalid):
		return nil, err
	}
	o := inspect.Opener{Local: &transfer.Local{Store: s.store, Layers: layers, Images: images}, Registry: s.registry}
	if img.Image, err = o.Open(ctx, img.ref); err != nil {
		return nil, err
	}
	img.Name = name
	if img.Kind == inspect.Published {
		img.ref = pinned(name, img.Target.Digest)
	}
	return img, nil
}

// pinned is the name of an image in a registry that means the same manifest whatever happens to its tag.
func pinned(name string, manifest digest.Digest) string {
	named, err := image.ParseName(strings.TrimPrefix(name, inspect.RegistryPrefix))
	if err != nil {
		return name
	}
	return inspect.RegistryPrefix + reference.TrimNamed(named).Name() + "@" + manifest.String()
}

func (o *opened) close() { _ = o.Close() } // an answer does not depend on it

// row is the image in a list. One that is not in the store has the name that it was opened by.
func (o *opened) row(ctx context.Context) (imageRow, error) {
	if o.stored != nil {
		return newImageRow(o.stored), nil
	}
	row := imageRow{ID: o.ID, Names: []string{shown(o.Name)}, Digests: []string{}, Layers: len(o.Layers), Platform: platformOf(o.Platform())}
	if o.Config.Created != nil {
		row.Created = *o.Config.Created
	}
	for _, l := range o.Layers {
		size, packed, err := sizeOf(ctx, l)
		if err != nil {
			return row, err
		}
		row.Size += size
		row.Packed = row.Packed || packed
	}
	return row, nil
}

// sizeOf is the size of a layer as Docker counts it, or that of its blob, packed, if the store does not have it.
func sizeOf(ctx context.Context, l *inspect.Layer) (size int64, packed bool, err error) {
	if !l.Stored() {
		return l.Blob.Size, true, nil
	}
	size, err = l.Size(ctx)
	return size, false, err
}

// key names the files of the image: two images with equal keys have the same.
func (o *opened) key() string {
	switch {
	case slices.ContainsFunc(o.Layers, (*inspect.Layer).Listed): // what a registry says of an image is not what the store knows of it
		return o.ID.String() + " listed at " + o.ref
	case o.ID != "":
		return o.ID.String()
	case len(o.Layers) == 1 && o.Layers[0].DiffID != "":
		return o.Layers[0].DiffID.String()
	}
	return o.ref
}

// count is how many files a layer has, 0 if the store does not have it.
func (o *opened) count(l *inspect.Layer) (int, error) {
	if l.DiffID == "" || !l.Stored() {
		return 0, nil
	}
	got, err := o.layers.Get(l.DiffID)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", shown(o.Name), err)
	}
	return got.Count, nil
}

// checkSize fails for an image that has too many files to be kept in memory. It fetches tables of contents.
func (o *opened) checkSize(ctx context.Context) error {
	count := 0
	for _, l := range o.Layers {
		n, err := o.count(l)
		if err != nil {
			return err
		}
		if n == 0 {
			t, err := l.Table(ctx)
			if err != nil {
				return err
			}
			n = len(t.Entries)
		}
		if count += n; count > maxImage {
			return fmt.Errorf("%s has more than %d files: this page does not show it", shown(o.Name), maxImage)
		}
	}
	return nil
}
