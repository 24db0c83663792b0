package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/view"
)

// Export writes a filesystem to w as a tar. The same filesystem gives the same bytes. Layers are not unpacked.
func Export(ctx context.Context, w io.Writer, v view.View) error {
	var changes []view.Change
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := v.ReadDir(ctx, dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			c := view.Change{Entry: e}
			if e.Type == view.TypeRegular && e.Hardlink == "" {
				c.Source, c.SourcePath = v, e.Path
			}
			changes = append(changes, c)
			if e.IsDir() {
				if err := walk(e.Path); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("."); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := layer.WriteTar(ctx, w, changes); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}
