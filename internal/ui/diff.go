package ui

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/transfer"
)

// diffPage is how two images differ, as mica diff --ignore-times says it, with texts as they may be shown.
type diffPage struct {
	A      imageRow     `json:"a"`
	B      imageRow     `json:"b"`
	Same   bool         `json:"same"`
	Config []configDiff `json:"config"`
	Layers []layerDiff  `json:"layers"` // bottom first
	Files  filesDiff    `json:"files"`
	Notes  []string     `json:"notes,omitempty"`
}

type configDiff struct {
	Field  string           `json:"field"`
	Key    string           `json:"key,omitempty"`
	Change imagediff.Change `json:"change"`
	Old    string           `json:"old,omitempty"`
	New    string           `json:"new,omitempty"`
}

type layerDiff struct {
	Change  imagediff.Change `json:"change,omitempty"` // "" for a layer of both
	DiffID  digest.Digest    `json:"diffID"`
	Command string           `json:"command"`
	Size    int64            `json:"size"`
}

type filesDiff struct {
	Added   imagediff.FileSum `json:"added"`
	Removed imagediff.FileSum `json:"removed"`
	Changed imagediff.FileSum `json:"changed"`
	Changes []fileDiff        `json:"changes"`
	Total   int               `json:"total"` // of which Changes may be a part
}

type fileDiff struct {
	Path    string             `json:"path"`
	Ref     string             `json:"ref"` // the path as a parameter of a URL
	Change  imagediff.Change   `json:"change"`
	Aspects []imagediff.Aspect `json:"aspects,omitempty"`
	Old     *fileSide          `json:"old,omitempty"`
	New     *fileSide          `json:"new,omitempty"`
}

type fileSide struct {
	Type   string        `json:"type"`
	Mode   string        `json:"mode"`
	UID    int           `json:"uid"`
	GID    int           `json:"gid"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest,omitempty"`
	Target string        `json:"target,omitempty"`
}

// maxDifferences is how many differences of files one answer has.
const maxDifferences = 5000

// compared has two images of the store that a request names.
type compared struct {
	rows   [2]imageRow
	images [2]*inspect.Image
}

func (c *compared) close() {
	for _, img := range c.images {
		if img != nil {
			_ = img.Close() // nothing was fetched
		}
	}
}

// openPair opens the images that a request names a and b. The caller closes them.
func (s *Server) openPair(r *http.Request) (*compared, error) {
	layers, images := s.newLayers()
	opener := inspect.Opener{Local: &transfer.Local{Store: s.store, Layers: layers, Images: images}}
	c := &compared{}
	for i, name := range []string{"a", "b"} {
		if err := c.open(r.Context(), i, r.URL.Query().Get(name), opener, layers, images); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *compared) open(ctx context.Context, i int, name string, opener inspect.Opener, layers *layer.Layers, images *image.Images) error {
	img, err := find(ctx, images, name)
	if err != nil {
		return err
	}
	if err := checkSize(layers, img); err != nil {
		return err
	}
	c.rows[i] = newImageRow(img)
	c.images[i], err = opener.Open(ctx, img.ID.String())
	return err
}

func (s *Server) diffImages(r *http.Request) (any, error) {
	c, err := s.openPair(r)
	if err != nil {
		return nil, err
	}
	defer c.close()
	report, err := imagediff.Compare(r.Context(), c.images[0], c.images[1], imagediff.Options{
		Only: []string{"config", "layers", "files"}, IgnoreTimes: r.URL.Query().Get("times") != "1",
	})
	if err != nil {
		return nil, err
	}
	return newDiffPage(c.rows, report), nil
}

func newDiffPage(rows [2]imageRow, r *imagediff.Report) *diffPage {
	p := &diffPage{A: rows[0], B: rows[1], Same: r.Same, Config: []configDiff{}, Layers: []layerDiff{}, Notes: r.Notes}
	for _, c := range r.Config.Changes {
		p.Config = append(p.Config, configDiff{c.Field, terminal.EscapeString(c.Key), c.Change, configValue(c.Key, c.Old), configValue(c.Key, c.New)})
	}
	for _, l := range r.Layers.Layers {
		p.Layers = append(p.Layers, layerDiff{l.Change, l.DiffID, analyze.Instruction(shownCommand(l.CreatedBy)), l.Size})
	}
	f := r.Files
	p.Files = filesDiff{Added: f.Added, Removed: f.Removed, Changed: f.Changed, Changes: []fileDiff{}, Total: len(f.Changes)}
	for _, c := range f.Changes[:min(len(f.Changes), maxDifferences)] {
		p.Files.Changes = append(p.Files.Changes, fileDiff{
			Path: terminal.EscapeString(c.Path), Ref: url.QueryEscape(rawPath(c)), Change: c.Change, Aspects: c.Aspects, Old: newFileSide(c.Old), New: newFileSide(c.New),
		})
	}
	return p
}

// configValue is a value of a config in words. Those of variables that hold secrets are hidden.
func configValue(key string, raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	if analyze.IsSecretName(key) {
		return hidden
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	return terminal.EscapeString(analyze.MaskText(redact.URLs(text)))
}

func newFileSide(f *imagediff.File) *fileSide {
	if f == nil {
		return nil
	}
	return &fileSide{f.Type, f.Mode, f.UID, f.GID, f.Size, f.Digest, terminal.EscapeString(f.Target)}
}

// textPage is how the text of a file differs, as a unified diff, or why there is none.
type textPage struct {
	Text string `json:"text"`
	None string `json:"none,omitempty"`
}

// diffText compares the contents of one file of two images.
func (s *Server) diffText(r *http.Request) (any, error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return nil, badRequest("name a file")
	}
	c, err := s.openPair(r)
	if err != nil {
		return nil, err
	}
	defer c.close()
	report, err := imagediff.Compare(r.Context(), c.images[0], c.images[1], imagediff.Options{Only: []string{"files"}, IgnoreTimes: true, Text: []string{literalPattern(name)}})
	if err != nil {
		return nil, err
	}
	for _, f := range report.Files.Changes {
		if rawPath(f) == name {
			return textPage{terminal.EscapeString(redact.URLs(f.Text)), f.NoText}, nil
		}
	}
	return textPage{None: "the file is the same in both images"}, nil
}

// literalPattern is the pattern that matches one path alone.
func literalPattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "!", `\!`).Replace(name)
}

// rawPath is the path of a file, of any bytes.
func rawPath(c imagediff.FileChange) string {
	if raw, err := hex.DecodeString(c.RawPath); err == nil && c.RawPath != "" {
		return string(raw)
	}
	return c.Path
}
