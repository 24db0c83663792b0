// Command pictures writes the pictures of mica ui in the documentation. scripts/ui-pictures runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/micabuild/mica/test/browser/chrome"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// picture is a view in a window, after a script that clicks.
type picture struct {
	name, hash, click string
	height            int
	scheme            string
}

const width = 1200

func run(url, dir, build string) error {
	tab, end, err := chrome.Open(context.Background(), url)
	if err != nil {
		return err
	}
	defer end()
	for _, p := range []picture{
		{"ui-build", "#/build/" + build, `[...document.querySelectorAll(".gantt button")].find((b) => b.textContent.includes("RUN greeter")).click()`, 990, "light"},
		{"ui-image", "#/image/greeter/layers", `[...document.querySelectorAll(".layers button")].at(-3).click()`, 760, "dark"},
		{"ui-sizes", "#/image/greeter/sizes", "", 860, "light"},
	} {
		if err := take(tab, p, dir); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func take(tab *chrome.Tab, p picture, dir string) error {
	if err := tab.Look(width, p.height, p.scheme); err != nil {
		return err
	}
	if err := tab.Go(p.hash); err != nil {
		return err
	}
	if p.click != "" {
		if err := chrome.Run(tab, p.click+"; document.activeElement.blur(); scrollTo(0, 0)"); err != nil {
			return err
		}
	}
	data, err := tab.Picture("webp")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, p.name+".webp"), data, 0o644)
}
