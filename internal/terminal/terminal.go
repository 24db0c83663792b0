// Package terminal is the way of mica's output to whoever reads it. Text of images, registries, archives and Dockerfiles is
// not to be trusted: it may hold control sequences, with which it moves the cursor, rewrites what stands above, sets the
// window's title or the clipboard. On a terminal they are shown, not obeyed. Files and pipes get every byte as it is.
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
	rest []byte // the beginning of a character, of which the end is to come
	err  error
}

// NewWriter returns a writer to f.
func NewWriter(f *os.File) *Writer {
	return &Writer{file: f, isTerminal: term.IsTerminal(int(f.Fd()))}
}

// Write writes text; what is on its way to a terminal is escaped as by [Escape].
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

// completeRunes is the length of text without the beginning of a character at its end.
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

// File returns the file itself, for programs that run in the foreground and for displays that move the cursor. What is
// written to it is not escaped.
func (w *Writer) File() *os.File { return w.file }

// Flush writes what is left of a character that never ended, and returns the first error of any write.
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
