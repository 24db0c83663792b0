package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// manifestTime bounds the time for a manifest or config, tries included.
const manifestTime = 3 * time.Minute

// FetchManifest returns the manifest or index that has a tag or digest. It is verified: by the digest in ref, or by the one
// that the registry's header gives for a tag, if any.
func (r *Repository) FetchManifest(ctx context.Context, ref string) (*Manifest, error) {
	got, err := r.getManifest(ctx, ref, manifestTypes)
	if err != nil {
		return nil, err
	}
	m := &Manifest{ocispec.Descriptor{Digest: digest.FromBytes(got.raw), Size: int64(len(got.raw))}, got.raw}
	return m, m.setType(got.mediaType)
}

// FetchAny returns content of any type from where registries have manifests.
func (r *Repository) FetchAny(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	got, err := r.getManifest(ctx, d.Digest.String(), []string{d.MediaType, "*/*"})
	return got.raw, err
}

// manifestResponse is a registry's response to a request for a manifest.
type manifestResponse struct {
	mediaType string
	raw       []byte
}

// getManifest repeats the request until a response is complete.
func (r *Repository) getManifest(ctx context.Context, ref string, accept []string) (manifestResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, manifestTime, errTooSlow)
	defer cancel()
	got, err := r.readManifest(ctx, ref, accept)
	for try := 1; err != nil && try < maxTries && brokeOff(err) && ctx.Err() == nil; try++ {
		if err := sleep(ctx, r.client.backoff.wait(try-1)); err != nil {
			return got, err
		}
		got, err = r.readManifest(ctx, ref, accept)
	}
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		err = errTooSlow
	}
	return got, err
}

var errTooSlow = errors.New("the registry is too slow: the response was not complete in time")

// brokenError is the error of a connection that broke in the middle of a response.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func brokeOff(err error) bool {
	var broken *brokenError
	return errors.As(err, &broken)
}

// readManifest is one try. Registries leave out Content-Length and Docker-Content-Digest (neither is required, and
// compressing proxies take away both), and name wrong types.
func (r *Repository) readManifest(ctx context.Context, ref string, accept []string) (manifestResponse, error) {
	req, err := newRequest(r.pullScope(ctx), http.MethodGet, r.url()+"/manifests/"+ref, nil)
	if err != nil {
		return manifestResponse{}, err
	}
	req.Header.Set("Accept", strings.Join(accept, ", "))
	resp, err := r.remote.Client.Do(req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = &brokenError{err}
		}
		return manifestResponse{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return manifestResponse{}, fmt.Errorf("manifest %s: %w", ref, errdef.ErrNotFound)
	default:
		return manifestResponse{}, responseError(resp)
	}
	if resp.ContentLength > MaxManifest {
		return manifestResponse{}, fmt.Errorf("its manifest has %d bytes, more than the %d that one may have", resp.ContentLength, MaxManifest)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	switch {
	case errors.Is(err, errTooSlow):
		return manifestResponse{}, err
	case err != nil:
		return manifestResponse{}, &brokenError{fmt.Errorf("read manifest: %w", err)}
	}
	if len(raw) > MaxManifest {
		return manifestResponse{}, fmt.Errorf("its manifest has more than the %d bytes that one may have", MaxManifest)
	}
	return manifestResponse{resp.Header.Get("Content-Type"), raw}, checkDigest(raw, ref, resp.Header.Get("Docker-Content-Digest"))
}

// checkDigest compares a manifest with the digest that was requested, or else with the one in the registry's header.
func checkDigest(raw []byte, ref, header string) error {
	want, asked := digest.Digest(ref), true
	if want.Validate() != nil {
		want, asked = digest.Digest(header), false
	}
	switch err := want.Validate(); {
	case want == "" || errors.Is(err, digest.ErrDigestUnsupported) && !asked:
		return nil
	case err != nil:
		return fmt.Errorf("the registry names the invalid digest %.100q for it", header)
	case asked && want.Algorithm() != digest.SHA256:
		return fmt.Errorf("digest %s: only sha256 is supported", want)
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return fmt.Errorf("digest mismatch: manifest %s was asked for, the registry sent %s", want, got)
	}
	return nil
}
