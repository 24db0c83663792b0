package layer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Verify reads all there is of a layer: every pack, and the table of contents, against the DiffID, and the tree against
// the table of contents. The error, if any, is store.ErrDamaged and says what is wrong.
func (l *Layers) Verify(ctx context.Context, id digest.Digest) error {
	t, err := l.TOC(ctx, id)
	if err == nil && t.Undigested {
		if _, err = l.withDigests(ctx, id); err == nil {
			t, err = l.TOC(ctx, id)
		}
	}
	if err != nil {
		return err
	}
	packs, err := l.packs(id)
	if err != nil {
		return err
	}
	for _, pack := range packs {
		if err := l.verifyPack(ctx, t, pack); err != nil {
			return err
		}
	}
	switch {
	case l.unpacked(id):
		return l.verifyTree(ctx, t)
	case len(packs) == 0 && len(t.Entries) > 0:
		return fail(id, fmt.Errorf("%w: it has neither a blob nor a tree", store.ErrDamaged))
	}
	return nil
}

// verifyPack compares a blob with the layer's identity, and what it holds with the table of contents.
func (l *Layers) verifyPack(ctx context.Context, t *toc.Table, pack ocispec.Descriptor) error {
	id := t.DiffID
	packed, err := l.openPack(ctx, id, []ocispec.Descriptor{pack})
	if err != nil {
		return err
	}
	defer func() { _ = packed.Close() }()
	table, _, err := parseTar(ctx, packed)
	if err != nil {
		return err
	}
	if have := table.Summary(); have.Count != t.Count || have.Size != t.Size {
		return fail(id, toc.ErrDamaged)
	}
	return nil
}

// damagedTree says which file of a tree is not what it should be.
func damagedTree(id digest.Digest, name string) error {
	return fail(id, fmt.Errorf("its tree is %w: %q is not as it was", store.ErrDamaged, name))
}

// verifyTree compares every file of a tree with the table of contents, and its content with its digest.
func (l *Layers) verifyTree(ctx context.Context, t *toc.Table) error {
	if err := l.inspectTree(ctx, t.DiffID); err != nil {
		return err
	}
	return l.verifyContents(ctx, t)
}

// inspectTree compares what lstat says of every file of a tree with the table of contents. What the host could not represent
// when the tree was made (owners, devices, attributes in a user namespace) is not missed.
func (l *Layers) inspectTree(ctx context.Context, id digest.Digest) error {
	tree, err := l.openTree(id)
	if err != nil {
		return fail(id, err)
	}
	defer tree.close()
	have, err := tree.walk(ctx)
	if err != nil {
		return fail(id, err)
	}
	root, err := l.indexOf(ctx, id)
	if err != nil {
		return err
	}
	want := index.NewPlan(root).Entries()
	rules := l.host()
	if rules.userns {
		want, have = withoutDevices(want, have)
	}
	for i, e := range want {
		if i >= len(have) || have[i].Path != e.Path || !rules.same(have[i], e) {
			return damagedTree(id, e.Path)
		}
	}
	if len(have) > len(want) {
		return damagedTree(id, have[len(want)].Path)
	}
	return nil
}

// withoutDevices leaves devices out of what a tree should have, and the whiteouts in their places out of what it has.
func withoutDevices(want, have []*view.Entry) (wanted, had []*view.Entry) {
	left := map[string]bool{}
	for _, e := range want {
		if toc.IsDevice(e) {
			left[e.Path] = true
		}
	}
	drop := func(e *view.Entry) bool { return left[e.Path] && (toc.IsDevice(e) || e.Type == view.TypeWhiteout) }
	return slices.DeleteFunc(want, drop), slices.DeleteFunc(have, drop)
}

// same compares what lstat says of a file with its entry.
func (h hostRules) same(have, want *view.Entry) bool {
	if have.Type != want.Type || have.Opaque != want.Opaque || have.Hardlink != want.Hardlink {
		return false
	}
	if want.Type == view.TypeWhiteout {
		return true
	}
	mode := have.Mode == want.Mode || want.Type == view.TypeSymlink
	owner := h.userns || have.UID == want.UID && have.GID == want.GID
	attrs := h.userns || maps.Equal(have.Xattrs, want.Xattrs)
	return mode && owner && attrs && have.Size == want.Size && have.Linkname == want.Linkname &&
		have.Major == want.Major && have.Minor == want.Minor && sameTime(have.ModTime, want.ModTime)
}

// verifyContents digests the files of a tree.
func (l *Layers) verifyContents(ctx context.Context, t *toc.Table) error {
	root, err := index.FromTable(t)
	if err != nil {
		return err
	}
	tree, err := l.openTree(t.DiffID)
	if err != nil {
		return err
	}
	defer tree.close()
	for _, n := range index.NewPlan(root).Files {
		e := n.Entry
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := tree.open(e.Path)
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		if digest.NewDigest(digest.SHA256, hash) != e.Digest {
			return damagedTree(t.DiffID, e.Path)
		}
	}
	return nil
}
