// Package analyze finds out what the layers of an image are made of: what of them is wasted, what makes them large, and what was
// left in them by mistake. It reads tables of contents, and the content of few and small files. It knows nothing of a terminal.
package analyze

import (
	"context"
	"errors"
	"fmt"
	"io"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/layer/toc"
)

// Image is what is analyzed, wherever it is.
type Image struct {
	Name   string
	ID     digest.Digest // "" if it has none
	Config dockerspec.DockerOCIImage
	Layers []Layer // bottom first
	// AddDigests computes the digests of files that the tables of contents lack; nil if nothing can.
	AddDigests func(ctx context.Context) error
}

// Layer is one layer of an image.
type Layer struct {
	DiffID digest.Digest
	Size   int64 // as Docker counts it, in bytes; -1 if only the table of contents tells
	List   func(ctx context.Context) (toc.List, error)
	// Read calls visit with the content of regular files of the layer, in any order, until it fails. It is nil where contents are
	// not read, as those of a registry.
	Read func(ctx context.Context, paths []string, visit func(path string, content io.Reader) error) error
}

// errNoTable is the error of a layer of which nobody knows the files.
var errNoTable = errors.New("the layer has no table of contents")

// Load reads the tables of contents of an image.
func Load(ctx context.Context, img *Image) (*filetree.Tree, error) {
	tables, err := lists(ctx, img)
	if err != nil {
		return nil, err
	}
	tree := filetree.New()
	for i, table := range tables {
		if l := &img.Layers[i]; l.Size < 0 {
			l.Size = table.Info().Size
		}
		tree.Add(table)
	}
	return tree, ctx.Err()
}

// lists reads the tables of contents.
func lists(ctx context.Context, img *Image) (tables []toc.List, err error) {
	for _, l := range img.Layers {
		if l.List == nil {
			return nil, fmt.Errorf("layer %s: %w", l.DiffID, errNoTable)
		}
		table, err := l.List(ctx)
		if err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, nil
}
