package analyze

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// copies finds files with the same content, those first that save most. files are sorted by size.
func (a *analysis) copies(files []*filetree.Node) []Copies {
	list := []Copies{}
	for len(files) > 0 {
		size := a.entry(files[0]).Size
		same := 1
		for same < len(files) && a.entry(files[same]).Size == size {
			same++
		}
		if same > 1 {
			list = append(list, a.sameContent(files[:same])...)
		}
		files = files[same:]
	}
	for _, c := range list {
		a.report.Duplicates.Files += len(c.Paths) - 1
		a.report.Duplicates.Bytes += c.saved()
	}
	slices.SortStableFunc(list, func(x, y Copies) int {
		return cmp.Or(cmp.Compare(y.saved(), x.saved()), strings.Compare(x.Paths[0], y.Paths[0]))
	})
	return list
}

// saved is what the image would be smaller with one copy.
func (c *Copies) saved() int64 { return c.Bytes * int64(len(c.Paths)-1) }

// sameContent groups files of one size by their digests. One whose digest is not known is no copy.
func (a *analysis) sameContent(files []*filetree.Node) (list []Copies) {
	paths := map[digest.Digest][]string{}
	for _, n := range files {
		if e := a.entry(n); e.Digest != "" {
			paths[e.Digest] = append(paths[e.Digest], n.Path())
		}
	}
	for d, p := range paths {
		if len(p) > 1 {
			slices.Sort(p)
			list = append(list, Copies{Digest: d, Bytes: a.entry(files[0]).Size, Paths: p})
		}
	}
	return list
}
