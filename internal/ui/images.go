package ui

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

// imageRow is an image in the list.
type imageRow struct {
	ID       digest.Digest `json:"id"`
	Names    []string      `json:"names"`
	Digests  []string      `json:"digests"`
	Created  time.Time     `json:"created,omitzero"`
	Size     int64         `json:"size"`
	Layers   int           `json:"layers"`
	Platform string        `json:"platform"`
}

func newImageRow(img *image.Image) imageRow {
	return imageRow{
		ID: img.ID, Names: append([]string{}, img.Names...), Digests: append([]string{}, img.Digests...), Created: img.Created(), Size: img.Size,
		Layers: len(img.Chain()), Platform: shown(platforms.Format(ocispec.Platform{OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant})),
	}
}

// imageList is the answer to a request for the images.
type imageList struct {
	Images  []imageRow `json:"images"`
	Warning string     `json:"warning,omitempty"` // names images that are damaged
}

func (s *Server) listImages(r *http.Request) (any, error) {
	_, images := s.newLayers()
	list, err := images.List(r.Context())
	if err != nil && list == nil {
		return nil, err
	}
	out := imageList{Images: []imageRow{}}
	if err != nil {
		out.Warning = redact.URLs(err.Error())
	}
	for _, img := range list {
		out.Images = append(out.Images, newImageRow(img))
	}
	return out, nil
}

// layerRow is a layer of an image.
type layerRow struct {
	DiffID digest.Digest `json:"diffID"`
	Size   int64         `json:"size"`
	Files  int           `json:"files"`
	origin
}

// historyRow is a line of an image's history.
type historyRow struct {
	Command string    `json:"command"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Layer   int       `json:"layer"` // its index, -1 for a line without one
}

// origin is the step of a build that made a layer.
type origin struct {
	Build string `json:"build,omitempty"`
	Step  string `json:"step,omitempty"`
	Line  int    `json:"line,omitempty"`
}

// imagePage is an image with its layers.
type imagePage struct {
	imageRow
	Manifest   digest.Digest `json:"manifest"`
	Config     configRow     `json:"config"`
	LayerList  []layerRow    `json:"layerList"` // bottom first
	History    []historyRow  `json:"history"`   // oldest first
	Build      string        `json:"build,omitempty"`
	Dockerfile string        `json:"dockerfile,omitempty"` // its text
}

// configRow is what an image says of how it is run.
type configRow struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        []string          `json:"env,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
}

func newConfigRow(c *image.Image) configRow {
	cfg := c.Config.Config
	row := configRow{
		Entrypoint: shownAll(cfg.Entrypoint), Cmd: shownAll(cfg.Cmd), User: shown(cfg.User), WorkingDir: shown(cfg.WorkingDir), StopSignal: shown(cfg.StopSignal),
		Ports: shownAll(slices.Sorted(maps.Keys(cfg.ExposedPorts))), Volumes: shownAll(slices.Sorted(maps.Keys(cfg.Volumes))), Labels: map[string]string{},
	}
	for _, e := range cfg.Env {
		row.Env = append(row.Env, hideSecret(e))
	}
	for k, v := range cfg.Labels {
		row.Labels[shown(k)] = shownValue(k, v)
	}
	return row
}

// find finds the image that a request names.
func find(ctx context.Context, images *image.Images, ref string) (*image.Image, error) {
	if ref == "" {
		return nil, badRequest("name an image")
	}
	return images.FindNamed(ctx, ref, nil)
}

func (s *Server) showImage(r *http.Request) (any, error) {
	layers, images := s.newLayers()
	img, err := find(r.Context(), images, r.URL.Query().Get("image"))
	if err != nil {
		return nil, err
	}
	page := imagePage{imageRow: newImageRow(img), Manifest: img.Target.Digest, Config: newConfigRow(img), LayerList: []layerRow{}, History: []historyRow{}}
	origins, made := s.origins(img)
	if made != nil {
		page.Build, page.Dockerfile = made.Ref, shown(made.Text)
	}
	chain := img.Chain()
	ids := identity.ChainIDs(slices.Clone(chain))
	for i, id := range chain {
		l, err := layers.Get(id)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", img.ShortID(), err)
		}
		page.LayerList = append(page.LayerList, layerRow{DiffID: id, Size: l.Size, Files: l.Count, origin: origins[ids[i]]})
	}
	page.History = historyOf(img)
	return page, nil
}

// historyOf returns the history of an image with the layers that its lines have made.
func historyOf(img *image.Image) []historyRow {
	rows, layer := []historyRow{}, 0
	for _, h := range img.Config.History {
		row := historyRow{Command: shownCommand(h.CreatedBy), Comment: shown(h.Comment), Layer: -1}
		if h.Created != nil {
			row.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(img.Chain()) {
			row.Layer = layer
			layer++
		}
		rows = append(rows, row)
	}
	return rows
}

// origins finds the steps that made the layers of an image, by the ChainIDs of their results, and the build that made the image; nil
// for an image that was not built here, or too long ago.
func (s *Server) origins(img *image.Image) (map[digest.Digest]origin, *history.Build) {
	list, _ := s.builds.List() // without them, nothing is known
	var made *history.Build
	for _, b := range list {
		if b.Image != "" && (b.Image == img.Target.Digest || b.Image == img.Root.Digest) {
			made = b
			break
		}
	}
	steps := map[digest.Digest]origin{}
	add := func(b *history.Build) {
		for _, st := range b.Steps {
			if _, known := steps[st.Output]; st.Output != "" && !known {
				steps[st.Output] = origin{b.Ref, terminal.EscapeString(st.Name), st.Line}
			}
		}
	}
	if made != nil {
		add(made)
	}
	for _, b := range list {
		add(b)
	}
	return steps, made
}
