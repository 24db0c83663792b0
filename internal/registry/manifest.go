package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/image"
)

// manifestTime bounds the time for a manifest, tries included.
const manifestTime = 3 * time.Minute

// maxManifest bounds a manifest or config, in bytes: what the distribution specification asks registries to accept.
const maxManifest = 4 << 20

// Docker's media types (distribution, "Image Manifest Version 2, Schema 2").
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1      = "application/vnd.docker.distribution.manifest.v1"
)

// manifestTypes are what mica tells a registry that it reads.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, dockerManifestList, ocispec.MediaTypeImageManifest, dockerManifest,
}

// layerTypes are the media types of layers that an image may have.
var layerTypes = map[string]bool{
	ocispec.MediaTypeImageLayer: true, ocispec.MediaTypeImageLayerGzip: true, ocispec.MediaTypeImageLayerZstd: true,
	"application/vnd.docker.image.rootfs.diff.tar":      true,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": true,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": true,
}

// isForeign reports whether a layer is one that registries need not have (image-spec, layer.md, "Non-Distributable Layers").
func isForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.tar")
}

// manifest is a manifest or index as it came.
type manifest struct {
	desc ocispec.Descriptor
	raw  []byte
}

// document is what a manifest or an index may say.
type document struct {
	MediaType string               `json:"mediaType"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Subject   *ocispec.Descriptor  `json:"subject"`
}

// fetchManifest gets what a tag or digest names. The bytes are verified: with the digest asked for, or with what the
// registry says of the tag.
func fetchManifest(ctx context.Context, repo *remote.Repository, ref string) (*manifest, error) {
	desc, raw, err := readManifest(ctx, repo, ref)
	for try := 1; err != nil && try < maxTries && brokeOff(err) && ctx.Err() == nil; try++ {
		if err := sleep(ctx, backoff(try-1)); err != nil {
			return nil, err
		}
		desc, raw, err = readManifest(ctx, repo, ref)
	}
	if err != nil {
		return nil, err
	}
	want := desc.Digest
	if d := digest.Digest(ref); d.Validate() == nil {
		want = d
	}
	if want.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("digest %s: only sha256 is supported", want)
	}
	if got := digest.FromBytes(raw); got != want {
		return nil, fmt.Errorf("digest mismatch: manifest %s was asked for, the registry sent %s", want, got)
	}
	desc.Digest, desc.Size = want, int64(len(raw))
	m := &manifest{desc, raw}
	c, err := m.parse()
	if err != nil {
		return nil, err
	}
	if c.MediaType != "" {
		m.desc.MediaType = c.MediaType
	}
	return m, m.check()
}

// brokenError says that the connection broke in the middle of an answer.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func brokeOff(err error) bool {
	var broken *brokenError
	return errors.As(err, &broken)
}

// readManifest is one try.
func readManifest(ctx context.Context, repo *remote.Repository, ref string) (desc ocispec.Descriptor, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	desc, r, err := repo.Manifests().FetchReference(ctx, ref)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = &brokenError{err}
		}
		return desc, nil, err
	}
	defer func() { _ = r.Close() }()
	if desc.Size > maxManifest {
		return desc, nil, fmt.Errorf("its manifest has %d bytes, more than the %d that one may have", desc.Size, maxManifest)
	}
	raw, err = io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return desc, nil, &brokenError{fmt.Errorf("read manifest: %w", err)}
	}
	if len(raw) > maxManifest {
		return desc, nil, fmt.Errorf("its manifest has more than the %d bytes that one may have", maxManifest)
	}
	return desc, raw, nil
}

// check refuses what is no image.
func (m *manifest) check() error {
	switch t := m.desc.MediaType; {
	case image.IsIndex(t), image.IsManifest(t):
		return nil
	case strings.HasPrefix(t, dockerSchema1):
		return fmt.Errorf("its manifest is of schema 1, which Docker gave up in 2019: push the image again with a newer tool")
	default:
		return fmt.Errorf("its manifest is of the unknown type %q", t)
	}
}

func (m *manifest) parse() (*document, error) {
	var c document
	if err := json.Unmarshal(m.raw, &c); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
	}
	all := append(append([]ocispec.Descriptor{}, c.Layers...), c.Manifests...)
	if c.Subject != nil {
		all = append(all, *c.Subject)
	}
	if c.Config.Digest != "" {
		all = append(all, c.Config)
	}
	for _, d := range all {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
		}
	}
	return &c, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("invalid digest %q", d.Digest)
	}
	if d.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %s: only sha256 is supported", d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has the size %d", d.Digest, d.Size)
	}
	return nil
}

// fetchSmall gets a blob that is kept in memory: a config.
func (c *Client) fetchSmall(ctx context.Context, repo *remote.Repository, desc ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > maxManifest {
		return nil, fmt.Errorf("config %s has %d bytes, more than the %d that one may have", desc.Digest, desc.Size, maxManifest)
	}
	if len(desc.Data) > 0 && digest.FromBytes(desc.Data) == desc.Digest {
		return desc.Data, nil
	}
	var raw []byte
	for try := 0; ; try++ {
		r := c.openBlob(ctx, repo, desc, 0)
		var err error
		raw, err = io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		got := digest.FromBytes(raw)
		if got == desc.Digest {
			return raw, nil
		}
		if try > 0 {
			return nil, fmt.Errorf("digest mismatch: %s was asked for, the registry sent %s", desc.Digest, got)
		}
	}
}

// refOf is what a name asks a repository for: its digest, else its tag.
func refOf(name reference.Named) string {
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := reference.TagNameOnly(name).(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

func decodeJSON(r io.Reader, into any) error { return json.NewDecoder(r).Decode(into) }
