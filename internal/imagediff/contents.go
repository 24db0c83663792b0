package imagediff

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// contents reads files of an image, each from the layer that has it: the others need not be fetched.
type contents struct {
	image *inspect.Image
	root  *index.Node
	views map[digest.Digest]view.View // of layers; of the image by ""
}

func newContents(img *inspect.Image, root *index.Node) *contents {
	return &contents{image: img, root: root, views: map[digest.Digest]view.View{}}
}

// view returns a filesystem that has a file.
func (c *contents) view(ctx context.Context, name string) (view.View, error) {
	var id digest.Digest
	if n := c.root.Descend(name); n != nil {
		id = n.Layer
	}
	if v, ok := c.views[id]; ok {
		return v, nil
	}
	v, err := c.open(ctx, id)
	if err == nil {
		c.views[id] = v
	}
	return v, err
}

func (c *contents) open(ctx context.Context, id digest.Digest) (view.View, error) {
	for _, l := range c.image.Layers {
		if l.DiffID == id && id != "" {
			return l.Browse(ctx)
		}
	}
	return c.image.Browse(ctx)
}

// digest returns the digest of a file's content.
func (c *contents) digest(ctx context.Context, name string) (digest.Digest, error) {
	v, err := c.view(ctx, name)
	if err != nil {
		return "", err
	}
	return v.Digest(ctx, name)
}

// read reads a file of at most limit bytes.
func (c *contents) read(ctx context.Context, name string, limit int64) (data []byte, err error) {
	v, err := c.view(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := v.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}
