package uicmd

import (
	"context"
	"fmt"
	"html"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// browser shows a page in the user's browser. An ordinary user's mica starts again in a user namespace, in which it seems to be root and
// browsers do not start: the process outside waits for a file that the one inside writes. The file has the URL; on a command line every
// user of the host could read the token.
type browser struct{ dir string }

// openVariable tells the process in the user namespace where the file belongs.
const openVariable = "_MICA_UI_OPEN"

const openFile = "mica.html"

// newBrowser prepares to open a page. It is called before the user namespace is entered, and again in it.
func newBrowser(ctx context.Context, stderr io.Writer) (browser, error) {
	if dir := os.Getenv(openVariable); dir != "" {
		return browser{dir}, nil
	}
	dir, err := os.MkdirTemp("", "mica-ui-")
	if err != nil {
		return browser{}, fmt.Errorf("open the browser: %w", err)
	}
	b := browser{dir}
	if err := os.Setenv(openVariable, dir); err != nil {
		return b, fmt.Errorf("open the browser: %w", err)
	}
	go b.wait(ctx, stderr)
	return b, nil
}

func (b browser) remove() {
	_ = os.RemoveAll(b.dir) // it is empty but for the file
	_ = os.Unsetenv(openVariable)
}

// show writes the file that leads to a URL.
func (b browser) show(url string) error {
	page := `<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>mica</title><meta http-equiv="refresh" content="0;url=` + html.EscapeString(url) + `">`
	name := filepath.Join(b.dir, openFile)
	err := os.WriteFile(name+".part", []byte(page), 0o600)
	if err == nil {
		err = os.Rename(name+".part", name)
	}
	if err != nil {
		return fmt.Errorf("open the browser: %w", err)
	}
	return nil
}

// wait opens the file when it is there.
func (b browser) wait(ctx context.Context, stderr io.Writer) {
	const often = 20 * time.Millisecond
	name := filepath.Join(b.dir, openFile)
	for {
		if _, err := os.Stat(name); err == nil {
			break
		}
		select {
		case <-time.After(often):
		case <-ctx.Done():
			return
		}
	}
	cmd := exec.CommandContext(ctx, "xdg-open", name)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, openVariable+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "NOTE: the browser was not opened: %v; open the URL yourself\n", err)
	}
}
