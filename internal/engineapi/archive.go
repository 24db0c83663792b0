package engineapi

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/dockerfile"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/sources"
	"github.com/micabuild/mica/internal/transfer"
)

// saveImages answers docker save of several images.
func (s *Server) saveImages(w http.ResponseWriter, r *http.Request) error {
	names := r.URL.Query()["names"]
	if len(names) == 0 {
		return badRequest("no images to save: give their names")
	}
	return s.save(w, r, names)
}

// saveImage answers docker save of one image.
func (s *Server) saveImage(w http.ResponseWriter, r *http.Request, name string) error {
	return s.save(w, r, []string{name})
}

func (s *Server) save(w http.ResponseWriter, r *http.Request, names []string) error {
	wanted, err := s.savedPlatforms(r)
	if err != nil {
		return err
	}
	return s.withStore(r.Context(), nil, func(o *requestStore) error {
		items, err := o.local().Items(r.Context(), names, wanted)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-tar")
		if err := o.local().Save(r.Context(), w, items); err != nil {
			return err
		}
		for _, it := range items {
			s.imageEvent(events.ActionSave, it.Image.ID.String(), it.Image.ID.String(), nil)
		}
		return nil
	})
}

// savedPlatforms are those of docker save and docker load.
func (s *Server) savedPlatforms(r *http.Request) ([]ocispec.Platform, error) {
	if !since(r, "1.48") {
		return nil, nil
	}
	list, err := platformList(r, "platform")
	if err == nil && len(list) > 1 && !since(r, "1.52") {
		return nil, badRequest("multiple platform parameters are not supported in this API version; use API version 1.52 or later")
	}
	return list, err
}

// loadImages answers docker load. It reads the archive once, as it arrives.
func (s *Server) loadImages(w http.ResponseWriter, r *http.Request) error {
	wanted, err := s.savedPlatforms(r)
	if err != nil {
		return err
	}
	out := newStream(w)
	err = s.withStore(r.Context(), nil, func(o *requestStore) error {
		loaded, err := o.local().Load(r.Context(), r.Body, wanted...)
		for _, l := range loaded {
			s.sayLoaded(out, l)
		}
		return err
	})
	if err != nil {
		s.collect(r.Context()) // the layers that were stored are garbage now
		out.fail(err, 0)       // in the answer, as Docker does
	}
	return nil
}

func (s *Server) sayLoaded(out *stream, l transfer.Loaded) {
	for name, old := range l.Replaced {
		out.send(jsonstream.Message{Stream: fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", name, old)})
	}
	for _, n := range l.Names {
		out.send(jsonstream.Message{Stream: "Loaded image: " + n + "\n"})
		s.imageEvent(events.ActionLoad, l.ID.String(), n, nil)
	}
	if len(l.Names) == 0 {
		out.send(jsonstream.Message{Stream: "Loaded image ID: " + l.ID.String() + "\n"})
		s.imageEvent(events.ActionLoad, l.ID.String(), l.ID.String(), nil)
	}
}

// createImage answers docker pull and docker import.
func (s *Server) createImage(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Get("fromImage") != "" {
		return s.pull(w, r)
	}
	return s.importImage(w, r)
}

func (s *Server) importImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name, err := repoTag(q.Get("repo"), q.Get("tag"))
	if err != nil {
		return err
	}
	what, err := importOptions(r)
	if err != nil {
		return err
	}
	in, err := importSource(r)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out := newStream(w)
	var img *image.Image
	err = s.withStore(r.Context(), nil, func(o *requestStore) error {
		if img, err = o.local().Import(r.Context(), in, what); err != nil || name == nil {
			return err
		}
		return o.images.Tag(r.Context(), img, name.String())
	})
	if err != nil {
		s.collect(r.Context())
		return out.end(err)
	}
	shown := img.ID.String()
	if name != nil {
		shown = reference.FamiliarString(name)
	}
	s.imageEvent(events.ActionImport, img.ID.String(), shown, nil)
	out.status("%s", img.ID)
	return nil
}

// importOptions reads what docker import is given.
func importOptions(r *http.Request) (transfer.ImportOptions, error) {
	q := r.URL.Query()
	what := transfer.ImportOptions{Message: q.Get("message"), Platform: platforms.Normalize(platforms.DefaultSpec()), Created: time.Now()}
	if what.Message == "" {
		what.Message = "Imported from " + redact.URLs(q.Get("fromSrc"))
	}
	p, err := platform(r)
	if err != nil {
		return what, err
	}
	if p != nil {
		what.Platform = *p
	}
	if what.Config, err = dockerfile.Config(r.Context(), q["changes"], what.Platform); err != nil {
		return what, &requestError{http.StatusBadRequest, err}
	}
	return what, nil
}

// importSource opens what docker import is to read: the body, or a URL.
func importSource(r *http.Request) (io.ReadCloser, error) {
	src := r.URL.Query().Get("fromSrc")
	if src == "-" {
		return r.Body, nil
	}
	if !sources.IsWebURL(src) {
		return nil, badRequest("fromSrc is neither a URL nor -: %q", src)
	}
	body, err := sources.Fetch(r.Context(), src)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return body, nil
}
