package explore

import (
	"fmt"
	"strings"
	"time"

	"github.com/micabuild/mica/internal/analyze"
	"github.com/micabuild/mica/internal/history"
)

// lines is an overlay of lines that scroll, broken where the screen is narrower. enter, if it is set, is called with the number of the
// selected line.
type lines struct {
	name   string
	text   []string
	at     list   // in parts; in text until they are made
	parts  []part // of the lines, as broken
	width  int    // that they were broken for
	height int
	enter  func(m *Model, line int) bool // false closes the overlay
}

// part is a part of a line that fits on the screen.
type part struct {
	line int
	text string
}

func (l *lines) title() string { return l.name }

// line is the number of the selected line.
func (l *lines) line() int {
	if l.at.at < len(l.parts) {
		return l.parts[l.at.at].line
	}
	return l.at.at
}

// breakLines makes the parts for a width, and keeps the selected line.
func (l *lines) breakLines(width int) {
	if width == l.width {
		return
	}
	line := l.line()
	l.width, l.parts, l.at.at = width, nil, 0
	for i, text := range l.text {
		if i == line {
			l.at.at = len(l.parts)
		}
		for _, t := range split(escape(text), width, false) {
			l.parts = append(l.parts, part{i, t})
		}
	}
	l.at.count = len(l.parts)
}

func (l *lines) draw(s Surface, _ *Model, r rect) {
	l.breakLines(r.w)
	l.height = r.h
	top := l.at.window(r.h)
	for y := range min(r.h, len(l.parts)-top) {
		style := plain
		if top+y == l.at.at {
			style = selected
		}
		put(s, r, y, l.parts[top+y].text, style)
	}
}

func (l *lines) key(m *Model, k Key) bool {
	switch k {
	case "esc", "left", "?", "w", "b", "f", "tab":
		return false
	case "q":
		m.quit = true
	case "enter", "right":
		if l.enter != nil && l.line() < len(l.text) {
			return l.enter(m, l.line())
		}
	default:
		l.at.count = max(len(l.text), len(l.parts))
		l.at.key(k, l.height)
	}
	return true
}

const helpText = `Everywhere
  Tab             go to the layers, or to the files
  ↑ ↓ k j         move      PgUp PgDn u d  a page      Home End  to the ends
  Ctrl-F Ctrl-/   show the paths that match a regular expression; Esc ends it
  /  n  N         search a name, the next one, the one before
  w               what the image wastes, and what was left in it
  b               the build that made the image: when its steps ran, and why
  f               the Dockerfile, at the line that made the layer
  q Ctrl-C        quit      Ctrl-Z  back to the shell, until fg

Layers
  Ctrl-A          changes of all layers up to the selected one, above the lowest
  Ctrl-L          changes of the selected layer alone
  Enter           go to the files

Files  (+ added  ~ modified  - removed)
  Space ← →       open or close a directory
  Ctrl-Space *    open or close all directories
  Enter v         show a file
  Ctrl-E e        write a file to this machine, never over another
  Ctrl-O s        sort by size, or by name
  Ctrl-A a        show or hide what was added       Ctrl-R r   what was removed
  Ctrl-M m        what was modified                 Ctrl-U =   what was not
  Ctrl-B p        show or hide modes and owners
  Ctrl-P          break long names into lines, or cut them off
  g               changes of one layer, or of all`

func newHelp() overlay { return &lines{name: "Help", text: strings.Split(helpText, "\n")} }

// openWaste shows what the image wastes. Enter goes to the path.
func (m *Model) openWaste() {
	r := m.report
	if r == nil {
		m.message = "the files are still being read"
		return
	}
	var text, paths []string
	add := func(path, line string) { text, paths = append(text, line), append(paths, path) }
	add("", fmt.Sprintf("%s wasted in %s, %s in copies, efficiency %s", analyze.Size(r.Wasted.Bytes), files(r.Wasted.Files),
		analyze.Size(r.Duplicates.Bytes), analyze.Percent(r.Efficiency)))
	add("", "")
	for _, w := range r.Waste {
		add(w.Path, fmt.Sprintf("%9s  %-11s  step %d by step %d  /%s", analyze.Size(w.Bytes), w.How, w.Step, w.By, w.Path))
	}
	add("", "")
	for _, f := range r.Findings {
		add(f.Path, fmt.Sprintf("%-9s  %s", f.Kind, f.Text))
		add(f.Path, "           "+f.Advice)
	}
	add("", "")
	for _, f := range r.Largest {
		add(f.Path, fmt.Sprintf("%9s  largest      step %d  /%s", analyze.Size(f.Bytes), f.Step, f.Path))
	}
	name := "Waste and findings"
	if m.compares() {
		name += " of " + m.images[1].Name
	}
	m.overlay = &lines{name: name, text: text, enter: func(m *Model, line int) bool {
		return paths[line] == "" || !m.goTo(paths[line])
	}}
}

