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
	"github.com/micabuild/mica/internal/imagediff"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
)

// diffPage is how two images differ, as mica diff --ignore-times says it, with texts as they may be shown.
type diffPage struct {
	A      imageRow     `json:"a"`
	B      imageRow     `json:"b"`
	Same   bool         `json:"same"`
	Config []configDiff `json:"config,omitempty"`
	Layers []layerDiff  `json:"layers,omitempty"` // bottom first; none of a directory
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

// openPair opens the images that a request names a and b. The caller closes them.
func (s *Server) openPair(r *http.Request) (a, b *opened, err error) {
	query := r.URL.Query()
	if a, err = s.openSmall(r.Context(), query.Get("a")); err != nil {
		return nil, nil, err
	}
	if b, err = s.openSmall(r.Context(), query.Get("b")); err != nil {
		a.close()
		return nil, nil, err
	}
	return a, b, nil
}

// openSmall opens an image that has not too many files.
func (s *Server) openSmall(ctx context.Context, name string) (*opened, error) {
	img, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := img.checkSize(ctx); err != nil {
		img.close()
		return nil, err
	}
	return img, nil
}

func (s *Server) diffImages(r *http.Request) (any, error) {
	a, b, err := s.openPair(r)
	if err != nil {
		return nil, err
	}
	defer a.close()
	defer b.close()
	parts := []string{"config", "layers", "files"}
	if a.ID == "" || b.ID == "" {
		parts = parts[2:] // a directory has no more
	}
	report, err := imagediff.Compare(r.Context(), a.Image, b.Image, imagediff.Options{Only: parts, IgnoreTimes: r.URL.Query().Get("times") != "1"})
	if err != nil {
		return nil, err
	}
	var rows [2]imageRow
	for i, img := range []*opened{a, b} {
		if rows[i], err = img.row(r.Context()); err != nil {
			return nil, err
		}
	}
	return newDiffPage(rows, report), nil
}

func newDiffPage(rows [2]imageRow, r *imagediff.Report) *diffPage {
	p := &diffPage{A: rows[0], B: rows[1], Same: r.Same, Notes: r.Notes}
	if r.Config != nil {
		for _, c := range r.Config.Changes {
			p.Config = append(p.Config, configDiff{c.Field, terminal.EscapeString(c.Key), c.Change, configValue(c.Key, c.Old), configValue(c.Key, c.New)})
		}
	}
	if r.Layers != nil {
		for _, l := range r.Layers.Layers {
			p.Layers = append(p.Layers, layerDiff{l.Change, l.DiffID, analyze.Instruction(shownCommand(l.CreatedBy)), l.Size})
		}
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
	a, b, err := s.openPair(r)
	if err != nil {
		return nil, err
	}
	defer a.close()
	defer b.close()
	report, err := imagediff.Compare(r.Context(), a.Image, b.Image, imagediff.Options{Only: []string{"files"}, IgnoreTimes: true, Text: []string{literalPattern(name)}})
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
