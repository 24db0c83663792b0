package imagediff

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"golang.org/x/sys/unix"
)

// Bounds on what is compared as text: of one file, and of all differences together.
const (
	maxTextFile = 1 << 20
	maxTexts    = 32 << 20
)

// addTexts compares the contents of changed files as text.
func (w *walk) addTexts(changes []FileChange) error {
	left := maxTexts
	for i := range changes {
		c := &changes[i]
		if !slices.Contains(c.Aspects, Content) || !w.text.match(c.Path[1:]) {
			continue
		}
		if left <= 0 {
			c.NoText = "too many differences"
			continue
		}
		if err := w.addText(c); err != nil {
			return fmt.Errorf("compare %s: %w", c.Path, err)
		}
		left -= len(c.Text)
	}
	return nil
}

// addText compares the contents of one file as text.
func (w *walk) addText(c *FileChange) error {
	if max(c.Old.Size, c.New.Size) > maxTextFile {
		c.NoText = "larger than 1 MiB"
		return nil
	}
	var texts [2]string
	for n, contents := range w.contents {
		data, err := contents.read(w.ctx, c.Path[1:], maxTextFile)
		if errors.Is(err, unix.ENAMETOOLONG) {
			c.NoText = "its path is too long to be opened"
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.IndexByte(data, 0) >= 0 {
			c.NoText = "binary"
			return nil
		}
		texts[n] = string(data)
	}
	c.Text = udiff.Unified(label("a"+c.Path), label("b"+c.Path), texts[0], texts[1])
	return nil
}

// label is a path in the header of a unified diff: as it is, or in quotes if it would be taken for several fields or lines.
func label(path string) string {
	if strings.ContainsAny(path, "\t\n\r\"\\") {
		return strconv.Quote(path)
	}
	return path
}