// goTo puts the cursor on a path. It returns false if no layer has it.
func (m *Model) goTo(path string) bool {
	id := 0
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		found := 0
		for c, end := m.files.children(id); c < end; c++ {
			if m.files.name(c) == name {
				found = c
			}
		}
		if found == 0 {
			return false
		}
		id = found
	}
	if !m.compares() && !m.files.states[id].exists { // in a lower layer only
		m.aggregated, m.stack.at = true, len(m.images[0].Layers)-1
		m.selectLayers()
	}
	if !m.files.states[id].exists {
		m.message = "/" + strings.TrimPrefix(path, "/") + " was added and removed by layers in between: select one of them"
		return true
	}
	m.reveal(id)
	return true
}

// openBuild shows the steps of the build on a line of time, with the reasons why they ran.
func (m *Model) openBuild() {
	b := m.images[len(m.images)-1].Build
	if b == nil {
		m.message = "no build of this store made the image"
		return
	}
	var text []string
	var steps []*history.Step
	for _, s := range b.Steps {
		if s.State == "" && s.Source == nil {
			continue
		}
		text, steps = append(text, timeLine(b, s)), append(steps, s)
		for _, note := range b.Notes(s) {
			text, steps = append(text, strings.Repeat(" ", barWidth+19)+note), append(steps, s)
		}
	}
	m.overlay = &lines{name: fmt.Sprintf("Build %.12s of %s, %s", b.Ref, b.Started.Local().Format("2006-01-02 15:04:05"), history.Seconds(b.Duration())),
		text: text, enter: func(m *Model, line int) bool {
			m.showDockerfile(b, steps[line].Line)
			return true
		}}
}

// barWidth is the width of the line of time, in columns.
const barWidth = 20

// timeLine is a step of a build: when it ran, for how long, and its name.
func timeLine(b *history.Build, s *history.Step) string {
	bar := []rune(strings.Repeat("·", barWidth))
	if total := b.Duration(); total > 0 && s.Duration() > 0 && !s.Started.Before(b.Started) {
		column := func(d time.Duration) int { return min(barWidth-1, int(int64(d)*barWidth/int64(total))) }
		for i := column(s.Started.Sub(b.Started)); i <= column(s.Completed.Sub(b.Started)); i++ {
			bar[i] = '█'
		}
	}
	return fmt.Sprintf("%s %8s %-8s %s", string(bar), history.Seconds(s.Duration()), s.State, s.Name)
}

// openDockerfile shows the Dockerfile at the line that made the selected layer.
func (m *Model) openDockerfile() {
	img := m.images[len(m.images)-1]
	if img.Build == nil || img.Build.Text == "" {
		m.message = "no build of this store made the image: its Dockerfile is not known"
		return
	}
	line := 0
	if at := m.stack.at; !m.compares() && at < len(img.Layers) {
		for _, s := range img.Build.Steps {
			if s.Layer != "" && s.Layer.String() == img.Layers[at].DiffID {
				line = s.Line
			}
		}
		if line == 0 {
			m.message = "the layer is not of a step of this Dockerfile"
		}
	}
	m.showDockerfile(img.Build, line)
}

func (m *Model) showDockerfile(b *history.Build, line int) {
	text := strings.Split(strings.TrimRight(b.Text, "\n"), "\n")
	for i := range text {
		text[i] = fmt.Sprintf("%4d  %s", i+1, strings.ReplaceAll(text[i], "\t", "    "))
	}
	l := &lines{name: b.Dockerfile, text: text}
	l.at = list{at: max(0, min(line, len(text))-1), count: len(text)}
	m.overlay = l
}
