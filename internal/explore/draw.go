package explore

import (
	"fmt"
	"strings"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/view"
)

// Surface is what a Model draws itself on: a tcell.Screen, or a tcell.CellBuffer.
type Surface interface {
	Put(x, y int, text string, style tcell.Style) (rest string, width int)
	Size() (width, height int)
}

// rect is a part of a surface.
type rect struct{ x, y, w, h int }

// The styles. Nothing is told by a colour alone: changes have marks, too.
var (
	plain    = tcell.StyleDefault
	faint    = plain.Dim(true)
	strong   = plain.Bold(true)
	selected = plain.Reverse(true)
	styles   = map[filetree.Change]tcell.Style{
		filetree.Unmodified: plain,
		filetree.Added:      plain.Foreground(color.Green),
		filetree.Modified:   plain.Foreground(color.Yellow),
		filetree.Removed:    plain.Foreground(color.Red),
	}
	marks = map[filetree.Change]string{filetree.Unmodified: " ", filetree.Added: "+", filetree.Modified: "~", filetree.Removed: "-"}
)

// wide is the width from which panes stand beside each other, or two versions of a path do.
const wide = 100

// put writes a line into a part of a surface: what does not fit is cut off, and the rest of the line is blank. Control characters
// are escaped.
func put(s Surface, r rect, line int, text string, style tcell.Style) {
	if line < 0 || line >= r.h {
		return
	}
	text, _ = cut(escape(text), r.w)
	x := 0
	for text != "" {
		rest, width := s.Put(r.x+x, r.y+line, text, style)
		if len(rest) >= len(text) { // nothing was put
			break
		}
		text, x = rest, x+max(width, 0)
	}
	for ; x < r.w; x++ {
		s.Put(r.x+x, r.y+line, " ", style)
	}
}

// Draw draws the model on the whole of a surface.
func (m *Model) Draw(s Surface) {
	w, h := s.Size()
	for y := range h {
		put(s, rect{0, 0, w, h}, y, "", plain)
	}
	if w < 20 || h < 6 {
		put(s, rect{0, 0, w, h}, 0, "window too small", plain)
		return
	}
	put(s, rect{0, 0, w, 1}, 0, m.titleLine(), selected)
	m.drawBottom(s, rect{0, h - 1, w, 1})
	body := rect{0, 1, w, h - 2}
	switch {
	case m.overlay != nil:
		m.overlay.draw(s, m, body)
	case m.compares():
		m.drawFiles(s, body)
	case w >= wide:
		left := max(40, w*2/5)
		m.drawLeft(s, rect{0, 1, left - 1, h - 2})
		for y := range body.h {
			s.Put(left-1, body.y+y, "│", faint)
		}
		m.drawFiles(s, rect{left, 1, w - left, h - 2})
	default:
		upper := min(len(m.images[0].Layers)+1, max(3, body.h/3))
		m.drawLayers(s, rect{0, 1, w, upper})
		m.drawFiles(s, rect{0, 1 + upper, w, body.h - upper})
	}
}

func (m *Model) titleLine() string {
	text := " mica explore  " + m.images[0].Name
	if m.compares() {
		text += " → " + m.images[1].Name
	}
	if m.overlay != nil {
		text += "  " + m.overlay.title()
	}
	return text
}

// drawBottom draws the prompt, a message, or the keys.
func (m *Model) drawBottom(s Surface, r rect) {
	switch {
	case m.prompt != nil:
		text := tail(escape(m.prompt.label+m.prompt.text+"▏"), r.w)
		if m.message != "" {
			text += "  " + m.message
		}
		put(s, r, 0, text, strong)
	case m.message != "":
		put(s, r, 0, m.message, strong)
	case m.overlay != nil:
		put(s, r, 0, "Esc back  ↑↓ move  q quit", faint)
	case m.focus == layersPane:
		put(s, r, 0, "? help  Tab files  ^A all changes  ^L of one layer  w waste  b build  f Dockerfile  q quit", faint)
	default:
		put(s, r, 0, "? help  Space fold  Enter view  ^E extract  ^F filter  / search  ^O size  a r m = show  q quit", faint)
	}
}

// drawLeft draws the layers, and what is known of the selected one and of the image.
func (m *Model) drawLeft(s Surface, r rect) {
	details := m.details()
	h := min(len(m.images[0].Layers)+1, max(r.h/2, r.h-len(details)-1))
	m.drawLayers(s, rect{r.x, r.y, r.w, h})
	line := h + 1
	for _, d := range details {
		style := plain
		if d.heading {
			style = strong
		}
		for _, text := range firstLines(split(escape(d.text), r.w, true)) {
			put(s, r, line, text, style)
			line++
		}
	}
}

