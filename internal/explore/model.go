// Package explore shows images in a terminal: their layers, files, changes and waste, and the builds that made them.
//
// A Model holds what is shown and is changed by keys; it draws itself on any Surface. Run connects it to a terminal.
package explore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/view"
)

// Image is an image to show.
type Image struct {
	Name   string
	ID     string  // of the config; "" if it has none
	Layers []Layer // bottom first
	// Load returns the files of all layers, and Analyze what they waste. Both may take a while.
	Load    func(ctx context.Context) (*filetree.Tree, error)
	Analyze func(ctx context.Context, tree *filetree.Tree) (*analyze.Report, error)
	// Open opens a regular file of the image as it is with the layers up to the one with the number layer.
	Open func(ctx context.Context, layer int, path string) (io.ReadCloser, error)
	// Build is the build that made the image, nil if it is not remembered.
	Build *history.Build
}

// Layer is a layer of an image.
type Layer struct {
	DiffID  string
	Command string // the instruction that made it
	Size    int64  // in bytes
	// Compressed: the layer is elsewhere, and Size is that of its blob.
	Compressed bool
}

// loaded has the files of the images.
type loaded struct {
	trees []*filetree.Tree
	files *forest
	err   error
}

// analyzed has what the last image wastes.
type analyzed struct {
	report *analyze.Report
	err    error
}

// pane is a part of the screen that keys go to.
type pane int

const (
	layersPane pane = iota
	filesPane
)

// Model is what is shown. It is not safe for concurrent use.
type Model struct {
	images []*Image
	report *analyze.Report // of the last image, nil while it is made
	err    error           // of loading
	// later runs work that takes a while, and passes its result to Update.
	later func(work func(ctx context.Context) any)

	files      *forest // nil while it is loaded
	rows       []row
	opened     map[int]bool
	allOpen    bool
	cursor     list // in rows
	hidden     uint8
	bySize     bool
	attributes bool
	wrapped    bool // long names take several lines
	filterText string
	search     *regexp.Regexp

	stack      list // of layers
	aggregated bool
	focus      pane

	overlay overlay // covers the screen, or nil
	prompt  *prompt // asks for a line, or nil
	message string
	quit    bool
	height  int // of the list of files, as it was drawn
}

// overlay is something that covers the panes.
type overlay interface {
	draw(s Surface, m *Model, r rect)
	// key handles a key; it returns false for one that closes the overlay.
	key(m *Model, k Key) bool
	title() string
}

// New returns the model of one image, or of two that are compared. later runs a function in the background and passes its result
// to Model.Update.
func New(later func(work func(ctx context.Context) any), images ...*Image) *Model {
	m := &Model{images: images, later: later, opened: map[int]bool{}, attributes: true, focus: layersPane, height: 20}
	if m.compares() {
		m.focus, m.hidden = filesPane, 1<<filetree.Unmodified
	}
	later(m.load)
	return m
}

// compares reports whether two images are compared.
func (m *Model) compares() bool { return len(m.images) == 2 }

func (m *Model) load(ctx context.Context) any {
	var l loaded
	for _, img := range m.images {
		tree, err := img.Load(ctx)
		if err != nil {
			return loaded{err: fmt.Errorf("%s: %w", img.Name, err)}
		}
		l.trees = append(l.trees, tree)
	}
	l.files = newForest(l.trees...)
	return l
}

// Update takes the result of work in the background.
func (m *Model) Update(result any) {
	switch r := result.(type) {
	case loaded:
		if m.err = r.err; m.err != nil {
			return
		}
		m.files = r.files
		for i, img := range m.images {
			for l := range min(len(img.Layers), r.trees[i].Layers) { // those that were elsewhere are known now
				if shown := &img.Layers[l]; shown.Compressed {
					shown.Size, shown.Compressed = r.trees[i].LayerSize(l), false
				}
			}
		}
		m.selectLayers()
		last := len(m.images) - 1
		m.later(func(ctx context.Context) any {
			report, err := m.images[last].Analyze(ctx, r.trees[last])
			return analyzed{report, err}
		})
	case analyzed:
		if m.report = r.report; r.err != nil {
			m.message = "analyze: " + r.err.Error()
		}
	case content:
		m.show(r)
	case extracted:
		m.message = r.message()
	}
}

// Done reports whether the user has ended the program.
func (m *Model) Done() bool { return m.quit }

// selectLayers computes what the selected layers change.
func (m *Model) selectLayers() {
	if m.files == nil {
		return
	}
	if m.compares() {
		m.files.images([2]int{len(m.images[0].Layers), len(m.images[1].Layers)}, m.shared())
	} else {
		from, to := m.selected()
		m.files.layers(from, to)
	}
	m.applyFilter()
}

