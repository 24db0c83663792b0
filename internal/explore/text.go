package explore

import (
	"strings"

	"github.com/gdamore/tcell/v3"

	"github.com/micabuild/mica/internal/terminal"
)

// ascii replaces characters of the screen on terminals that do not have them.
var ascii = map[rune]string{
	'●': "*", '○': "o", '┃': "|", '│': "|", '▸': ">", '▾': "v", '→': ">", '↑': "^", '↓': "v", '←': "<", '…': "~", '▏': "_", '█': "#", '·': ".",
}

var breaks = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// escape makes one line of a text, without control characters.
func escape(text string) string { return breaks.Replace(terminal.EscapeString(text)) }

// cut returns the beginning of a line that fits into a number of columns, at least one character, and the rest.
func cut(text string, columns int) (fits, rest string) {
	var cells tcell.CellBuffer
	cells.Resize(1, 1)
	x := 0
	for rest = text; rest != ""; {
		if rest[0] < 0x80 && (len(rest) == 1 || rest[1] < 0x80) { // as most are
			if x++; x > columns && x > 1 {
				break
			}
			rest = rest[1:]
			continue
		}
		next, width := cells.Put(0, 0, rest, plain)
		if x += width; x > columns && x > width || len(next) >= len(rest) {
			break
		}
		rest = next
	}
	return text[:len(text)-len(rest)], rest
}

// split breaks a line into lines of a number of columns, between words where it can if words is set.
func split(text string, columns int, words bool) (lines []string) {
	for {
		line, rest := cut(text, max(columns, 1))
		if rest == "" {
			return append(lines, line)
		}
		if at := strings.LastIndexByte(line, ' '); words && rest[0] != ' ' && at > len(line)/2 {
			line, rest = text[:at], text[at:]
		}
		if words {
			rest = strings.TrimLeft(rest, " ")
		}
		lines, text = append(lines, line), rest
	}
}

// tail returns the end of a line that fits into a number of columns.
func tail(text string, columns int) string {
	if _, rest := cut(text, columns); rest == "" {
		return text
	}
	if columns < 2 {
		return "…"
	}
	lines := split(text, columns-1, false)
	last := len(lines) - 1
	whole := lines[last-1] + lines[last]
	for {
		if _, rest := cut(whole, columns-1); rest == "" {
			return "…" + whole
		}
		_, whole = cut(whole, 1)
	}
}
