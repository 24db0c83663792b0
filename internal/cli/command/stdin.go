package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Input is mica's stdin for a command that reads it itself: a signal ends a read that waits for input.
func (a *App) Input(ctx context.Context) io.Reader { return &waitingReader{ctx: ctx, r: a.Stdin} }

// waitingReader reads in a goroutine, since nothing else ends a read of a pipe or a terminal.
type waitingReader struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	done chan readResult
}

type readResult struct {
	n   int
	err error
}

func (w *waitingReader) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, context.Cause(w.ctx)
	}
	if w.buf == nil {
		w.buf, w.done = make([]byte, 64<<10), make(chan readResult, 1)
	}
	// After the context has ended, buf is not read any more: the goroutine may keep it.
	go func() {
		n, err := w.r.Read(w.buf[:min(len(p), len(w.buf))])
		w.done <- readResult{n, err}
	}()
	select {
	case res := <-w.done:
		return copy(p, w.buf[:res.n]), res.err
	case <-w.ctx.Done():
		return 0, context.Cause(w.ctx)
	}
}

// Confirm asks a question. Only y means yes.
func (a *App) Confirm(ctx context.Context, question string) bool {
	fmt.Fprint(a.Stdout, question)
	line, _ := bufio.NewReader(a.Input(ctx)).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(s any) bool {
	f, ok := s.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}
