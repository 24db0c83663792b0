package layer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/pipe"
	"github.com/micabuild/mica/internal/view"
)

// Write makes a layer of changes, in the form asked. Each file is read once. No changes make the empty layer. Changes
// name the directories that they are in, as far as those have metadata of their own: a directory that no change
// describes is 0755, of root.
func (l *Layers) Write(ctx context.Context, changes []view.Change, form Form) (*Layer, error) {
	changes, entries, err := layerEntries(changes)
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	if err := expectDigests(ctx, changes, entries); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	temp, err := l.store.TempDir("layer")
	if err != nil {
		return nil, err
	}
	defer func() { _ = temp.Remove() }()
	r := &recording{entries: entries, known: knownDigests(ctx, changes), open: func(ctx context.Context, i int) (io.ReadCloser, error) {
		c := &changes[i]
		if c.Source == nil {
			return nil, fmt.Errorf("%q has no content", c.Entry.Path)
		}
		return c.Source.Open(ctx, c.SourcePath)
	}}
	d := &draft{temp: temp}
	if form == Packed {
		err = l.writePacked(ctx, r, d)
	} else {
		err = l.writeUnpacked(ctx, r, d)
	}
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return l.install(ctx, d)
}

// expectDigests fills in the digests of files of other layers whose tables of contents do not have them yet: what is read is
// compared with what it should be, whether a cache key was made of that or not.
func expectDigests(ctx context.Context, changes []view.Change, entries []*view.Entry) error {
	for i, e := range entries {
		from, ok := changes[i].Source.(*chainView)
		if !ok || e.Digest != "" || !hasContent(e) {
			continue
		}
		d, err := from.Digest(ctx, changes[i].SourcePath)
		if err != nil {
			return err
		}
		entries[i] = e.Clone()
		entries[i].Digest = d
	}
	return nil
}

// knownDigests returns the digests of the changes' contents that need not be computed, zeros for the others; nil for none.
func knownDigests(ctx context.Context, changes []view.Change) [][sha256.Size]byte {
	var known [][sha256.Size]byte
	for i, c := range changes {
		from, ok := c.Source.(view.Known)
		if !ok || !hasContent(c.Entry) {
			continue
		}
		d, ok := from.KnownDigest(ctx, c.SourcePath)
		if !ok {
			continue
		}
		if known == nil {
			known = make([][sha256.Size]byte, len(changes))
		}
		known[i] = [sha256.Size]byte(toc.RawDigest(d))
	}
	return known
}

// writePacked writes the tar as a blob.
func (l *Layers) writePacked(ctx context.Context, r *recording, d *draft) error {
	blob, err := l.store.NewBlob()
	if err != nil {
		return err
	}
	defer func() { _ = blob.Close() }()
	out := pipe.NewWriter(blob)
	err = r.run(ctx, out)
	if closeErr := out.Close(); closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	id, err := blob.Commit("")
	if err != nil {
		return err
	}
	d.finish(r, id)
	d.pack = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: r.tar.Offset()}}
	return nil
}

// writeUnpacked writes a tree, and hashes the equivalent tar.
func (l *Layers) writeUnpacked(ctx context.Context, r *recording, d *draft) error {
	w, err := l.trees.Create(d.temp.Path)
	if err != nil {
		return err
	}
	defer w.Close()
	d.tree = w.Path()
	dirs := directories(r.entries)
	if err := tree.MakeDirs(w, dirs, nil); err != nil {
		return err
	}
	r.tree = w
	if err := r.hash(ctx, d); err != nil {
		return err
	}
	return w.Finish(r.entries, dirs)
}

// hash hashes the tar without keeping it, and makes its table of contents the draft's.
func (r *recording) hash(ctx context.Context, d *draft) error {
	hash := sha256.New()
	out := pipe.NewWriter(hash)
	err := r.run(ctx, out)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	d.finish(r, digest.NewDigest(digest.SHA256, hash))
	return nil
}

func (d *draft) finish(r *recording, id digest.Digest) {
	d.toc, d.sum = r.table.Finish(id, r.tar.Offset(), true)
}

// layerEntries returns the entries of changes in the order of the tar. The first name of a hardlinked file, in that
// order, is made the one with the content.
func layerEntries(changes []view.Change) ([]view.Change, []*view.Entry, error) {
	byPath := func(a, b view.Change) int { return cmp.Compare(a.Entry.Path, b.Entry.Path) }
	kept := slices.DeleteFunc(slices.Clone(changes), func(c view.Change) bool { return c.Entry.Type == view.TypeSocket })
	if !slices.IsSortedFunc(kept, byPath) {
		slices.SortStableFunc(kept, byPath)
	}
	if err := firstLinks(kept); err != nil {
		return nil, nil, err
	}
	entries := make([]*view.Entry, len(kept))
	for i, c := range kept {
		if err := tarstream.CheckEntry(c.Entry); err != nil {
			return nil, nil, err
		}
		if i > 0 && entries[i-1].Path == c.Entry.Path {
			return nil, nil, fmt.Errorf("%q is there twice", c.Entry.Path)
		}
		entries[i] = c.Entry
	}
	return kept, entries, nil
}

// firstLinks rewrites hardlinks so that each names an earlier change. Entries are shared and are copied before.
func firstLinks(changes []view.Change) error {
	var groups map[string][]int // changes of one file, by the name that its hardlinks give it
	for i, c := range changes {
		if c.Entry.Hardlink != "" {
			if groups == nil {
				groups = make(map[string][]int)
			}
			groups[c.Entry.Hardlink] = append(groups[c.Entry.Hardlink], i)
		}
	}
	if groups == nil {
		return nil
	}
	content := make(map[string]view.Change)
	for i, c := range changes {
		if c.Entry.Hardlink == "" && groups[c.Entry.Path] != nil {
			content[c.Entry.Path] = c
			groups[c.Entry.Path] = append(groups[c.Entry.Path], i)
		}
	}
	for name, members := range groups {
		slices.Sort(members)
		source, ok := content[name]
		if !ok {
			source = changes[members[0]]
		}
		if source.Source == nil && source.Entry.Type == view.TypeRegular && source.Entry.Size > 0 {
			return fmt.Errorf("%q is a hard link to %q, which is not among the changes", changes[members[0]].Entry.Path, name)
		}
		first := changes[members[0]].Entry.Path
		for n, i := range members {
			e := changes[i].Entry.Clone()
			e.Hardlink = ""
			if n > 0 {
				e.Hardlink = first
			}
			changes[i] = view.Change{Entry: e}
			if n == 0 {
				changes[i].Source, changes[i].SourcePath = source.Source, source.SourcePath
			}
		}
	}
	return nil
}

// directories returns the directories of sorted entries, with those that the names of others imply and the root.
func directories(entries []*view.Entry) []*view.Entry {
	root := index.ImpliedDir(".")
	if i := slices.IndexFunc(entries, func(e *view.Entry) bool { return e.Path == "." }); i >= 0 {
		root = entries[i] // not always the first: some names sort before it
	}
	list := append(make([]*view.Entry, 0, 64), root)
	have := map[string]bool{".": true}
	var imply func(dir string)
	imply = func(dir string) {
		if have[dir] {
			return
		}
		parent, _ := view.Split(dir)
		imply(parent)
		have[dir] = true
		list = append(list, index.ImpliedDir(dir))
	}
	for _, e := range entries {
		if e.Path == "." {
			continue
		}
		parent, _ := view.Split(e.Path)
		imply(parent)
		if e.IsDir() {
			have[e.Path] = true
			list = append(list, e)
		}
	}
	return list
}
