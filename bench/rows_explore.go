//go:build e2e

package main

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"os/exec"
)

const (
	groupExplore = "Exploring images"
	noteExplore  = "From the start until the text is on the screen. docs/explore.md compares dive."
)

// exploreRows measures how long it takes until the first screen, and until the files, of large images.
func (b *bench) exploreRows() []row {
	var rows []row
	for _, count := range []int{50_000, 300_000} {
		name := fmt.Sprintf("explore-%d", count)
		for _, shown := range []struct {
			what, text string
			seconds    float64
		}{{"first screen", "Layers", 0.1}, {"files", "dir-000", 1.5}} {
			rows = append(rows, row{
				group: groupExplore, name: fmt.Sprintf("explore, %s, %d,000 files", shown.what, count/1000), note: noteExplore,
				target: target{Seconds: shown.seconds}, kinds: []kind{kindMica}, store: mainStore,
				setup: func(e engine) error { return importFiles(e, name, count) },
				command: func(e engine) (*exec.Cmd, error) {
					return untilShown(shown.text, e.command("explore", name))
				},
			})
		}
	}
	return rows
}

// importFiles makes an image of one layer with so many small files.
func importFiles(e engine, name string, count int) error {
	cmd := e.command("import", "-", name)
	in, out := io.Pipe()
	cmd.Stdin = in
	go func() {
		buffered := bufio.NewWriter(out)
		w := tar.NewWriter(buffered)
		var err error
		for i := 0; i < count && err == nil; i++ {
			content := fmt.Sprintf("content %d\n", i)
			if err = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir-%03d/sub-%d/file-%d", i/1000, i/100%10, i), Size: int64(len(content)), Mode: 0o644}); err == nil {
				_, err = io.WriteString(w, content)
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			err = buffered.Flush()
		}
		_ = out.CloseWithError(err)
	}()
	return all(cmd)
}
