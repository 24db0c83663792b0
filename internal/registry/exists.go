package registry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// header is what the header of a response says of a manifest or blob.
type header struct {
	exists bool
	digest digest.Digest // "" if the registry leaves it out
}

// head requests the header of what a repository has at a path. ok is false if only a GET can tell: some registries do not
// support HEAD, storage that signs URLs for GET refuses it, and no response to it says why it is refused.
func (r *Repository) head(ctx context.Context, path string, accept ...string) (got header, ok bool, err error) {
	req, err := newRequest(r.pullScope(ctx), http.MethodHead, r.url()+path, nil)
	if err != nil {
		return got, false, err
	}
	for _, t := range accept {
		req.Header.Add("Accept", t)
	}
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		return got, false, err
	}
	got = header{resp.StatusCode == http.StatusOK, digest.Digest(resp.Header.Get("Docker-Content-Digest"))}
	return got, got.exists || resp.StatusCode == http.StatusNotFound, resp.Body.Close()
}

// HasBlob reports whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	got, ok, err := r.head(ctx, "/blobs/"+d.Digest.String())
	if err != nil {
		return false, err
	}
	if ok {
		return got.exists, nil
	}
	body, _, err := r.openSpan(ctx, d, span{0, min(1, d.Size)})
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

// HasManifest reports whether the repository has a manifest, or something else that an index may list, under its digest.
func (r *Repository) HasManifest(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := oci.CheckDescriptor(d); err != nil {
		return false, err
	}
	got, ok, err := r.head(ctx, "/manifests/"+d.Digest.String(), append(manifestTypes[:len(manifestTypes):len(manifestTypes)], d.MediaType)...)
	if err != nil {
		return false, err
	}
	if ok {
		return got.exists, nil
	}
	_, err = r.FetchAny(ctx, d)
	if IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Exists reports whether the repository has what a descriptor describes.
func (r *Repository) Exists(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if oci.IsManifestOrIndex(d.MediaType) {
		return r.HasManifest(ctx, d)
	}
	return r.HasBlob(ctx, d)
}

// Tag gives a tag to a manifest or index of the repository.
func (r *Repository) Tag(ctx context.Context, d ocispec.Descriptor, tag string) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return err
	}
	m, err := r.FetchManifest(ctx, d.Digest.String())
	if err != nil {
		return err
	}
	return r.PutManifest(ctx, m, tag)
}

// PutManifest sends a manifest under a tag or its digest. For a registry without the referrers API, oras adds a manifest
// with a subject to the subject's list, which has a tag (distribution-spec, "Referrers Tag Schema").
func (r *Repository) PutManifest(ctx context.Context, m *Manifest, ref string) error {
	c, err := m.Parse()
	if err != nil {
		return err
	}
	if c.Subject != nil {
		return r.remote.Manifests().PushReference(ctx, m.Descriptor, bytes.NewReader(m.Raw), ref)
	}
	return r.PutAny(ctx, m, ref)
}

// PutAny sends content of any type to where registries have manifests.
func (r *Repository) PutAny(ctx context.Context, m *Manifest, ref string) error {
	req, err := newRequest(r.pushScope(ctx), http.MethodPut, r.url()+"/manifests/"+ref, bytes.NewReader(m.Raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", m.Descriptor.MediaType)
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return responseError(resp)
	}
	sent, kept := m.Descriptor.Digest, digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if kept.Validate() == nil && kept.Algorithm() == sent.Algorithm() && kept != sent {
		return fmt.Errorf("the registry changed the manifest: %s was sent, it has %s", sent, kept)
	}
	return nil
}
