package ui

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/micabuild/mica/internal/terminal"
)

// block is a rectangle of a treemap: a directory or a file, or the small ones of a directory together.
type block struct {
	Name  string   `json:"name"`
	Path  string   `json:"path,omitempty"` // a parameter of a URL, as in fileRow; "" for several files together
	Size  int64    `json:"size"`
	Files int      `json:"files"`
	Layer int      `json:"layer"` // that has most of it
	Dir   bool     `json:"dir,omitempty"`
	Kids  []*block `json:"kids,omitempty"`
}

// The detail of a treemap: how deep it goes, how small a rectangle may be, as a part of the whole, and how many a directory has.
const (
	mapDepth   = 3
	mapPart    = 600
	mapPerNode = 40
)

// sizes answers with a treemap of a directory, or, with by=layer, of all layers.
func (s *Server) sizes(r *http.Request) (any, error) {
	t, dir, err := s.selected(r)
	if err != nil {
		return nil, err
	}
	if r.URL.Query().Get("by") != "layer" {
		m := mapper{least: dir.size / mapPart, layers: len(t.layers)}
		return m.block(dir, mapDepth), nil
	}
	all := &block{Name: "layers", Dir: true}
	for i := range t.layers {
		all.Size += t.layer(i).size
		all.Files += t.layer(i).count
	}
	m := mapper{least: all.Size / mapPart, layers: len(t.layers)}
	for i := range t.layers {
		b := m.block(t.layer(i), mapDepth-1)
		b.Name, b.Layer = fmt.Sprint(i+1), i
		all.Kids = append(all.Kids, b)
	}
	return all, nil
}

// mapper makes the blocks of a treemap.
type mapper struct {
	least  int64 // the smallest block, in bytes
	layers int
}

// block makes a block of a file.
func (m *mapper) block(f *file, depth int) *block {
	b := &block{
		Name: terminal.EscapeString(f.name), Path: url.QueryEscape(f.entry.Path), Size: f.size, Files: f.count, Layer: m.mainLayer(f), Dir: f.entry.IsDir(),
	}
	if depth == 0 {
		return b
	}
	kids := order(f.kids, "size")
	for i, kid := range kids {
		if i == mapPerNode || kid.size < m.least || kid.size == 0 {
			b.Kids = append(b.Kids, rest(kids[i:], b.Layer)...)
			break
		}
		b.Kids = append(b.Kids, m.block(kid, depth-1))
	}
	return b
}

// mainLayer is the layer that has most of a file or a directory.
func (m *mapper) mainLayer(f *file) int {
	by := make([]int64, m.layers+1)
	var add func(f *file)
	add = func(f *file) {
		if len(f.kids) == 0 {
			by[f.layer] += f.size
		}
		for _, kid := range f.kids {
			add(kid)
		}
	}
	add(f)
	return slices.Index(by, slices.Max(by))
}

// rest is what is too small for a block of its own.
func rest(kids []*file, layer int) []*block {
	b := &block{Layer: layer}
	for _, k := range kids {
		b.Size += k.size
		b.Files += k.count
	}
	if b.Size == 0 {
		return nil
	}
	b.Name = fmt.Sprintf("%d more", len(kids))
	return []*block{b}
}
