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
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// manifestTime bounds the time for a manifest or config, tries included.
const manifestTime = 3 * time.Minute

// fetchManifest gets what a tag or digest names. The bytes are verified: with the digest asked for, or with what the
// registry says of the tag, if it says anything.
func fetchManifest(ctx context.Context, repo *remote.Repository, ref string) (*manifest, error) {
	got, err := getManifest(ctx, repo, ref, manifestTypes)
	if err != nil {
		return nil, err
	}
	m := &manifest{ocispec.Descriptor{Digest: digest.FromBytes(got.raw), Size: int64(len(got.raw))}, got.raw}
	return m, m.setType(got.mediaType)
}

// fetchAny gets something of a type that mica does not know from where a registry keeps manifests.
func fetchAny(ctx context.Context, repo *remote.Repository, d ocispec.Descriptor) ([]byte, error) {
	got, err := getManifest(ctx, repo, d.Digest.String(), []string{d.MediaType, "*/*"})
	return got.raw, err
}

// answered is a registry's answer to a request for a manifest.
type answered struct {
	mediaType string
	raw       []byte
}

// getManifest asks until the answer is whole.
func getManifest(ctx context.Context, repo *remote.Repository, ref string, accept []string) (answered, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, manifestTime, errTooSlow)
	defer cancel()
	got, err := readManifest(ctx, repo, ref, accept)
	for try := 1; err != nil && try < maxTries && brokeOff(err) && ctx.Err() == nil; try++ {
		if err := sleep(ctx, backoff(try-1)); err != nil {
			return got, err
		}
		got, err = readManifest(ctx, repo, ref, accept)
	}
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		err = errTooSlow
	}
	return got, err
}

var errTooSlow = errors.New("the registry is too slow: the answer was not whole in time")

// brokenError says that the connection broke in the middle of an answer.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func brokeOff(err error) bool {
	var broken *brokenError
	return errors.As(err, &broken)
}

// readManifest is one try. Registries leave out Content-Length and Docker-Content-Digest (neither is required, and
// compressing proxies take away both), and name wrong types.
func readManifest(ctx context.Context, repo *remote.Repository, ref string, accept []string) (answered, error) {
	of := repo.Reference
	of.Reference = ref
	req, err := newRequest(auth.AppendRepositoryScope(ctx, of, auth.ActionPull), http.MethodGet, baseURL(repo)+"/manifests/"+ref, nil)
	if err != nil {
		return answered{}, err
	}
	req.Header.Set("Accept", strings.Join(accept, ", "))
	resp, err := repo.Client.Do(req)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = &brokenError{err}
		}
		return answered{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return answered{}, fmt.Errorf("manifest %s: %w", ref, errdef.ErrNotFound)
	default:
		return answered{}, responseError(resp)
	}
	if resp.ContentLength > maxManifest {
		return answered{}, fmt.Errorf("its manifest has %d bytes, more than the %d that one may have", resp.ContentLength, maxManifest)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	switch {
	case errors.Is(err, errTooSlow):
		return answered{}, err
	case err != nil:
		return answered{}, &brokenError{fmt.Errorf("read manifest: %w", err)}
	}
	if len(raw) > maxManifest {
		return answered{}, fmt.Errorf("its manifest has more than the %d bytes that one may have", maxManifest)
	}
	return answered{resp.Header.Get("Content-Type"), raw}, checkDigest(raw, ref, resp.Header.Get("Docker-Content-Digest"))
}

// checkDigest compares a manifest with the digest that was asked for, or with what the registry says. What it says of a
// digest that was asked for does not count.
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
