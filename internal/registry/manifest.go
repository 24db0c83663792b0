package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/micabuild/mica/internal/oci"
)

// MaxManifest bounds a manifest or config, in bytes: what the distribution specification asks registries to accept.
const MaxManifest = 4 << 20

// manifestTypes are the media types that mica accepts.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, oci.DockerManifestList, ocispec.MediaTypeImageManifest, oci.DockerManifest,
}

// ReadBlob returns a config, verified.
func (r *Repository) ReadBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := oci.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > MaxManifest {
		return nil, fmt.Errorf("config %s has %d bytes, more than the %d that one may have", desc.Digest, desc.Size, MaxManifest)
	}
	if len(desc.Data) > 0 && digest.FromBytes(desc.Data) == desc.Digest {
		return desc.Data, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, manifestTime, errTooSlow)
	defer cancel()
	var raw []byte
	for try := 0; ; try++ {
		body := r.OpenBlob(ctx, desc, 0)
		var err error
		raw, err = io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
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

var errNoDeletion = errors.New("the registry does not allow that manifests are removed (Docker's registry does with REGISTRY_STORAGE_DELETE_ENABLED=true)")

// DeleteManifest removes a manifest with its tags. Many registries allow it only if they are set up so.
func (r *Repository) DeleteManifest(ctx context.Context, d ocispec.Descriptor) error {
	ctx = auth.AppendRepositoryScope(ctx, r.remote.Reference, auth.ActionPull, auth.ActionDelete)
	err := r.remote.Manifests().Delete(ctx, d)
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) && resp.StatusCode == http.StatusMethodNotAllowed {
		return errNoDeletion
	}
	return err
}

func decodeJSON(r io.Reader, into any) error { return json.NewDecoder(r).Decode(into) }
