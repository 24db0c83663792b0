// Package archive moves images in and out of files: docker save and load, OCI layouts, import and export.
package archive

import (
	"context"
	"io"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// Archives reads and writes images of a store.
type Archives struct {
	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images
}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
