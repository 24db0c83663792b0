package ui

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect"
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
	Packed   bool          `json:"packed,omitempty"` // the size is that of the compressed layers: the image is not in the store
	Layers   int           `json:"layers"`
	Platform string        `json:"platform"`
}

func newImageRow(img *image.Image) imageRow {
	return imageRow{
		ID: img.ID, Names: append([]string{}, img.Names...), Digests: append([]string{}, img.Digests...), Created: img.Created(), Size: img.Size,
		Layers: len(img.Chain()), Platform: platformOf(img.Config.Platform),
	}
}

// platformOf is the platform of an image, "" for one without a config.
func platformOf(p ocispec.Platform) string {
	if p.OS == "" {
		return ""
	}
	return shown(platforms.Format(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}))
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
	Packed bool          `json:"packed,omitempty"` // the size is that of the compressed layer, which the store does not have
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
	Ref        string        `json:"ref"`  // names the image in requests
	Kind       inspect.Kind  `json:"kind"` // where it is
	Manifest   digest.Digest `json:"manifest,omitempty"`
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

func newConfigRow(c *dockerspec.DockerOCIImage) configRow {
	cfg := c.Config
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

func (s *Server) showImage(r *http.Request) (any, error) {
	img, err := s.openNamed(r)
	if err != nil {
		return nil, err
	}
	defer img.close()
	if img.Kind == inspect.Directory {
		s.trees.drop(img.key()) // its files may have changed
	}
	row, err := img.row(r.Context())
	if err != nil {
		return nil, err
	}
	page := imagePage{
		imageRow: row, Ref: img.ref, Kind: img.Kind, Manifest: img.Target.Digest, Config: newConfigRow(&img.Config), LayerList: []layerRow{}, History: historyOf(img.Image),
	}
	origins, made := s.origins(img.Image)
	if made != nil {
		page.Build, page.Dockerfile = made.Ref, shown(made.Text)
	}
	ids := img.ChainIDs()
	for i, l := range img.Layers {
		row := layerRow{DiffID: l.DiffID}
		if row.Size, row.Packed, err = sizeOf(r.Context(), l); err != nil {
			return nil, err
		}
		if row.Files, err = img.count(l); err != nil {
			return nil, err
		}
		if i < len(ids) {
			row.origin = origins[ids[i]]
		}
		page.LayerList = append(page.LayerList, row)
	}
	return page, nil
}

// historyOf returns the history of an image with the layers that its lines have made.
func historyOf(img *inspect.Image) []historyRow {
	rows := []historyRow{}
	for _, h := range img.History {
		row := historyRow{Command: shownCommand(h.CreatedBy), Comment: shown(h.Comment), Layer: h.Layer}
		if h.Created != nil {
			row.Created = *h.Created
		}
		rows = append(rows, row)
	}
	return rows
}

// origins finds the steps that made the layers of an image, by the ChainIDs of their results, and the build that made the image; nil
// for an image that was not built here, or too long ago.
func (s *Server) origins(img *inspect.Image) (map[digest.Digest]origin, *history.Build) {
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
