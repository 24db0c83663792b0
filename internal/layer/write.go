package layer

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/convert"
	"github.com/micabuild/mica/internal/view"
)

// Write makes a layer of changes, in the form asked. Each file is read once. No changes make the empty layer. Changes
// name the directories that they are in, as far as those have metadata of their own: a directory that no change
// describes is 0755, of root.
func (l *Layers) Write(ctx context.Context, changes []view.Change, form Form) (*Layer, error) {
	changes, err := convert.Prepare(changes)
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	if err := expectDigests(ctx, changes); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	temp, err := l.store.TempDir("layer")
	if err != nil {
		return nil, err
	}
	defer func() { _ = temp.Remove() }()
	r := convert.FromChanges(changes)
	r.SkipKnown(ctx, changes)
	d := &draft{temp: temp}
	if form == AsBlob {
		err = l.writeBlob(ctx, r, d)
	} else {
		err = l.writeTree(ctx, r, d)
	}
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return l.install(ctx, d)
}

// expectDigests fills in the digests of files of other layers whose tables of contents do not have them yet: the content that is read
// must be the one that cache keys may have been computed from.
func expectDigests(ctx context.Context, changes []view.Change) error {
	for i, c := range changes {
		from, ok := c.Source.(*chainView)
		if !ok || c.Entry.Digest != "" || !convert.HasContent(c.Entry) {
			continue
		}
		d, err := from.Digest(ctx, c.SourcePath)
		if err != nil {
			return err
		}
		changes[i].Entry = c.Entry.Clone()
		changes[i].Entry.Digest = d
	}
	return nil
}

// writeBlob writes the tar as a blob.
func (l *Layers) writeBlob(ctx context.Context, r *convert.Recorder, d *draft) error {
	blob, err := l.store.NewBlob()
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	if err := r.WriteTar(ctx, blob); err != nil {
		return err
	}
	id, err := blob.Commit("")
	if err != nil {
		return err
	}
	d.toc, d.sum = r.Table(id)
	d.blobs.Stored = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: r.Size()}}
	return nil
}

// writeTree writes a tree, and hashes the equivalent tar.
func (l *Layers) writeTree(ctx context.Context, r *convert.Recorder, d *draft) error {
	w, err := l.trees.Create(d.temp.Path)
	if err != nil {
		return err
	}
	defer w.Close()
	d.tree = w.Path()
	id, err := r.WriteTree(ctx, w)
	if err != nil {
		return err
	}
	d.toc, d.sum = r.Table(id)
	return nil
}
