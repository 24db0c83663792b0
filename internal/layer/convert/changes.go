package convert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/micabuild/mica/internal/layer/tarstream"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// FromChanges returns a Recorder of changes that are prepared.
func FromChanges(changes []view.Change) *Recorder {
	entries := make([]*view.Entry, len(changes))
	for i, c := range changes {
		entries[i] = c.Entry
	}
	return &Recorder{entries: entries, open: func(ctx context.Context, i int) (io.ReadCloser, error) {
		c := &changes[i]
		if c.Source == nil {
			return nil, fmt.Errorf("%q has no content", c.Entry.Path)
		}
		return c.Source.Open(ctx, c.SourcePath)
	}}
}

// SkipKnown has the digests of contents not computed that the sources of the changes know.
func (r *Recorder) SkipKnown(ctx context.Context, changes []view.Change) {
	for i, c := range changes {
		from, ok := c.Source.(view.Known)
		if !ok || !HasContent(c.Entry) {
			continue
		}
		d, ok := from.KnownDigest(ctx, c.SourcePath)
		if !ok {
			continue
		}
		if r.known == nil {
			r.known = make([][sha256.Size]byte, len(changes))
		}
		r.known[i] = [sha256.Size]byte(toc.RawDigest(d))
	}
}

// Prepare returns changes in the order of the tar. The first name of a hardlinked file, in that
// order, becomes the one with the content.
func Prepare(changes []view.Change) ([]view.Change, error) {
	byPath := func(a, b view.Change) int { return cmp.Compare(a.Entry.Path, b.Entry.Path) }
	kept := slices.DeleteFunc(slices.Clone(changes), func(c view.Change) bool { return c.Entry.Type == view.TypeSocket })
	if !slices.IsSortedFunc(kept, byPath) {
		slices.SortStableFunc(kept, byPath)
	}
	if err := firstLinks(kept); err != nil {
		return nil, err
	}
	for i, c := range kept {
		if err := tarstream.CheckEntry(c.Entry); err != nil {
			return nil, err
		}
		if i > 0 && kept[i-1].Entry.Path == c.Entry.Path {
			return nil, fmt.Errorf("%q is there twice", c.Entry.Path)
		}
	}
	return kept, nil
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
