package explore

import (
	"fmt"
	"strconv"

	"github.com/gdamore/tcell/v3"
	"github.com/gdamore/tcell/v3/color"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/terminal"
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
	text = terminal.EscapeString(text)
	x := 0
	for text != "" && x < r.w {
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
		put(s, r, 0, m.prompt.label+m.prompt.text+"▏", strong)
	case m.message != "":
		put(s, r, 0, m.message, strong)
	case m.overlay != nil:
		put(s, r, 0, "Esc back  ↑↓ move  q quit", faint)
	case m.focus == layersPane:
		put(s, r, 0, "? help  Tab files  ^A all changes  ^L of one layer  w waste  b build  d Dockerfile  q quit", faint)
	default:
		put(s, r, 0, "? help  Space fold  Enter view  ^E extract  ^F filter  / search  ^O size  a r m u show  q quit", faint)
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
		for _, text := range wrap(d.text, r.w) {
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
		list = append(list, detail{"Layer " + strconv.Itoa(m.stack.at+1), true}, detail{text: l.Command}, detail{text: l.DiffID}, detail{})
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
		detail{text: fmt.Sprintf("%s, %d files", analyze.Size(r.Size), r.Files)},
		detail{text: "efficiency " + analyze.Percent(r.Efficiency)},
		detail{text: fmt.Sprintf("%s wasted in %d files", analyze.Size(r.Wasted.Bytes), r.Wasted.Files)})
	for _, waste := range r.Waste[:min(5, len(r.Waste))] {
		list = append(list, detail{text: fmt.Sprintf("%9s  %s", analyze.Size(waste.Bytes), "/"+waste.Path)})
	}
	return list
}

// wrap breaks a text into lines of at most width bytes, between words where it can.
func wrap(text string, width int) (lines []string) {
	text = terminal.EscapeString(text)
	runes := []rune(text)
	for len(runes) > width && len(lines) < 6 {
		at := width
		for i := width; i > width/2; i-- {
			if runes[i] == ' ' {
				at = i
				break
			}
		}
		lines = append(lines, string(runes[:at]))
		runes = runes[at:]
		for len(runes) > 0 && runes[0] == ' ' {
			runes = runes[1:]
		}
	}
	return append(lines, string(runes))
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
	m.height = max(1, r.h-3)
	top := m.cursor.window(m.height)
	for y := range min(m.height, len(m.rows)-top) {
		m.drawRow(s, rect{r.x, r.y + 1 + y, r.w, 1}, m.rows[top+y], focus && top+y == m.cursor.at)
	}
	if len(m.rows) == 0 {
		put(s, r, 2, "nothing to show", faint)
		return
	}
	before, after := m.files.entries(m.current())
	change := m.files.states[m.current()].change
	switch change {
	case filetree.Modified:
		put(s, r, r.h-2, "- "+entryLine(before), styles[filetree.Removed])
		put(s, r, r.h-1, "+ "+entryLine(after), styles[filetree.Added])
	default:
		put(s, r, r.h-2, m.files.path(m.current()), faint)
		put(s, r, r.h-1, marks[change]+" "+entryLine(m.files.entry(m.current())), styles[change])
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

// drawRow draws a line of the tree.
func (m *Model) drawRow(s Surface, r rect, line row, cursor bool) {
	change := m.files.shownChange(line.id)
	style := styles[change]
	if cursor {
		style = selected
	}
	name := m.nodeName(line)
	if m.compares() && r.w >= wide {
		half := r.w / 2
		before, after := m.files.entries(line.id)
		put(s, rect{r.x, r.y, half - 1, 1}, 0, m.side(line, before, name), style)
		s.Put(r.x+half-1, r.y, "│", faint)
		put(s, rect{r.x + half, r.y, r.w - half, 1}, 0, marks[change]+" "+m.side(line, after, name), style)
		return
	}
	put(s, r, 0, marks[change]+" "+m.columns(m.files.entry(line.id), m.files.states[line.id].size, r.w)+" "+name, style)
}

// side is a path in one of two images that stand beside each other.
func (m *Model) side(line row, e *view.Entry, name string) string {
	if e == nil && !m.files.isDir(line.id) {
		return ""
	}
	n := int64(-1)
	if e != nil && e.Type == view.TypeRegular {
		n = e.Size
	}
	if e == nil {
		if before, after := m.files.versions(line.id); before != nil || after != nil {
			return "" // only the other image has the directory
		}
	}
	return m.columns(e, n, wide/2) + " " + name
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

// nodeName is the name of a path with its place in the tree.
func (m *Model) nodeName(line row) string {
	fold := "  "
	if m.files.isDir(line.id) {
		if fold = "▸ "; m.isOpen(line.id) {
			fold = "▾ "
		}
	}
	name := fmt.Sprintf("%*s%s%s", min(line.depth, 40)*2, "", fold, m.files.name(line.id))
	if e := m.files.entry(line.id); e != nil && e.Linkname != "" {
		name += " → " + e.Linkname
	}
	return name
}
