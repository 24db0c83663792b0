package imagediff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/micabuild/mica/internal/view"
)

// Bounds on what is compared as text: of one file, and of all differences together.
const (
	maxTextFile = 1 << 20
	maxTexts    = 32 << 20
)

// addTexts compares the contents of changed files as text.
func (w *walk) addTexts(changes []FileChange) error {
	var views [2]view.View
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
		for n := range views {
			if views[n] != nil {
				continue
			}
			var err error
			if views[n], err = w.images[n].Browse(w.ctx); err != nil {
				return err
			}
		}
		if err := addText(w.ctx, views, c); err != nil {
			return fmt.Errorf("compare %s: %w", c.Path, err)
		}
		left -= len(c.Text)
	}
	return nil
}

// addText compares the contents of one file as text.
func addText(ctx context.Context, views [2]view.View, c *FileChange) error {
	if max(c.Old.Size, c.New.Size) > maxTextFile {
		c.NoText = "larger than 1 MiB"
		return nil
	}
	var texts [2]string
	for n, v := range views {
		data, err := readSmall(ctx, v, c.Path[1:], maxTextFile)
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

// readSmall reads a file of at most limit bytes.
func readSmall(ctx context.Context, v view.View, name string, limit int64) (data []byte, err error) {
	f, err := v.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}
