package ocilayout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// Image is an image, or an index of images, of a layout or an archive.
type Image struct {
	// Descriptor is that of the manifest or index. It is zero for an image of docker save without a manifest.
	Descriptor ocispec.Descriptor
	// Names are full names, with a registry and a tag.
	Names []string
	// Config and Layers are the names of files, if the image has no manifest.
	Config string
	Layers []string
}

// Images returns the images and indexes of the location, each once. It leaves out attestations, which the index of their image
// lists.
func (s *Source) Images() ([]Image, error) {
	var images []Image
	for _, e := range s.entries {
		if e.docker == nil && oci.IsAttestation(e.desc) {
			continue
		}
		names, err := e.imageNames()
		if err != nil {
			return nil, err
		}
		if e.docker != nil {
			images = append(images, Image{Names: names, Config: e.docker.Config, Layers: e.docker.Layers})
			continue
		}
		if err := checkDescriptor(e.desc); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(images, func(o Image) bool { return o.Descriptor.Digest == e.desc.Digest })
		if i < 0 {
			i = len(images)
			images = append(images, Image{Descriptor: e.desc})
		}
		for _, n := range names {
			if !slices.Contains(images[i].Names, n) {
				images[i].Names = append(images[i].Names, n)
			}
		}
	}
	if len(images) == 0 {
		return nil, errors.New("index.json lists no image")
	}
	return images, nil
}

// Resolve returns the name of a file without symlinks and hard links of the archive.
func (s *Source) Resolve(name string) (string, error) {
	if a, ok := s.files.(interface{ resolve(string) (string, error) }); ok {
		return a.resolve(name)
	}
	return cleanName(name)
}

// Document returns the verified content of a manifest, config or index. The error wraps errdef.ErrNotFound if it is missing.
func (s *Source) Document(d ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	r, err := openBlob(s.files, BlobName(d.Digest), d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if d.Size > maxJSON {
		return nil, fmt.Errorf("blob %s has %d bytes, the limit for a manifest or config is %d", d.Digest, d.Size, maxJSON)
	}
	return io.ReadAll(r)
}

// ConfigFile returns the content of the config of an image without a manifest. If the name is a digest, the content is verified.
func (s *Source) ConfigFile(name string) ([]byte, error) {
	raw, err := readJSON(s.files, name, new(json.RawMessage))
	if err != nil {
		return nil, err
	}
	want := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(path.Base(name), ".json"))
	if got := digest.FromBytes(raw); want.Validate() == nil && want != got {
		return nil, fmt.Errorf("config %s: digest mismatch: its content is %s", name, got)
	}
	return raw, nil
}

// imageNames returns the full names of an entry: those of manifest.json, and the name that containerd and Docker write to an
// index or else a reference name that is not only a tag.
func (e *entry) imageNames() ([]string, error) {
	var names []string
	for _, n := range []string{e.desc.Annotations[imageNameAnnotation], e.desc.Annotations[ocispec.AnnotationRefName]} {
		if full, ok := annotatedName(n); ok {
			names = append(names, full)
			break
		}
	}
	for _, n := range e.tags {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, fmt.Errorf("manifest.json: invalid name %q: %w", n, err)
		}
		if tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok && !slices.Contains(names, tagged.String()) {
			names = append(names, tagged.String())
		}
	}
	return names, nil
}