// shared is how many of the lowest layers two images have in common.
func (m *Model) shared() (n int) {
	a, b := m.images[0].Layers, m.images[1].Layers
	for n < min(len(a), len(b)) && a[n].DiffID != "" && a[n].DiffID == b[n].DiffID {
		n++
	}
	return n
}

// selected returns the range of layers whose changes are shown. As in dive, that of the aggregated changes begins above the
// lowest layer.
func (m *Model) selected() (from, to int) {
	to = m.stack.at
	if m.aggregated {
		return min(1, to), to
	}
	return to, to
}

// applyFilter shows the paths that the filter matches, a regular expression as in dive.
func (m *Model) applyFilter() {
	if m.files == nil {
		return
	}
	match, err := matcher(m.filterText)
	if err != nil { // setFilter lets none in
		m.message = err.Error()
		return
	}
	count := m.files.filter(match)
	if match != nil {
		m.message = fmt.Sprintf("%d paths match", count)
		if count == 1 {
			m.message = "1 path matches"
		}
	}
	m.list()
}

// matcher is the test of a filter, nil for an empty one. Capital letters count only where the filter has some.
func matcher(text string) (func(path []byte) bool, error) {
	if text == "" {
		return nil, nil
	}
	if text == strings.ToLower(text) {
		text = "(?i)" + text
	}
	re, err := regexp.Compile(text)
	var invalid *syntax.Error
	if errors.As(err, &invalid) {
		return nil, fmt.Errorf("invalid filter: %s", invalid.Code)
	}
	if err != nil {
		return nil, fmt.Errorf("invalid filter: %w", err)
	}
	return re.Match, nil
}

// list makes the rows anew, with the cursor on the path that it was on, or near it.
func (m *Model) list() {
	if m.files == nil {
		return
	}
	current := m.current()
	m.rows = m.files.rows(m.rows[:0], m.isOpen, ^m.hidden, m.bySize)
	m.cursor.count = len(m.rows)
	for current > 0 {
		for i, r := range m.rows {
			if r.id == current {
				m.cursor.move(i)
				return
			}
		}
		current = m.files.parent(current)
	}
	m.cursor.move(m.cursor.at)
}

// current is the node under the cursor, 0 if there is none.
func (m *Model) current() int {
	if m.cursor.at < len(m.rows) {
		return m.rows[m.cursor.at].id
	}
	return 0
}

// isOpen reports whether what is in a directory is shown: a filter shows what it matches.
func (m *Model) isOpen(id int) bool {
	return m.opened[id] != m.allOpen || m.filterText != ""
}

// reveal puts the cursor on a path.
func (m *Model) reveal(id int) {
	for p := m.files.parent(id); p > 0; p = m.files.parent(p) {
		m.opened[p] = !m.allOpen
	}
	m.hidden, m.filterText = 0, ""
	m.applyFilter()
	m.message = ""
	for i, r := range m.rows {
		if r.id == id {
			m.cursor.move(i)
		}
	}
	m.focus = filesPane
}

// list is a position in lines that scroll.
type list struct{ at, top, count int }

// move puts the position on a line, or on the nearest one.
func (l *list) move(to int) { l.at = max(0, min(to, l.count-1)) }

// window returns the first line that is shown in a number of lines.
func (l *list) window(height int) int {
	l.top = max(0, min(l.top, l.at, l.count-height))
	if height > 0 && l.at >= l.top+height {
		l.top = l.at - height + 1
	}
	return l.top
}

// size is a size in words, "" of what has none.
func size(n int64) string {
	if n < 0 {
		return ""
	}
	return analyze.Size(n)
}

// entryLine describes a version of a path: mode, owner, size, time, target, device, extended attributes and digest.
func entryLine(e *view.Entry) string {
	if e == nil {
		return "(absent)"
	}
	line := fmt.Sprintf("%s %d:%d", mode(e), e.UID, e.GID)
	if e.Type == view.TypeRegular {
		line += " " + size(e.Size)
	}
	if !e.ModTime.IsZero() {
		line += " " + e.ModTime.UTC().Format("2006-01-02 15:04:05")
	}
	if e.Linkname != "" {
		line += " → " + e.Linkname
	}
	if e.Hardlink != "" {
		line += " = /" + e.Hardlink
	}
	if e.Type == view.TypeChar || e.Type == view.TypeBlock {
		line += fmt.Sprintf(" %d, %d", e.Major, e.Minor)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		line += fmt.Sprintf(" %s=%q", name, e.Xattrs[name])
	}
	if e.Digest != "" {
		line += " " + e.Digest.String()
	}
	return line
}
