// Package chrome drives Debian's Chromium over the DevTools protocol, and notes what goes wrong on a page.
package chrome

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Tab is a tab of a browser with a page of mica ui.
type Tab struct {
	ctx  context.Context
	base string // of the URLs that the page may ask for

	mu       sync.Mutex
	problems []string
}

// Open starts a browser, and opens the URL that mica ui printed. The function that it returns ends the browser.
func Open(ctx context.Context, url string) (*Tab, func(), error) {
	options := chromedp.DefaultExecAllocatorOptions[:]
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, endBrowser := chromedp.NewExecAllocator(ctx, options...)
	ctx, endTab := chromedp.NewContext(ctx)
	end := func() { endTab(); endBrowser() }
	base, _, _ := strings.Cut(url, "?")
	t := &Tab{ctx: ctx, base: base}
	err := chromedp.Listen(ctx, t.notice)
	if err == nil {
		_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	}
	if err == nil {
		err = chromedp.Do(ctx, chromedp.Navigate(url))
	}
	if err == nil {
		err = t.Wait(`location.search === "" && document.getElementById("main")?.getAttribute("aria-busy") === "false"`)
	}
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("open %s: %w", url, err)
	}
	return t, end, nil
}

// notice notes errors of scripts, messages on the console, violations of the security policy, failed requests, and requests that go elsewhere.
func (t *Tab) notice(ev any) {
	problem := ""
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			problem += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		problem = fmt.Sprintf("console %s", e.Type)
	case *log.EventEntryAdded:
		problem = fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL)
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, t.base) {
			problem = "request to " + e.Request.URL
		}
	}
	if problem != "" {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.problems = append(t.problems, problem)
	}
}

// Problems returns what went wrong since the last call.
func (t *Tab) Problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.problems
	t.problems = nil
	return p
}

// Look sets the size of the window, and the theme of the system.
func (t *Tab) Look(width, height int, scheme string) error {
	_, err := chromedp.Call(t.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	return errors.Join(err, chromedp.Do(t.ctx, chromedp.EmulateViewport(int64(width), int64(height))))
}

// Go shows a view, by the part of the address after #, and waits for it.
func (t *Tab) Go(hash string) error {
	if err := Run(t, fmt.Sprintf("location.hash = %q", hash)); err != nil {
		return err
	}
	return t.Wait(fmt.Sprintf(`document.getElementById("main").getAttribute("aria-busy") === "false" && document.getElementById("main").dataset.shows === %q`, hash))
}

// Press presses a key.
func (t *Tab) Press(key string) error { return chromedp.Do(t.ctx, chromedp.KeyEvent(key)) }

// patience is how long a condition may take. The machine may be busy.
const patience = 20 * time.Second

// Wait waits until an expression is true.
func (t *Tab) Wait(condition string) error {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			text, _ := chromedp.Run(t.ctx, chromedp.Evaluate[string]("document.activeElement?.outerHTML?.slice(0, 200) + '\\n' + document.body.innerText.slice(0, 1500)"))
			return fmt.Errorf("never: %s (%w)\n%s", condition, errors.Join(err, ctx.Err()), text)
		}
		select { // a navigation loses the answer
		case <-time.After(15 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// Run runs a script, whose result it ignores.
func Run(t *Tab, script string) error {
	return chromedp.Do(t.ctx, chromedp.Evaluate[chromedp.Void](script))
}

// Value returns the value of an expression.
func Value[T any](t *Tab, expression string) (T, error) {
	return chromedp.Run(t.ctx, chromedp.Evaluate[T](expression))
}

// Picture returns the window as a picture of a format: webp or png.
func (t *Tab) Picture(format string) ([]byte, error) {
	quality := int64(82)
	res, err := chromedp.Call(t.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormat(format), Quality: &quality})
	return res.Data, err
}
