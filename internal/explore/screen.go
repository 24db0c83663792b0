package explore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/gdamore/tcell/v3"
)

// ErrNoTerminal is the error of Run without a terminal.
var ErrNoTerminal = errors.New("not a terminal")

// Run shows images in the terminal until the user ends it or ctx is done. The terminal is as before when it returns.
func Run(ctx context.Context, images ...*Image) error {
	tty, err := tcell.NewStdIoTty()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTerminal, err)
	}
	// Without negotiation: a terminal that does not answer would keep the first screen waiting for a second.
	screen, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptNegotiation(false))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTerminal, err)
	}
	if err := screen.Init(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoTerminal, err)
	}
	defer screen.Fini()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	results := make(chan any)
	later := func(work func(ctx context.Context) any) {
		running.Go(func() {
			result := work(ctx)
			select {
			case results <- result:
			case <-ctx.Done():
			}
		})
	}
	m := New(later, images...)
	for !m.Done() {
		m.Draw(screen)
		screen.Show()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-results:
			m.Update(r)
		case e, ok := <-screen.EventQ():
			if !ok {
				return nil
			}
			switch e := e.(type) {
			case *tcell.EventKey:
				if k := keyOf(e); k != "" && e.Pressed() {
					m.Press(k)
				}
			case *tcell.EventResize:
				screen.Sync()
			case *tcell.EventError:
				return e
			}
		}
	}
	return nil
}

var keyNames = map[tcell.Key]Key{
	tcell.KeyEnter: "enter", tcell.KeyTab: "tab", tcell.KeyBacktab: "backtab", tcell.KeyEsc: "esc", tcell.KeyBackspace: "backspace",
	tcell.KeyBackspace2: "backspace", tcell.KeyUp: "up", tcell.KeyDown: "down", tcell.KeyLeft: "left", tcell.KeyRight: "right",
	tcell.KeyPgUp: "pgup", tcell.KeyPgDn: "pgdn", tcell.KeyHome: "home", tcell.KeyEnd: "end", tcell.KeyF1: "f1",
}

// keyOf is the Key of an event, "" for one that means nothing.
func keyOf(e *tcell.EventKey) Key {
	if k, ok := keyNames[e.Key()]; ok {
		return k
	}
	if e.Key() == 0 || e.Key() == tcell.KeyRune && e.Str() == " " && e.Modifiers()&tcell.ModCtrl != 0 {
		return "ctrl-space"
	}
	if e.Key() >= tcell.KeyCtrlA && e.Key() <= tcell.KeyCtrlZ {
		return Key("ctrl-" + strings.ToLower(string(rune('A'+e.Key()-tcell.KeyCtrlA))))
	}
	if e.Key() == tcell.KeyRune {
		if e.Modifiers()&tcell.ModCtrl != 0 {
			return Key("ctrl-" + strings.ToLower(e.Str()))
		}
		return Key(e.Str())
	}
	return ""
}
