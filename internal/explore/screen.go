package explore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/gdamore/tcell/v3"

	"github.com/micabuild/mica/internal/crash"
)

// The errors of Run without a terminal, and of one that is not there any more.
var (
	ErrNoTerminal = errors.New("not a terminal")
	ErrHangup     = errors.New("the terminal was closed")
)

// Run shows images in the terminal until the user ends it or ctx is done. The terminal is as before when it returns, whatever the
// reason.
func Run(ctx context.Context, images ...*Image) error {
	c, err := openConsole()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTerminal, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	// What still runs in the background ends while the terminal is the user's again.
	defer running.Wait()
	defer cancel()
	defer c.close()
	results := make(chan any)
	later := func(work func(ctx context.Context) any) {
		running.Go(func() {
			result := guarded(ctx, work)
			select {
			case results <- result:
			case <-ctx.Done():
			}
		})
	}
	return c.show(ctx, New(later, images...), results)
}

// guarded returns the result of work, or the error of its panic.
func guarded(ctx context.Context, work func(ctx context.Context) any) (result any) {
	if err := crash.Guard(func() error { result = work(ctx); return nil })(); err != nil {
		return err
	}
	return result
}

// show draws the model, and changes it by keys and results, until it is done.
func (c *console) show(ctx context.Context, m *Model, results <-chan any) error {
	for !m.Done() {
		m.Draw(c)
		c.Show()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s := <-c.signals:
			if s == syscall.SIGHUP {
				return ErrHangup
			}
			if err := c.suspend(); err != nil {
				return err
			}
		case r := <-results:
			if err, failed := r.(error); failed {
				return err
			}
			m.Update(r)
		case e, ok := <-c.EventQ():
			if !ok {
				return ErrHangup
			}
			if err := c.event(m, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *console) event(m *Model, e tcell.Event) error {
	switch e := e.(type) {
	case *tcell.EventKey:
		switch k := keyOf(e); {
		case k == "" || !e.Pressed():
		case k == "ctrl-z":
			return c.suspend()
		default:
			m.Press(k)
		}
	case *tcell.EventResize:
		c.Sync()
	case *tcell.EventError: // nothing can be read any more
		return fmt.Errorf("%w: %w", ErrHangup, e)
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
