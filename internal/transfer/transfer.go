// Package transfer moves images between registries, layouts, archives and the store: pull, push, copy, save, load, import and
// export. It also has manifest lists that are not pushed yet, and build caches in repositories. Package registry is the client
// of the protocol.
package transfer

import (
	"strings"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// Local is the store of images.
type Local struct {
	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images
}

// parallelLayers limits the layers of an image that are pushed or pulled at the same time.
const parallelLayers = 4

// short returns the first digits of a digest, for errors.
func short(d string) string {
	_, hex, _ := strings.Cut(d, ":")
	return hex[:min(12, len(hex))]
}
