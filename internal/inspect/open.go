package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/ocilayout"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/transfer"
)

// Opener opens images.
type Opener struct {
	Local *transfer.Local
	// Registry is called for the first name that is looked up in a registry. If it is nil, none is.
	Registry func() *registry.Client
	// Platform selects an image of an index; nil for this host's.
	Platform *ocispec.Platform
	// Progress receives the events of layers that are fetched from registries. It may be nil.
	Progress transfer.Progress
	// Whole has layers fetched as a whole that have a table of contents in the registry: only then it is certain what they have.
	Whole bool
	// Note receives what the user may want to know of a layer. It may be nil.
	Note func(text string)

	tables *tables // read so far
}

// The prefixes of names beside those of package ocilayout.
const (
	directoryPrefix = "dir:"
	// RegistryPrefix is that of an image in its registry.
	RegistryPrefix = "docker://"
)

// Open opens what a name means. The forms of a name, in this order:
//
//   - oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME[:TAG]]: a layout or an archive;
//   - dir:DIR: the files of a directory;
//   - docker://NAME: an image in its registry, even if the store has one of that name;
//   - a path that begins with /, ./ or ../: an archive, a layout, or the files of a directory;
//   - an image of the store: its name, ID, or the beginning of that;
//   - a build of `mica builds`: its ref, the beginning of that, or ^N; with :STEP, the result of one of its steps;
//   - the DiffID of a layer of the store, or the digest of its blob;
//   - any other path that exists;
//   - an image in its registry.
//
// The caller closes the image. Open is not safe for concurrent use.
func (o *Opener) Open(ctx context.Context, name string) (*Image, error) {
	if o.tables == nil {
		o.tables = &tables{}
	}
	use, err := o.Local.Store.Use(ctx)
	if err != nil {
		return nil, err
	}
	img, err := o.open(ctx, name)
	if err != nil {
		return nil, errors.Join(err, use.End())
	}
	img.Name, img.layers = name, o.Local.Layers
	img.release = append([]func() error{use.End}, img.release...)
	return img, nil
}

func (o *Opener) open(ctx context.Context, name string) (*Image, error) {
	if l, ok, err := ocilayout.Parse(name); ok {
		if err != nil {
			return nil, err
		}
		return o.openLocation(ctx, l)
	}
	if dir, ok := strings.CutPrefix(name, directoryPrefix); ok && !o.isTag(ctx, name) {
		return o.openDirectory(dir)
	}
	if ref, ok := strings.CutPrefix(name, RegistryPrefix); ok {
		return o.openPublished(ctx, ref)
	}
	if isPath(name) {
		return o.openPath(ctx, name)
	}
	img, err := o.Local.Images.FindFor(ctx, name, o.Platform)
	if err == nil {
		return o.newStored(img, Stored)
	}
	var invalid *image.InvalidReferenceError
	if !image.IsMissing(err) && !errors.As(err, &invalid) {
		return nil, err
	}
	return o.openOther(ctx, name, err)
}

// openOther opens what is not an image of the store. missing is the error that says so.
func (o *Opener) openOther(ctx context.Context, name string, missing error) (*Image, error) {
	if img, err := o.openRecorded(ctx, name); img != nil || err != nil {
		return img, err
	}
	if img := o.openLayer(name); img != nil {
		return img, nil
	}
	if _, err := os.Stat(name); err == nil && name != "" {
		return o.openPath(ctx, name)
	}
	if _, err := image.ParseName(name); err != nil || o.Registry == nil {
		return nil, missing
	}
	img, err := o.openPublished(ctx, name)
	var other *image.PlatformError
	if err != nil && errors.As(missing, &other) {
		return nil, fmt.Errorf("%w; %w", missing, err) // the store has the image
	}
	return img, err
}

// isTag reports whether the store has an image of a name that has a prefix, such as "dir:latest".
func (o *Opener) isTag(ctx context.Context, name string) bool {
	_, err := o.Local.Images.FindFor(ctx, name, o.Platform)
	return err == nil
}

// isPath reports whether a name is that of a file, and cannot be that of an image.
func isPath(name string) bool {
	return name == "." || name == ".." || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")
}

