package explore

import (
	"regexp"
	"strings"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// Key is a key as Model takes it: a character, or a name such as "enter", "pgdn" or "ctrl-a".
type Key string

// Press handles a key.
func (m *Model) Press(k Key) {
	if k == "ctrl-c" {
		m.quit = true
		return
	}
	if m.prompt != nil {
		m.prompt.key(m, k)
		return
	}
	m.message = ""
	if m.overlay != nil {
		if !m.overlay.key(m, k) {
			m.overlay = nil
		}
		return
	}
	if !m.pressAnywhere(k) && !m.pressTree(k) {
		m.pressList(k)
	}
}

// pressAnywhere handles keys that do the same in all panes.
func (m *Model) pressAnywhere(k Key) bool {
	switch k {
	case "q":
		m.quit = true
	case "esc":
		m.filterText, m.search = "", nil
		m.applyFilter()
	case "tab", "backtab":
		if !m.compares() {
			m.focus = 1 - m.focus
		}
	case "?", "f1":
		m.overlay = newHelp()
	case "ctrl-f", "ctrl-/", "ctrl-_": // the last is what most terminals send for Ctrl-/
		m.prompt = &prompt{label: "Filter: ", text: m.filterText, live: (*Model).setFilter}
	case "/":
		m.prompt = &prompt{label: "Search: ", done: (*Model).startSearch}
	case "n":
		m.searchNext(1)
	case "N":
		m.searchNext(-1)
	case "w":
		m.openWaste()
	case "b":
		m.openBuild()
	case "f":
		m.openDockerfile()
	default:
		return false
	}
	return true
}

// pressTree handles keys that change which files are shown.
func (m *Model) pressTree(k Key) bool {
	switch k {
	case "ctrl-l":
		m.setAggregated(false)
	case "ctrl-a":
		if m.focus == layersPane {
			m.setAggregated(true)
		} else {
			m.toggle(filetree.Added)
		}
	case "a":
		m.toggle(filetree.Added)
	case "ctrl-r", "r":
		m.toggle(filetree.Removed)
	case "ctrl-m", "m":
		m.toggle(filetree.Modified)
	case "ctrl-u", "=":
		m.toggle(filetree.Unmodified)
	case "ctrl-p":
		m.wrapped = !m.wrapped
	case "ctrl-b", "p":
		m.attributes = !m.attributes
	case "ctrl-o", "s":
		m.bySize = !m.bySize
		m.list()
	case "ctrl-space", "*":
		m.allOpen, m.opened = !m.allOpen, map[int]bool{}
		m.list()
	case "g":
		m.setAggregated(!m.aggregated)
	default:
		return false
	}
	return true
}

// pressList handles keys of the list that has the focus.
func (m *Model) pressList(k Key) {
	if m.focus == layersPane {
		old := m.stack.at
		m.stack.count = len(m.images[0].Layers)
		if k == "enter" || k == "right" {
			m.focus = filesPane
		}
		if m.stack.key(k, 10); m.stack.at != old {
			m.selectLayers()
		}
		return
	}
	switch k {
	case " ":
		m.fold(m.current(), !m.isOpen(m.current()))
	case "right", "l":
		m.fold(m.current(), true)
	case "left", "h":
		m.collapse()
	case "enter", "v":
		if m.files != nil && m.files.isDir(m.current()) {
			m.fold(m.current(), !m.isOpen(m.current()))
		} else {
			m.openFile()
		}
	case "ctrl-e", "e":
		m.askExtract()
	default:
		m.cursor.key(k, m.height)
	}
}

// key moves the position by a key. page is the number of lines of a page.
func (l *list) key(k Key, page int) {
	switch k {
	case "up", "k":
		l.move(l.at - 1)
	case "down", "j":
		l.move(l.at + 1)
	case "pgup", "u", "U":
		l.move(l.at - max(1, page-1))
	case "pgdn", "d", "D":
		l.move(l.at + max(1, page-1))
	case "home", "<":
		l.move(0)
	case "end", ">", "G":
		l.move(l.count - 1)
	}
}

func (m *Model) setAggregated(on bool) {
	m.aggregated = on && !m.compares()
	m.selectLayers()
}

// toggle shows or hides the paths with a change.
func (m *Model) toggle(c filetree.Change) {
	m.hidden ^= 1 << c
	m.list()
}

// fold opens or closes a directory.
func (m *Model) fold(id int, open bool) {
	if m.files == nil || id == 0 || !m.files.isDir(id) {
		return
	}
	m.opened[id] = open != m.allOpen
	m.list()
}

// collapse closes the directory under the cursor, or goes to the one that the path is in.
func (m *Model) collapse() {
	id := m.current()
	if m.files == nil || id == 0 {
		return
	}
	if m.files.isDir(id) && m.isOpen(id) && m.filterText == "" {
		m.fold(id, false)
		return
	}
	for i, r := range m.rows {
		if r.id == m.files.parent(id) {
			m.cursor.move(i)
		}
	}
}

// setFilter shows the paths that an expression matches. While it is not valid, the last one counts.
func (m *Model) setFilter(text string) error {
	if _, err := matcher(text); err != nil {
		m.message = err.Error()
		return err
	}
	m.filterText, m.message = text, ""
	m.applyFilter()
	return nil
}

// startSearch goes to the next path that has a text in it, in directories that are closed, too.
func (m *Model) startSearch(text string) {
	if text == "" {
		return
	}
	pattern := regexp.QuoteMeta(text)
	if text == strings.ToLower(text) {
		pattern = "(?i)" + pattern
	}
	m.search = regexp.MustCompile(pattern)
	m.searchNext(1)
}

// searchNext goes to the next name that the search matches, in the order of the tree, or to the one before.
func (m *Model) searchNext(step int) {
	if m.files == nil || m.search == nil {
		return
	}
	all := m.files.rows(make([]row, 0, len(m.files.nodes)), func(int) bool { return true }, ^m.hidden, m.bySize)
	current, at := m.current(), 0
	for i, r := range all {
		if r.id == current {
			at = i
		}
	}
	for k := 1; k <= len(all); k++ {
		i := ((at+k*step)%len(all) + len(all)) % len(all)
		if id := all[i].id; m.search.MatchString(m.files.name(id)) {
			hidden, filter := m.hidden, m.filterText
			m.reveal(id)
			m.hidden, m.filterText = hidden, filter
			m.applyFilter()
			m.message = ""
			return
		}
	}
	m.message = "not found"
}

// prompt asks for a line of text.
type prompt struct {
	label, text string
	live        func(m *Model, text string) error // called with each change, and at the end, which an error prevents
	done        func(m *Model, text string)       // called at the end
}

func (p *prompt) key(m *Model, k Key) {
	switch {
	case k == "esc":
		m.prompt = nil
		p.set(m, "")
		m.message = ""
	case k == "enter":
		if p.live != nil && p.live(m, p.text) != nil {
			return
		}
		m.prompt = nil
		if p.done != nil {
			p.done(m, p.text)
		}
	case k == "backspace":
		runes := []rune(p.text)
		p.set(m, string(runes[:max(0, len(runes)-1)]))
	case k == "ctrl-u":
		p.set(m, "")
	case len([]rune(string(k))) == 1:
		p.set(m, p.text+string(k))
	}
}

func (p *prompt) set(m *Model, text string) {
	p.text = text
	if p.live != nil {
		_ = p.live(m, text) // is on the screen
	}
}
