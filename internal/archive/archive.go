// Package archive moves images in and out of files: docker save and load, OCI layouts, import and export.
package archive

import (
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

// Names inside archives: Docker's, and those of an OCI image layout (image-spec, image-layout.md).
const (
	manifestName = "manifest.json"
	indexName    = ocispec.ImageIndexFile
	layoutName   = ocispec.ImageLayoutFile
)

// dockerManifest is an entry of Docker's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// imageNameAnnotation holds the full name of an image in an index, as containerd and Docker write it.
const imageNameAnnotation = "io.containerd.image.name"

// blobName is where a blob lies in a layout.
func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// memberName makes an archive's name for a file relative and clean; a name that leads out of the archive is refused.
func memberName(name string) (string, error) {
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("member %q is outside of the archive", name)
	}
	return strings.TrimPrefix(clean, "/"), nil
}
