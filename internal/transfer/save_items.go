package transfer

import (
	"context"
	"slices"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

// Items finds what is to be saved, as docker save does: a name with its tag, a repository with all of its tags, an ID without a name.
// Of an index, these are the platforms in the store, or the given ones. The caller holds store.Use.
func (local *Local) Items(ctx context.Context, refs []string, platforms []ocispec.Platform) ([]Item, error) {
	var items []Item
	add := func(ref, name string) error {
		it, err := local.item(ctx, ref, platforms)
		if err != nil {
			return err
		}
		if name == "" {
			name = local.nameOf(ref)
		}
		i := slices.IndexFunc(items, func(other Item) bool {
			return other.Image.ID == it.Image.ID && other.Root.Digest == it.Root.Digest
		})
		if i < 0 {
			i, items = len(items), append(items, *it)
		}
		if name != "" {
			items[i].Names = append(items[i].Names, name)
		}
		return nil
	}
	for _, ref := range refs {
		tagged, err := local.Images.RepositoryTags(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, t := range tagged {
			if err := add(t, t); err != nil {
				return nil, err
			}
		}
		if len(tagged) > 0 {
			continue
		}
		if err := add(ref, ""); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// item returns the image or index that a name refers to.
func (local *Local) item(ctx context.Context, ref string, platforms []ocispec.Platform) (*Item, error) {
	it := &Item{Platforms: platforms}
	for i := range max(1, len(platforms)) {
		var want *ocispec.Platform
		if len(platforms) > 0 {
			want = &platforms[i]
		}
		img, err := local.Images.FindFor(ctx, ref, want)
		if err != nil {
			return nil, err
		}
		if it.Image == nil {
			it.Image = img
		}
	}
	if len(platforms) != 1 && oci.IsIndex(it.Image.Root.MediaType) {
		it.Root = it.Image.Root
	}
	return it, nil
}

// nameOf returns the full name that was typed; "" for an ID, or a name by digest.
func (local *Local) nameOf(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	full, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return ""
	}
	if _, digested := named.(reference.Digested); digested {
		return ""
	}
	if _, err := local.Store.Names().Get(full.String()); err != nil {
		return ""
	}
	return full.String()
}
