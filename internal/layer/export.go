package layer

import (
	"context"
	"fmt"
	"io"

	"github.com/micabuild/mica/internal/view"
)

// WriteTar writes changes to w as the canonical tar that Write would make a layer of; nothing is stored.
func WriteTar(ctx context.Context, w io.Writer, changes []view.Change) error {
	changes, entries, err := layerEntries(changes)
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	r := &recording{entries: entries, open: func(ctx context.Context, i int) (io.ReadCloser, error) {
		return changes[i].Source.Open(ctx, changes[i].SourcePath)
	}}
	if err := r.run(ctx, w); err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}
