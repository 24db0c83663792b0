package imagediff

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
)

// Of some layers in a registry only the table of contents is read that their publisher has made. It may show a difference. That there is
// none is said of layers that were fetched and verified.

// own returns the layers that two images do not have in common, of both.
func own(a, b *inspect.Image) []*inspect.Layer {
	shared := commonLayers(a, b)
	return slices.Concat(a.Layers[shared:], b.Layers[shared:])
}

// sameFiles reports whether files were compared, and none differs.
func (r *Report) sameFiles() bool { return r.Files != nil && len(r.Files.Changes) == 0 }

// verify fetches the layers that two images do not have in common. It reports whether there were unverified ones.
func verify(ctx context.Context, a, b *inspect.Image) (fetched bool, err error) {
	unverified := slices.DeleteFunc(own(a, b), func(l *inspect.Layer) bool { return !l.Unverified() })
	return len(unverified) > 0, inParallel(ctx, unverified, (*inspect.Layer).Fetch)
}

// addUnverified notes the layers whose differences are those of tables of contents.
func (r *Report) addUnverified(a, b *inspect.Image) {
	for _, img := range []*inspect.Image{a, b} {
		if n := img.Unverified(); n > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: the files of %d of %d layers are those of the registry's tables of contents, which are checked when the layers are pulled", img.Name, n, len(img.Layers)))
		}
	}
}

// coarse returns the layers whose times are known in whole seconds.
func coarse(images ...*inspect.Image) map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	for _, img := range images {
		for _, l := range img.Layers {
			if l.Coarse() {
				found[l.DiffID] = true
			}
		}
	}
	return found
}
