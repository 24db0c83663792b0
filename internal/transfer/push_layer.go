package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/compression"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/oci"
)

// pushedLayer is a layer that is pushed.
type pushedLayer struct {
	p     *pusher
	id    digest.Digest      // "" for a blob that is not a layer of files
	desc  ocispec.Descriptor // in the manifest
	shown digest.Digest
}

// push pushes the layer, unless the registry has it, and returns its descriptor there.
func (l *pushedLayer) push(ctx context.Context) (ocispec.Descriptor, error) {
	defer l.p.lockLayer(l.shown)()
	select {
	case l.p.slots <- struct{}{}:
		defer func() { <-l.p.slots }()
	case <-ctx.Done():
		return l.desc, context.Cause(ctx)
	}
	if at, ok := l.p.o.Elsewhere[l.id]; ok {
		return l.desc, l.known(ctx, l.desc, at.Repositories, func() (io.ReadCloser, error) { return at.Open(ctx) })
	}
	if l.staysAsItIs() {
		return l.desc, l.exact(ctx)
	}
	if l.p.o.Compression == compression.None {
		plain := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.id, Size: l.desc.Size}
		got, err := l.p.local.Layers.Get(l.id)
		if err != nil {
			return plain, err
		}
		plain.Size = got.TarSize
		return plain, l.known(ctx, plain, l.repositories(plain.Digest), func() (io.ReadCloser, error) {
			return l.p.local.Layers.OpenTar(ctx, l.id)
		})
	}
	recipe := compression.Recipe(l.p.o.Compression, l.p.o.Level)
	for _, s := range l.p.local.Layers.KnownBlobs(l.id) {
		if s.Recipe != recipe {
			continue
		}
		there, err := l.there(ctx, s.Blob, s.Repositories)
		if err != nil || there {
			return s.Blob, err
		}
	}
	return l.compress(ctx, recipe)
}

// staysAsItIs reports whether the layer is pushed as it is: it is compressed, and the user does not want another compression.
func (l *pushedLayer) staysAsItIs() bool {
	if l.p.asItIs || l.id == "" || !oci.IsLayer(l.desc.MediaType) {
		return true // not a layer of files, or a foreign layer
	}
	return isCompressed(l.desc.MediaType) && !l.p.o.Force
}

// repositories returns the repositories that are known to have the layer's blob.
func (l *pushedLayer) repositories(d digest.Digest) []string {
	if l.id == "" {
		return nil
	}
	for _, s := range l.p.local.Layers.KnownBlobs(l.id) {
		if s.Blob.Digest == d {
			return s.Repositories
		}
	}
	return nil
}

// exact pushes the blob of the manifest, from the store or else from the repository that it was pulled from.
func (l *pushedLayer) exact(ctx context.Context) error {
	from := l.repositories(l.desc.Digest)
	return l.known(ctx, l.desc, from, func() (io.ReadCloser, error) {
		return l.p.local.Layers.OpenBlob(ctx, l.id, l.desc)
	})
}

// there reports whether the registry has a blob, or mounts it from another of its repositories.
func (l *pushedLayer) there(ctx context.Context, d ocispec.Descriptor, repositories []string) (bool, error) {
	exists, err := l.p.repo.HasBlob(ctx, d)
	if err != nil {
		return false, err
	}
	if exists {
		l.tell(Event{State: Exists})
		return true, l.remember(d, "")
	}
	for _, from := range l.p.repo.Mountable(repositories) {
		if l.p.mount(ctx, d, from) {
			l.tell(Event{State: Mounted, From: from})
			return true, l.remember(d, "")
		}
	}
	return false, nil
}

// known pushes a blob whose digest is known, unless the registry has it.
func (l *pushedLayer) known(ctx context.Context, d ocispec.Descriptor, from []string, open func() (io.ReadCloser, error)) error {
	there, err := l.there(ctx, d, from)
	if err != nil || there {
		return err
	}
	err = l.p.repo.PushBlob(ctx, d, func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{&progressReader{parts: []reader{r}, event: Event{Layer: l.shown, State: Uploading, Total: d.Size}, send: l.p.progress}, r}, nil
	})
	if err != nil {
		return err
	}
	l.tell(Event{State: Done})
	return l.remember(d, "")
}

// compress compresses and pushes the layer's tar.
func (l *pushedLayer) compress(ctx context.Context, recipe string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}
	if l.p.o.Compression == compression.Zstd {
		desc.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	var err error
	desc.Digest, desc.Size, err = l.p.repo.PushStream(ctx, func(w io.Writer) error { return l.write(ctx, w) })
	if err != nil {
		return desc, err
	}
	l.tell(Event{State: Done})
	return desc, l.remember(desc, recipe)
}

// write writes the compressed tar.
func (l *pushedLayer) write(ctx context.Context, w io.Writer) (err error) {
	got, err := l.p.local.Layers.Get(l.id)
	if err != nil {
		return err
	}
	tar, err := l.p.local.Layers.OpenTar(ctx, l.id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	z, err := compression.NewWriter(w, l.p.o.Compression, l.p.o.Level)
	if err != nil {
		return err
	}
	in := &progressReader{parts: []reader{tar}, event: Event{Layer: l.shown, State: Uploading, Total: got.TarSize}, send: l.p.progress}
	_, err = io.CopyBuffer(z, in, make([]byte, 256<<10))
	return errors.Join(err, z.Close())
}

// remember records that the repository has a blob of the layer.
func (l *pushedLayer) remember(d ocispec.Descriptor, recipe string) error {
	if l.id == "" {
		return nil
	}
	return l.p.local.Layers.AddKnownBlob(l.id, layer.KnownBlob{Blob: d, Recipe: recipe, Repositories: []string{l.p.name.Name()}})
}

func (l *pushedLayer) tell(e Event) {
	e.Layer = l.shown
	l.p.progress(e)
}
