// Package transfer moves images between registries, layouts and the store: it pulls, pushes and copies them, keeps
// manifest lists until they are pushed, and has build caches in repositories. Package registry speaks the protocol.
package transfer

import (
	"strings"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
)

// Local is the store that images are pulled into and pushed from.
type Local struct {
	Store  *store.Store
	Layers *layer.Layers
	Images *image.Images
}

// parallelLayers is how many layers of an image are sent or received at once.
const parallelLayers = 4

// short is a digest as people compare them.
func short(d string) string {
	_, hex, _ := strings.Cut(d, ":")
	return hex[:min(12, len(hex))]
}
