package convert

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// Extract makes the tree of a layer from its tar, which it reads to the end. The index with this root determines what the tree
// contains and where in the tar the contents are.
func Extract(ctx context.Context, w tree.Writer, r io.Reader, root *index.Node) error {
	plan := index.NewPlan(root)
	if err := tree.MakeDirs(w, plan.Dirs, nil); err != nil {
		return err
	}
	if err := extract(ctx, w, r, plan.Files); err != nil {
		return err
	}
	return w.Finish(plan.Rest, plan.Dirs)
}

// extract makes the files, which are in the order of their contents.
func extract(ctx context.Context, w tree.Writer, r io.Reader, files []*index.Node) error {
	b := tree.NewBatcher(ctx, w)
	defer b.Close()
	x := &extraction{files: b, in: tarstream.CountingReader{R: r}}
	err := x.run(files)
	// A file that cannot be made ends the reading.
	if failed := b.Discard(); failed != nil {
		return failed
	}
	return err
}

// extraction cuts contents out of a tar stream.
type extraction struct {
	files *tree.Batcher
	in    tarstream.CountingReader
}

func (x *extraction) run(files []*index.Node) error {
	for _, n := range files {
		var err error
		switch e := n.Entry; {
		case n.Place.Sparse:
			err = x.sparse(n)
		case e.Size >= tree.LargeFile:
			err = x.large(n)
		default:
			err = x.small(n)
		}
		if err != nil {
			return err
		}
	}
	if err := x.files.Wait(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, &x.in)
	return err
}

// seek reads up to a content.
func (x *extraction) seek(offset int64) error {
	if offset < x.in.N {
		return fmt.Errorf("%w: contents overlap", toc.ErrDamaged)
	}
	_, err := io.CopyN(io.Discard, &x.in, offset-x.in.N)
	return x.early(err)
}

// early explains a tar that ends before the table of contents says. It is then not the layer's, but
// its reader has had no chance to find out.
func (x *extraction) early(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its tar ends too early", toc.ErrDamaged)
	}
	return err
}

func (x *extraction) small(n *index.Node) error {
	content, err := x.files.Small(n.Entry)
	if err != nil || len(content) == 0 {
		return err
	}
	if err := x.seek(n.Place.Offset); err != nil {
		return err
	}
	_, err = io.ReadFull(&x.in, content)
	return x.early(err)
}

func (x *extraction) large(n *index.Node) error {
	if err := x.seek(n.Place.Offset); err != nil {
		return err
	}
	return x.copy(&x.in, n.Entry)
}

// sparse reads an entry from its header on, since the content is not stored as it is.
func (x *extraction) sparse(n *index.Node) error {
	if err := x.seek(n.Place.Offset); err != nil {
		return err
	}
	content, err := tarstream.OpenSparse(&x.in)
	if err != nil {
		return x.early(err)
	}
	return x.copy(content, n.Entry)
}

func (x *extraction) copy(content io.Reader, e *view.Entry) error {
	f, err := x.files.Large(e)
	if err != nil {
		return err
	}
	return tree.CloseFile(f, copyExactly(x.files.Context(), f, content, e))
}