// openPath opens a directory or an archive.
func (o *Opener) openPath(ctx context.Context, name string) (*Image, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is neither a file nor a directory", name)
		}
		// Archives of docker save may be layouts, too: this kind reads both.
		return o.openLocation(ctx, &ocilayout.Location{Kind: ocilayout.DockerArchive, Path: name, Text: name})
	}
	if _, err := os.Stat(filepath.Join(name, ocispec.ImageLayoutFile)); err == nil {
		return o.openLocation(ctx, &ocilayout.Location{Kind: ocilayout.OCI, Path: name, Text: name})
	}
	return o.openDirectory(name)
}

func (o *Opener) openDirectory(dir string) (*Image, error) {
	if dir == "" {
		return nil, fmt.Errorf("%q has no path: write dir:PATH", directoryPrefix)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	digests, err := digestcache.Open(o.Local.Store.Path("cache", "digests"))
	if err != nil {
		return nil, err
	}
	host := newHostDirectory(dir, digests)
	close := func() error { return errors.Join(digests.Save(context.Background()), digests.Close()) }
	return &Image{Kind: Directory, host: host, Layers: []*Layer{{History: -1, host: host}}, release: []func() error{close}}, nil
}

// newStored is an image of the store.
func (o *Opener) newStored(img *image.Image, kind Kind) (*Image, error) {
	raw, err := o.Local.Store.ReadBlob(img.Target.Digest)
	if err != nil {
		return nil, err
	}
	out := &Image{
		Kind: kind, ID: img.ID, Root: img.Root, Target: img.Target, Manifest: img.Manifest, RawManifest: raw, Config: img.Config, RawConfig: img.RawConfig,
	}
	if out.Root.Digest == "" {
		out.Root = out.Target
	}
	out.setLayers(o, img.Chain(), nil)
	return out, nil
}

// setLayers sets the layers of a manifest and its history. from is where layers are that the store does not have; nil for nowhere.
func (i *Image) setLayers(o *Opener, ids []digest.Digest, from source) {
	for n, id := range ids {
		l := &Layer{DiffID: id, History: -1, layers: o.Local.Layers}
		if n < len(i.Manifest.Layers) {
			l.Blob = i.Manifest.Layers[n]
		}
		if from != nil {
			from(l)
		}
		i.Layers = append(i.Layers, l)
	}
	i.setHistory()
}

// source sets how a layer is fetched that the store does not have.
type source func(l *Layer)

// newForeign is an image whose manifest and config come from elsewhere.
func (o *Opener) newForeign(kind Kind, root, target ocispec.Descriptor, rawManifest, rawConfig []byte,
	from source,
) (*Image, error) {
	m, err := oci.ParseManifest(target.Digest, rawManifest)
	if err != nil {
		return nil, err
	}
	if !oci.IsImageConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("manifest %s is a %s, not an image", target.Digest, m.Config.MediaType)
	}
	ids, err := oci.DiffIDs(rawConfig)
	if err != nil {
		return nil, err
	}
	if err := oci.CheckLayers(target.Digest, m.Layers, ids); err != nil {
		return nil, err
	}
	img := &Image{Kind: kind, ID: m.Config.Digest, Root: root, Target: target, Manifest: *m, RawManifest: rawManifest, RawConfig: rawConfig}
	if err := json.Unmarshal(rawConfig, &img.Config); err != nil {
		return nil, fmt.Errorf("image config %s: %w", m.Config.Digest, err)
	}
	img.setLayers(o, ids, from)
	return img, nil
}

// openLayer opens a layer of the store by its DiffID or the digest of its blob; nil if there is none.
func (o *Opener) openLayer(name string) *Image {
	id := digest.Digest(name)
	if !strings.Contains(name, ":") {
		id = digest.NewDigestFromEncoded(digest.SHA256, name)
	}
	if oci.CheckDigest(id) != nil {
		return nil
	}
	got, err := o.Local.Layers.Get(id)
	if err != nil || !got.Present() {
		if id = o.layerOfBlob(id); id == "" {
			return nil
		}
	}
	return &Image{Kind: OneLayer, Layers: []*Layer{{DiffID: id, History: -1, layers: o.Local.Layers}}}
}

// layerOfBlob finds the layer that has a blob, "" if none has.
func (o *Opener) layerOfBlob(blob digest.Digest) digest.Digest {
	all, _ := o.Local.Layers.All()
	for _, id := range all {
		blobs, _ := o.Local.Layers.Blobs(id)
		for _, d := range blobs {
			if d.Digest == blob {
				return id
			}
		}
	}
	return ""
}
