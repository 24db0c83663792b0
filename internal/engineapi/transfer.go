package engineapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/dockerapi"
	"github.com/micabuild/mica/internal/oci"
	"github.com/micabuild/mica/internal/transfer"
)

// pull answers docker pull: of one image, or, without a tag, of all that a repository has.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name, err := remoteName(q.Get("fromImage"), q.Get("tag"))
	if err != nil {
		return err
	}
	if reference.FamiliarName(name) == "scratch" {
		return &requestError{http.StatusForbidden, errors.New("'scratch' is a reserved name")}
	}
	o := transfer.PullOptions{}
	p, err := platform(r)
	if err != nil {
		return err
	}
	if p != nil {
		o.Platforms = []ocispec.Platform{*p}
	}
	out := newStream(w)
	return out.end(s.withStore(r.Context(), registryAuth(r, name), func(st *requestStore) error {
		names := []reference.Named{name}
		if reference.IsNameOnly(name) {
			if names, err = remoteTags(r.Context(), st, name); err != nil {
				return err
			}
		}
		for _, n := range names {
			if err := s.pullOne(r.Context(), st, out, n, o); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (s *Server) pullOne(ctx context.Context, st *requestStore, out *stream, name reference.Named, o transfer.PullOptions) error {
	first := func() {
		m := message{}
		m.ID, m.Status = tagOrDigest(name), "Pulling from "+reference.Path(name)
		out.write(m)
	}
	o.Progress = out.layers(dockerapi.PullWords, first)
	got, err := transfer.Pull(ctx, st.registry, st.local(), name, o)
	if err != nil {
		return err
	}
	out.status("Digest: %s", got.Root.Digest)
	verb := "Image is up to date for"
	if got.Fresh {
		verb = "Downloaded newer image for"
	}
	out.status("Status: %s %s", verb, reference.FamiliarString(name))
	s.imageEvent(events.ActionPull, reference.FamiliarString(name), reference.FamiliarName(name), got.Image.Config.Config.Labels)
	return nil
}

// remoteTags are the names that a registry has in a repository.
func remoteTags(ctx context.Context, st *requestStore, name reference.Named) (names []reference.Named, err error) {
	tags, err := st.registry.Tags(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		tagged, err := reference.WithTag(name, t)
		if err != nil {
			return nil, err
		}
		names = append(names, tagged)
	}
	return names, nil
}

// tagOrDigest is the last part of a name.
func tagOrDigest(name reference.Named) string {
	if d, ok := name.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := name.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// push answers docker push: of one image, or, without a tag, of all that the store has of a repository.
func (s *Server) push(w http.ResponseWriter, r *http.Request, repository string) error {
	name, err := remoteName(repository, r.URL.Query().Get("tag"))
	if err != nil {
		return err
	}
	if _, ok := name.(reference.Digested); ok {
		return badRequest("cannot push a digest reference")
	}
	var o transfer.PushOptions
	if since(r, "1.46") {
		if o.Platform, err = platform(r); err != nil {
			return err
		}
	}
	out := newStream(w)
	return out.end(s.withStore(r.Context(), registryAuth(r, name), func(st *requestStore) error {
		out.status("The push refers to repository [%s]", reference.TrimNamed(name))
		names, err := localTags(r.Context(), st, name)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := s.pushOne(r.Context(), st, out, n, o); err != nil {
				return err
			}
		}
		return nil
	}))
}

// localTags are the names that the images of a repository have in the store.
func localTags(ctx context.Context, st *requestStore, name reference.Named) ([]reference.Named, error) {
	missing := fmt.Errorf("An image does not exist locally with the tag: %s", reference.FamiliarName(name)) //nolint:staticcheck // Docker's words
	if !reference.IsNameOnly(name) {
		if _, err := st.images.Root(ctx, name.String()); err != nil {
			return nil, missing
		}
		return []reference.Named{name}, nil
	}
	tags, err := st.images.RepositoryTags(ctx, name.String())
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, missing
	}
	var names []reference.Named
	for _, t := range tags {
		n, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// pushResult is what programs read of a push.
type pushResult struct {
	Tag    string
	Digest string
	Size   int
}

func (s *Server) pushOne(ctx context.Context, st *requestStore, out *stream, name reference.Named, o transfer.PushOptions) error {
	root, err := st.images.Root(ctx, name.String())
	if err != nil {
		return err
	}
	o.Progress = out.layers(dockerapi.PushWords, func() {})
	got, err := transfer.Push(ctx, st.registry, st.local(), name, root, o)
	if err != nil {
		return err
	}
	if got.Reduced.Digest != "" {
		out.status("Not all of the platforms of %s are in the store: only those that are were pushed", got.Reduced.Digest)
	}
	tag := tagOrDigest(name)
	out.status("%s: digest: %s size: %d", tag, got.Root.Digest, got.Root.Size)
	out.aux(pushResult{tag, got.Root.Digest.String(), int(got.Root.Size)})
	s.imageEvent(events.ActionPush, reference.FamiliarString(name), reference.FamiliarName(name), nil)
	return nil
}

// inspectDistribution answers what a registry has under a name.
func (s *Server) inspectDistribution(w http.ResponseWriter, r *http.Request) error {
	ref, ok := strings.CutSuffix(r.PathValue("rest"), "/json")
	if !ok || ref == "" {
		return pageNotFound
	}
	name, err := remoteName(ref, "")
	if err != nil {
		return err
	}
	name = reference.TagNameOnly(name)
	found, err := transfer.Inspect(r.Context(), s.client(registryAuth(r, name)), name)
	if err != nil {
		return err
	}
	got := apiregistry.DistributionInspect{Descriptor: found.Root, Platforms: []ocispec.Platform{}}
	if !oci.IsIndex(found.Root.MediaType) {
		img, err := found.Image(r.Context(), nil)
		if err != nil {
			return err
		}
		got.Platforms = append(got.Platforms, img.Config.Platform)
		return writeJSON(w, got)
	}
	index, err := oci.ParseIndex(found.Root, found.Raw)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if d.Platform != nil {
			got.Platforms = append(got.Platforms, *d.Platform)
		}
	}
	return writeJSON(w, got)
}
