package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/micabuild/mica/internal/oci"
)

// header is what a repository says of what it has at a path.
type header struct {
	there  bool
	digest digest.Digest // "" where it does not say
}

// head asks for the header of what a repository has at a path. ok is false where the answer to GET has to be asked for:
// some registries know no HEAD, storage that signs URLs for GET refuses it, and no answer to it says why it refuses.
func head(ctx context.Context, repo *remote.Repository, path string, accept ...string) (got header, ok bool, err error) {
	req, err := newRequest(auth.AppendRepositoryScope(ctx, repo.Reference, auth.ActionPull), http.MethodHead, baseURL(repo)+path, nil)
	if err != nil {
		return got, false, err
	}
	for _, t := range accept {
		req.Header.Add("Accept", t)
	}
	resp, err := repo.Client.Do(req)
	if err != nil {
		return got, false, err
	}
	got = header{resp.StatusCode == http.StatusOK, digest.Digest(resp.Header.Get("Docker-Content-Digest"))}
	return got, got.there || resp.StatusCode == http.StatusNotFound, resp.Body.Close()
}

// blobExists reports whether a repository has a blob.
func (c *Client) blobExists(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	got, ok, err := head(ctx, repo, "/blobs/"+d.Digest.String())
	if err != nil {
		return false, err
	}
	if ok {
		return got.there, nil
	}
	r, _, err := c.openSpan(ctx, repo, d, span{0, min(1, d.Size)})
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// manifestExists reports whether a repository has a manifest, or whatever an index may list, under its digest.
func manifestExists(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	got, ok, err := head(ctx, repo, "/manifests/"+d.Digest.String(), append(manifestTypes[:len(manifestTypes):len(manifestTypes)], d.MediaType)...)
	if err != nil {
		return false, err
	}
	if ok {
		return got.there, nil
	}
	_, err = fetchAny(ctx, repo, d)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// namedDigest is the digest that a registry says a reference has, "" where it does not say.
func namedDigest(ctx context.Context, repo *remote.Repository, ref string) digest.Digest {
	got, ok, err := head(ctx, repo, "/manifests/"+ref, manifestTypes...)
	if err != nil || !ok || !got.there {
		return ""
	}
	return got.digest
}

// exists reports whether a repository has what a descriptor names.
func (c *Client) exists(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) (bool, error) {
	if oci.IsManifestOrIndex(d.MediaType) {
		return manifestExists(ctx, repo, d)
	}
	return c.blobExists(ctx, repo, d)
}

// retag gives what a repository has under a digest a tag.
func (c *Client) retag(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, tag string) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	m, err := fetchManifest(ctx, repo, d.Digest.String())
	if err != nil {
		return err
	}
	return putManifest(ctx, repo, m, tag)
}

// putManifest sends a manifest. Where the registry lists no referrers itself, they are listed under a tag (distribution-spec,
// "Referrers Tag Schema"), which only a registry that has the manifest's subject needs: oras sees to it.
func putManifest(ctx context.Context, repo *remote.Repository, m *manifest, ref string) error {
	c, err := m.parse()
	if err != nil {
		return err
	}
	if c.Subject != nil {
		return repo.Manifests().PushReference(ctx, m.desc, bytes.NewReader(m.raw), ref)
	}
	return putOpaque(ctx, repo, m.desc, m.raw, ref)
}

// putOpaque sends what a registry is to keep as a manifest, whatever its type.
func putOpaque(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, raw []byte, ref string) error {
	req, err := newRequest(pushScope(ctx, repo), http.MethodPut, baseURL(repo)+"/manifests/"+ref, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", d.MediaType)
	resp, err := repo.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return responseError(resp)
	}
	if said := digest.Digest(resp.Header.Get("Docker-Content-Digest")); said.Validate() == nil && said.Algorithm() == d.Digest.Algorithm() && said != d.Digest {
		return errors.Join(errChanged, fmt.Errorf("manifest %s was sent, the registry keeps %s", d.Digest, said))
	}
	return nil
}

// putDocument is putManifest of bytes.
func putDocument(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor, raw []byte, ref string) error {
	return putManifest(ctx, repo, &manifest{d, raw}, ref)
}

var errChanged = errors.New("the registry has changed the manifest")
