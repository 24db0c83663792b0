package layer

import (
	"context"
	"fmt"
	"io"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/view"
)

// WriteTar writes changes to w as the tar that Write would make a layer of. Nothing is stored.
func WriteTar(ctx context.Context, w io.Writer, changes []view.Change) error {
	changes, err := convert.Prepare(changes)
	if err == nil {
		err = convert.FromChanges(changes).WriteTar(ctx, w)
	}
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return nil
}
