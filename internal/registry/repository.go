package registry

import (
	"context"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Repository is a repository of a registry, opened by the name of an image in it. It is safe for concurrent use.
type Repository struct {
	client *Client
	remote *remote.Repository
	name   reference.Named
}

// Repository opens the repository that name is pushed to: at the registry itself, never at a mirror.
func (c *Client) Repository(ctx context.Context, name reference.Named) (*Repository, error) {
	at, err := c.primary(name)
	if err != nil {
		return nil, err
	}
	return c.open(ctx, at)
}

// open opens a repository. name is one that endpoints or primary returned.
func (c *Client) open(ctx context.Context, name reference.Named) (*Repository, error) {
	repo, err := remote.NewRepository(name.Name())
	if err != nil {
		return nil, fmt.Errorf("invalid name %s: %w", name, err)
	}
	of := *c.auth
	of.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
		return c.credential(ctx, host, repo.Reference.Repository)
	}
	repo.Client = &of
	repo.MaxMetadataBytes = MaxManifest
	repo.SkipReferrersGC = true
	repo.TagListMaxPages, repo.ReferrerListMaxPages = maxPages, maxReferrerPages
	repo.ManifestMediaTypes = manifestTypes
	repo.PlainHTTP, err = c.plainHTTP(ctx, repo.Reference.Host())
	return &Repository{client: c, remote: repo, name: name}, err
}

// Try calls do with the repositories that an image can be pulled from, mirrors first, until a call succeeds. While there
// are others to try, none is waited for long. An error of this machine or of the context ends it at once. The error is
// that of the registry itself: a mirror need not have every image.
func (c *Client) Try(ctx context.Context, name reference.Named, do func(context.Context, *Repository) error) error {
	list, err := c.endpoints(name)
	if err != nil {
		return err
	}
	list = c.access.pullable(name, list)
	for i, at := range list {
		err = c.try(endpointContext(ctx, list, i), at, do)
		if err == nil || ctx.Err() != nil || IsLocal(err) {
			return err
		}
	}
	return err
}

func (c *Client) try(ctx context.Context, at reference.Named, do func(context.Context, *Repository) error) error {
	repo, err := c.open(ctx, at)
	if err == nil {
		err = do(ctx, repo)
	}
	return Explain(reference.FamiliarString(at), err)
}

// OpenBlob opens a blob of a repository, "docker.io/library/nginx", at the first of its mirrors that has it, or at the registry itself. It is a
// layer.Fetch.
func (c *Client) OpenBlob(ctx context.Context, name string, d ocispec.Descriptor) (io.ReadCloser, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	list, err := c.endpoints(named)
	if err != nil {
		return nil, err
	}
	repo, err := c.holder(ctx, c.access.pullable(named, list), d)
	if err != nil {
		return nil, err
	}
	return repo.OpenBlob(ctx, d, 0), nil
}

// holder opens the first of endpoints that has a blob, or else the last.
func (c *Client) holder(ctx context.Context, list []reference.Named, d ocispec.Descriptor) (repo *Repository, err error) {
	for i, at := range list {
		if repo, err = c.open(ctx, at); err != nil || i == len(list)-1 {
			continue
		}
		if has, err := repo.HasBlob(endpointContext(ctx, list, i), d); err == nil && has {
			break
		}
	}
	return repo, err
}

// Client returns the client that the repository was opened by.
func (r *Repository) Client() *Client { return r.client }

// Name is the name of the image that the repository was opened by, as the registry or mirror knows it.
func (r *Repository) Name() reference.Named { return r.name }

// Registry is the registry's host, with its port if it has one.
func (r *Repository) Registry() string { return r.remote.Reference.Registry }

// Path is the repository's name at its registry, "library/nginx".
func (r *Repository) Path() string { return r.remote.Reference.Repository }

// Reference is the digest of the repository's name, or else its tag.
func (r *Repository) Reference() string {
	if d, ok := r.name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := reference.TagNameOnly(r.name).(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// url is where the repository's API is.
func (r *Repository) url() string {
	scheme := "https"
	if r.remote.PlainHTTP {
		scheme = "http"
	}
	return scheme + "://" + r.remote.Reference.Host() + "/v2/" + r.remote.Reference.Repository
}

func (r *Repository) pullScope(ctx context.Context) context.Context {
	return auth.AppendRepositoryScope(ctx, r.remote.Reference, auth.ActionPull)
}

func (r *Repository) pushScope(ctx context.Context) context.Context {
	return auth.AppendRepositoryScope(ctx, r.remote.Reference, auth.ActionPull, auth.ActionPush)
}

// Mountable returns the repositories of a list that blobs can be mounted from, as the registry calls them: all that are at
// the same registry, but for this one.
func (r *Repository) Mountable(repositories []string) []string {
	var list []string
	for _, other := range repositories {
		named, err := reference.ParseNormalizedNamed(other)
		if err != nil {
			continue
		}
		at, err := r.client.primary(named)
		if err == nil && reference.Domain(at) == r.Registry() && reference.Path(at) != r.Path() {
			list = append(list, reference.Path(at))
		}
	}
	return list
}

// Digest returns the digest that the registry's header gives for a reference, "" if it gives none.
func (r *Repository) Digest(ctx context.Context, ref string) digest.Digest {
	got, ok, err := r.head(ctx, "/manifests/"+ref, manifestTypes...)
	if err != nil || !ok || !got.exists {
		return ""
	}
	return got.digest
}
