package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer/seekable"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/transfer"
)

// openLocation opens an image of a layout or an archive. The archive stays open, for its layers.
func (o *Opener) openLocation(ctx context.Context, l *ocilayout.Location) (*Image, error) {
	temp, err := o.Local.Store.TempDir("inspect")
	if err != nil {
		return nil, err
	}
	src, err := l.Open(ctx, temp.Path)
	if err != nil {
		return nil, errors.Join(err, temp.Remove())
	}
	img, err := o.readLocation(ctx, l, src)
	if err != nil {
		return nil, errors.Join(err, src.Close(), temp.Remove())
	}
	img.release = append(img.release, temp.Remove, src.Close)
	return img, nil
}

func (o *Opener) readLocation(ctx context.Context, l *ocilayout.Location, src *ocilayout.Source) (*Image, error) {
	root, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	target := root
	if oci.IsIndex(root.MediaType) {
		read := func(_ context.Context, d ocispec.Descriptor) ([]byte, error) { return src.Document(d) }
		e, err := oci.Find(ctx, root, read, o.Platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
		target = e.Descriptor
	}
	manifest, err := src.Document(target)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	m, err := oci.ParseManifest(target.Digest, manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	config, err := src.Document(m.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	kind := Archive
	if l.Kind == ocilayout.OCI {
		kind = Layout
	}
	img, err := o.newForeign(kind, root, target, manifest, config, func(l *Layer) {
		l.fetch = func(ctx context.Context) error { return o.Local.ImportLayer(ctx, src, l.Blob, l.DiffID) }
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return img, nil
}

// openPublished opens an image in its registry.
func (o *Opener) openPublished(ctx context.Context, ref string) (*Image, error) {
	name, err := image.ParseName(ref)
	if err != nil {
		return nil, &image.InvalidReferenceError{Ref: ref, Err: err}
	}
	if o.Registry == nil {
		return nil, fmt.Errorf("%s: registries are not looked up", ref)
	}
	p, err := transfer.Inspect(ctx, o.Registry(), name)
	if err != nil {
		return nil, err
	}
	got, err := p.Image(ctx, o.Platform)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	img, err := o.newForeign(Published, p.Root, got.Target, got.Raw, got.RawConfig, func(l *Layer) {
		l.fetch = func(ctx context.Context) error { return p.FetchLayer(ctx, o.Local, l.Blob, l.DiffID, o.Progress) }
		if o.Whole || !seekable.Has(l.Blob) {
			return
		}
		l.note = o.tables.noting(o.Note)
		l.list = o.tables.once(l.Blob, func(ctx context.Context) (*seekable.Layer, error) {
			return seekable.Open(ctx, l.Blob, l.DiffID, func(ctx context.Context, from, to int64) (io.ReadCloser, error) {
				return p.OpenRange(ctx, l.Blob, from, to)
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return img, nil
}