func (m *Model) drawLayers(s Surface, r rect) {
	put(s, r, 0, heading("Layers", m.focus == layersPane), headingStyle(m.focus == layersPane))
	layers := m.images[0].Layers
	m.stack.count = len(layers)
	from, to := m.selected()
	top := m.stack.window(r.h - 1)
	for y := range min(r.h-1, len(layers)-top) {
		i := top + y
		mark := " "
		if i >= from && i <= to {
			mark = "┃"
		}
		style := plain
		if i == m.stack.at {
			style = focusStyle(m.focus == layersPane)
		}
		put(s, r, y+1, fmt.Sprintf("%s%9s  %s", mark, layerSize(layers[i]), layers[i].Command), style)
	}
}

func layerSize(l Layer) string {
	if l.Compressed {
		return "~" + size(l.Size)
	}
	return size(l.Size)
}

func heading(text string, focus bool) string {
	if focus {
		return "● " + text
	}
	return "○ " + text
}

func headingStyle(focus bool) tcell.Style {
	if focus {
		return strong
	}
	return faint
}

func focusStyle(focus bool) tcell.Style {
	if focus {
		return selected
	}
	return strong
}

// detail is a paragraph about a layer or the image.
type detail struct {
	text    string
	heading bool
}

// details are what is known of the selected layer, and of the image.
func (m *Model) details() []detail {
	img := m.images[0]
	list := []detail{}
	if m.stack.at < len(img.Layers) {
		l := img.Layers[m.stack.at]
		list = append(list, detail{m.layerName(m.stack.at), true})
		for _, text := range []string{l.Command, l.DiffID} {
			if text != "" {
				list = append(list, detail{text: text})
			}
		}
		list = append(list, detail{})
	}
	list = append(list, detail{"Image", true})
	if img.ID != "" {
		list = append(list, detail{text: img.ID})
	}
	if m.err != nil {
		return append(list, detail{text: "error: " + m.err.Error()})
	}
	r := m.report
	if r == nil {
		return append(list, detail{text: "reading the files …"})
	}
	list = append(list,
		detail{text: analyze.Size(r.Size) + ", " + files(r.Files)},
		detail{text: "efficiency " + analyze.Percent(r.Efficiency)},
		detail{text: analyze.Size(r.Wasted.Bytes) + " wasted in " + files(r.Wasted.Files)})
	for _, waste := range r.Waste[:min(5, len(r.Waste))] {
		list = append(list, detail{text: fmt.Sprintf("%9s  %s", analyze.Size(waste.Bytes), "/"+waste.Path)})
	}
	return list
}

// layerName is the number of a layer, and that of its step in the history, which findings name, if it is another.
func (m *Model) layerName(layer int) string {
	name := fmt.Sprintf("Layer %d", layer+1)
	if m.report == nil {
		return name
	}
	for _, s := range m.report.Steps {
		if s.Layer == layer+1 && s.Number != s.Layer {
			name += fmt.Sprintf(" (step %d)", s.Number)
		}
	}
	return name
}

// files is a number of files in words.
func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// firstLines bounds the lines of a paragraph.
func firstLines(lines []string) []string {
	if len(lines) > 6 {
		return append(lines[:5:5], "…")
	}
	return lines
}

// drawFiles draws the tree, and the versions of the path under the cursor.
func (m *Model) drawFiles(s Surface, r rect) {
	focus := m.focus == filesPane
	put(s, r, 0, heading(m.filesHeading(), focus), headingStyle(focus))
	if m.err != nil {
		put(s, r, 2, "error: "+m.err.Error(), plain)
		return
	}
	if m.files == nil {
		put(s, r, 2, "reading the files …", faint)
		return
	}
	below := 2
	if r.h > 10 {
		below = 3
	}
	list := rect{r.x, r.y + 1, r.w, max(1, r.h-1-below)}
	m.height = list.h
	m.drawRows(s, list, focus)
	if len(m.rows) == 0 {
		text := "nothing to show"
		if m.compares() && m.filterText == "" && m.hidden == 1<<filetree.Unmodified {
			text = "no file differs"
		}
		put(s, r, 2, text, faint)
		return
	}
	m.drawVersions(s, rect{r.x, r.y + r.h - below, r.w, below})
}

// drawVersions draws the path under the cursor, and what it was and is.
func (m *Model) drawVersions(s Surface, r rect) {
	id := m.current()
	before, after := m.files.entries(id)
	change := m.files.states[id].change
	path := tail(escape(m.files.path(id)), r.w)
	if change != filetree.Modified {
		put(s, r, 0, path, faint)
		for i, line := range split(escape(marks[change]+" "+entryLine(m.files.entry(id))), r.w, true) {
			put(s, r, 1+i, line, styles[change])
		}
		return
	}
	put(s, r, r.h-3, path, faint)
	put(s, r, r.h-2, "- "+entryLine(before), styles[filetree.Removed])
	put(s, r, r.h-1, "+ "+entryLine(after), styles[filetree.Added])
}

