// Package terminal writes mica's output. Text from images, registries, archives and Dockerfiles is not trusted: it may contain
// control sequences that move the cursor, overwrite lines above, or set the window's title or the clipboard. On a terminal they
// are escaped. Files and pipes get every byte unchanged.
package terminal

import (
	"os"
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Writer writes to a file of the process, stdout or stderr. It is safe for concurrent use.
type Writer struct {
	file       *os.File
	isTerminal bool

	mu   sync.Mutex
	rest []byte // the beginning of an incomplete character
	err  error
}

// NewWriter returns a writer to f.
func NewWriter(f *os.File) *Writer {
	return &Writer{file: f, isTerminal: term.IsTerminal(int(f.Fd()))}
}

// Write writes text. For a terminal, it is escaped by [Escape].
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := p
	if w.isTerminal {
		whole := slices.Concat(w.rest, p)
		end := completeRunes(whole)
		out = Escape(whole[:end])
		w.rest = append([]byte(nil), whole[end:]...)
	}
	n, err := w.file.Write(out)
	if err != nil && w.err == nil {
		w.err = err
	}
	if err == nil || w.isTerminal {
		n = len(p)
	}
	return n, err
}

// completeRunes returns the length of text without an incomplete character at its end.
func completeRunes(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if b := text[len(text)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-n:]) {
				return len(text) - n
			}
			break
		}
	}
	return len(text)
}

// IsTerminal reports whether the file is a terminal.
func (w *Writer) IsTerminal() bool { return w.isTerminal }

// File returns the file itself, for programs in the foreground and for displays that move the cursor. Text written to it is not
// escaped.
func (w *Writer) File() *os.File { return w.file }

// Flush writes an incomplete character at the end, and returns the first error of any write.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		if _, err := w.file.Write(Escape(w.rest)); err != nil && w.err == nil {
			w.err = err
		}
		w.rest = nil
	}
	return w.err
}
