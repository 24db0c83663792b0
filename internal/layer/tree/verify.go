package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// Check is what Verify compares a tree with, and how far it goes.
type Check struct {
	Table *toc.Table
	// Contents: everything is read. Without it type, mode, size and time of every file are compared, which takes about a
	// microsecond per file: what damage changes, and what somebody has changed without hiding it.
	Contents bool
	// Replaceable reports whether the tree can be made again. If so, an image that a power cut may have damaged is not read, but
	// store.ErrDamaged.
	Replaceable func() (bool, error)
}

// Verify compares the tree in a layer's directory with the layer's table of contents: store.ErrDamaged.
func (h *Host) Verify(ctx context.Context, dir string, c Check) error {
	t, err := h.Open(dir)
	if err != nil {
		return err
	}
	defer t.Close()
	durable, mark := true, func() {}
	if i, ok := t.(*image); ok {
		durable, mark = i.durable()
	}
	if !c.Contents && !durable && c.Replaceable != nil {
		replaceable, err := c.Replaceable()
		if err != nil {
			return err
		}
		if replaceable {
			return fmt.Errorf("its tree may be %w: the machine was restarted soon after it was made", store.ErrDamaged)
		}
	}
	// A tar that has a name twice, for example, differs from its tree in what unchanged looks at.
	listed := c.Contents || !unchanged(t, c.Table.Entries)
	if err := h.compare(ctx, t, c.Table, listed, c.Contents || !durable); err != nil {
		return err
	}
	mark()
	return nil
}

// errChanged ends the other goroutines of unchanged.
var errChanged = errors.New("changed")

// unchanged reports whether type, mode, size and time of every file are as in its entry. A file that was added or removed changes the
// time of its directory, so that no directory is listed.
func unchanged(t Tree, entries []*view.Entry) bool {
	var g errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for i := range workers {
		from, to := i*len(entries)/workers, (i+1)*len(entries)/workers
		g.Go(crash.Guard(func() error {
			if !t.unchanged(entries[from:to]) {
				return errChanged
			}
			return nil
		}))
	}
	return g.Wait() == nil
}

// compare compares a tree with its table of contents, as far as asked.
func (h *Host) compare(ctx context.Context, t Tree, table *toc.Table, metadata, contents bool) error {
	if !metadata && !contents {
		return nil
	}
	root, err := index.FromTable(table)
	if err != nil {
		return err
	}
	plan := index.NewPlan(root)
	if metadata {
		if err := h.compareMetadata(ctx, t, plan.Entries()); err != nil {
			return err
		}
	}
	if contents {
		return compareContents(ctx, t, plan.Files)
	}
	return nil
}

// compareMetadata lists a tree and compares all metadata of its files. What the host could not represent when the tree was made (owners,
// devices, attributes in a user namespace) is not missed.
func (h *Host) compareMetadata(ctx context.Context, t Tree, want []*view.Entry) error {
	have, err := t.Walk(ctx)
	if err != nil {
		return err
	}
	if h.Nested() {
		want, have = withoutDevices(want, have)
	}
	for i, e := range want {
		if i >= len(have) || have[i].Path != e.Path || !h.same(have[i], e) {
			return damaged(e.Path)
		}
	}
	if len(have) > len(want) {
		return damaged(have[len(want)].Path)
	}
	return nil
}

// damaged names a file of a tree that differs from its entry.
func damaged(name string) error {
	return fmt.Errorf("its tree is %w: %q is not as it was", store.ErrDamaged, name)
}

// withoutDevices removes devices from the entries that a tree should have, and the whiteouts in their places from those it has.
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

// same compares the metadata of a file with its entry.
func (h *Host) same(have, want *view.Entry) bool {
	if have.Type != want.Type || have.Opaque != want.Opaque || have.Hardlink != want.Hardlink {
		return false
	}
	if want.Type == view.TypeWhiteout {
		return true
	}
	nested := h.Nested()
	mode := have.Mode == want.Mode || want.Type == view.TypeSymlink
	owner := nested || have.UID == want.UID && have.GID == want.GID
	attrs := nested || maps.Equal(have.Xattrs, want.Xattrs)
	return mode && owner && attrs && have.Size == want.Size && have.Linkname == want.Linkname &&
		have.Major == want.Major && have.Minor == want.Minor && sameTime(have.ModTime, want.ModTime)
}

// compareContents compares the contents of files with their digests.
func compareContents(ctx context.Context, t Tree, files []*index.Node) error {
	for _, n := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := t.Open(n.Entry.Path)
		if err != nil {
			return err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		_ = f.Close()
		if err != nil {
			return err
		}
		if digest.NewDigest(digest.SHA256, hash) != n.Entry.Digest {
			return damaged(n.Entry.Path)
		}
	}
	return nil
}