// drawRows draws the lines of the tree around the cursor.
func (m *Model) drawRows(s Surface, r rect, focus bool) {
	top := m.cursor.window(r.h)
	if m.wrapped { // so that the cursor is among those that fit
		height := 0
		for i := m.cursor.at; i >= top && i < len(m.rows); i-- {
			if height += m.rowHeight(r, m.rows[i]); height > r.h && i < m.cursor.at {
				top = i + 1
				break
			}
		}
		m.cursor.top = top
	}
	for y := 0; y < r.h && top < len(m.rows); top++ {
		y += m.drawRow(s, rect{r.x, r.y + y, r.w, r.h - y}, m.rows[top], focus && top == m.cursor.at)
	}
}

func (m *Model) filesHeading() string {
	text := "Files"
	from, to := m.selected()
	switch {
	case m.compares():
		text = "What differs"
	case m.aggregated && from < to:
		text = fmt.Sprintf("Files: changes of layers %d to %d", from+1, to+1)
	case len(m.images[0].Layers) > 0:
		text = fmt.Sprintf("Files: changes of layer %d", to+1)
	}
	for c := filetree.Unmodified; c <= filetree.Removed; c++ {
		if m.hidden&(1<<c) != 0 {
			text += ", without " + c.String()
		}
	}
	if m.filterText != "" {
		text += ", /" + m.filterText + "/"
	}
	return text
}

// cell is a part of a row: attributes, and the name in the columns that are left.
type cell struct {
	x, w             int
	attributes, name string
}

// cells are the parts of a row: two if images stand beside each other.
func (m *Model) cells(r rect, line row) []cell {
	mark := marks[m.files.shownChange(line.id)] + " "
	if !m.compares() || r.w < wide {
		e := m.files.entry(line.id)
		text := mark + m.columns(e, m.files.states[line.id].size, r.w) + " "
		return []cell{{0, r.w, text, m.nodeName(line, e, r.w-len(text))}}
	}
	half := r.w / 2
	before, after := m.files.entries(line.id)
	return []cell{m.side(line, before, 0, half-1, ""), m.side(line, after, half, r.w-half, mark)}
}

// rowHeight is how many lines a row takes.
func (m *Model) rowHeight(r rect, line row) int {
	height := 1
	for _, c := range m.cells(r, line) {
		if m.wrapped {
			height = max(height, len(split(c.name, c.w-len(c.attributes), false)))
		}
	}
	return height
}

// drawRow draws a line of the tree, or several if its name is wrapped, and returns how many.
func (m *Model) drawRow(s Surface, r rect, line row, cursor bool) int {
	style := styles[m.files.shownChange(line.id)]
	if cursor {
		style = selected
	}
	cells, height := m.cells(r, line), m.rowHeight(r, line)
	for i, c := range cells {
		names := []string{c.name}
		if m.wrapped {
			names = split(c.name, c.w-len(c.attributes), false)
		}
		for y := range height {
			text := ""
			if y < len(names) {
				text = fmt.Sprintf("%*s%s", len(c.attributes), "", names[y])
			}
			if y == 0 {
				text = c.attributes + names[0]
			}
			put(s, rect{r.x + c.x, r.y, c.w, r.h}, y, text, style)
			if i > 0 && y < r.h {
				s.Put(r.x+c.x-1, r.y+y, "│", faint)
			}
		}
	}
	return height
}

// side is a path in one of two images that stand beside each other, empty if only the other image has it.
func (m *Model) side(line row, e *view.Entry, x, w int, mark string) cell {
	c := cell{x: x, w: w, attributes: mark}
	if before, after := m.files.versions(line.id); e == nil && (before != nil || after != nil) {
		return c
	}
	n := int64(-1)
	if e != nil && e.Type == view.TypeRegular {
		n = e.Size
	}
	c.attributes += m.columns(e, n, wide/2) + " "
	c.name = m.nodeName(line, e, w-len(c.attributes))
	return c
}

// columns are the attributes before a name, as many as fit.
func (m *Model) columns(e *view.Entry, bytes int64, width int) string {
	text := fmt.Sprintf("%8s", size(bytes))
	if !m.attributes || width < 50 {
		return text
	}
	if e == nil {
		return fmt.Sprintf("%10s %9s %s", "", "", text)
	}
	return fmt.Sprintf("%10s %9s %s", mode(e), fmt.Sprintf("%d:%d", e.UID, e.GID), text)
}

// nodeName is the name of a path with its place in the tree. Deep in it, half of the columns are left to the name.
func (m *Model) nodeName(line row, e *view.Entry, columns int) string {
	fold := "  "
	if e != nil && e.IsDir() || e == nil && m.files.isDir(line.id) {
		if fold = "▸ "; m.isOpen(line.id) {
			fold = "▾ "
		}
	}
	indent := strings.Repeat("  ", line.depth)
	if most := max(0, columns/2); len(indent) > most {
		depth := fmt.Sprintf("(%d) ", line.depth)
		indent = strings.Repeat(" ", max(0, most-len(depth))) + depth
	}
	name := indent + fold + escape(m.files.name(line.id))
	if e != nil && e.Linkname != "" {
		name += " → " + escape(e.Linkname)
	}
	return name
}
