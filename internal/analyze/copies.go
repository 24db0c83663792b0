package analyze

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/analyze/filetree"
)

// copies finds files with the same content, those first that save most. files are sorted by size.
func (a *analysis) copies(files []*filetree.Node) []Copies {
	list := []Copies{}
	for len(files) > 0 {
		size := a.size(files[0])
		same := 1
		for same < len(files) && a.size(files[same]) == size {
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

// sameContent groups files of one size by their digests. One whose digest is not known is no copy. Most files have no copy: paths are
// made of those only that share the beginning of their digests with others.
func (a *analysis) sameContent(files []*filetree.Node) (list []Copies) {
	type file struct {
		beginning uint64
		node      *filetree.Node
	}
	known := make([]file, 0, len(files))
	for _, n := range files {
		if sum, ok := a.tree.Sum(n.At(a.tree.Layers)); ok {
			known = append(known, file{binary.BigEndian.Uint64(sum[:]), n})
		}
	}
	slices.SortFunc(known, func(x, y file) int { return cmp.Compare(x.beginning, y.beginning) })
	for len(known) > 0 {
		alike := 1
		for alike < len(known) && known[alike].beginning == known[0].beginning {
			alike++
		}
		if alike > 1 {
			paths := map[[32]byte][]string{}
			for _, f := range known[:alike] {
				sum, _ := a.tree.Sum(f.node.At(a.tree.Layers))
				paths[sum] = append(paths[sum], f.node.Path())
			}
			list = append(list, copiesOf(paths, a.size(files[0]))...)
		}
		known = known[alike:]
	}
	return list
}

// copiesOf are those of the files of one size, by their digests, that there are more than one of.
func copiesOf(paths map[[32]byte][]string, size int64) (list []Copies) {
	for sum, p := range paths {
		if len(p) > 1 {
			slices.Sort(p)
			list = append(list, Copies{Digest: digest.NewDigestFromBytes(digest.SHA256, sum[:]), Bytes: size, Paths: p})
		}
	}
	return list
}
