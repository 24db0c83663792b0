package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/micabuild/mica/internal/oci"
)

// maxManifest bounds a manifest or config, in bytes: what the distribution specification asks registries to accept.
const maxManifest = 4 << 20

// manifestTypes are what mica tells a registry that it reads.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, oci.DockerManifestList, ocispec.MediaTypeImageManifest, oci.DockerManifest,
}

// isUsable reports whether mica can ask for what a descriptor names.
func isUsable(d ocispec.Descriptor) bool { return oci.CheckDescriptor(d) == nil }

// fetchSmall gets a blob that is kept in memory: a config.
func (c *Client) fetchSmall(ctx context.Context, repo *remote.Repository, desc ocispec.Descriptor) ([]byte, error) {
	if err := oci.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > maxManifest {
		return nil, fmt.Errorf("config %s has %d bytes, more than the %d that one may have", desc.Digest, desc.Size, maxManifest)
	}
	if len(desc.Data) > 0 && digest.FromBytes(desc.Data) == desc.Digest {
		return desc.Data, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, manifestTime, errTooSlow)
	defer cancel()
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
