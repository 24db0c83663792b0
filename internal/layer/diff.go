package layer

import (
	"context"
	"slices"
	"strings"

	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// Diff returns the changes that lead from lower to upper, removals as whiteouts, sorted by path. No content is read but
// for digests that a view does not know yet. The root directory is never among the changes, as in Commit.
func (l *Layers) Diff(ctx context.Context, lower, upper view.View) ([]view.Change, error) {
	d := &differ{ctx: ctx, lower: lower, upper: upper}
	if a, ok := lower.(*chainView); ok {
		if b, ok := upper.(*chainView); ok {
			d.a, d.b = a, b
		}
	}
	if err := d.dir("."); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b view.Change) int { return strings.Compare(a.Entry.Path, b.Entry.Path) })
	return d.changes, nil
}

type differ struct {
	ctx          context.Context
	lower, upper view.View
	a, b         *chainView // the same views, where both are chains
	changes      []view.Change
}

// same reports whether both sides share a directory, as chains of common layers do.
func (d *differ) same(dir string) bool {
	if d.a == nil {
		return false
	}
	x, errX := d.a.find("", dir)
	y, errY := d.b.find("", dir)
	return errX == nil && errY == nil && x == y
}

// dir compares a directory that both sides have.
func (d *differ) dir(dir string) error {
	if d.same(dir) {
		return nil
	}
	if err := d.ctx.Err(); err != nil {
		return err
	}
	old, err := d.lower.ReadDir(d.ctx, dir)
	if err != nil {
		return err
	}
	now, err := d.upper.ReadDir(d.ctx, dir)
	if err != nil {
		return err
	}
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].Path < now[0].Path:
			d.changes = append(d.changes, view.Change{Entry: &view.Entry{Path: old[0].Path, Type: view.TypeWhiteout}})
			old = old[1:]
		case len(old) == 0 || now[0].Path < old[0].Path:
			err = d.added(now[0])
			now = now[1:]
		default:
			err = d.both(old[0], now[0])
			old, now = old[1:], now[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// added records a file that is only in upper, with all in it.
func (d *differ) added(e *view.Entry) error {
	d.change(e)
	if !e.IsDir() {
		return nil
	}
	kids, err := d.upper.ReadDir(d.ctx, e.Path)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		if err := d.added(kid); err != nil {
			return err
		}
	}
	return nil
}

// both compares two files of one name.
func (d *differ) both(old, now *view.Entry) error {
	if old == now && !old.IsDir() {
		return nil
	}
	if !now.IsDir() || !old.IsDir() {
		equal, err := d.equal(old, now)
		if err != nil || equal {
			return err
		}
		// A file in place of a directory, or the reverse, hides all of what was there (overlayfs.rst, "Non-directories").
		return d.added(now)
	}
	before := len(d.changes)
	if err := d.dir(now.Path); err != nil {
		return err
	}
	// A directory is recorded with what changes in it, too: engines that unpack layers one by one would make it up.
	if len(d.changes) > before || !index.SameMetadata(old, now) {
		d.change(now)
	}
	return nil
}

func (d *differ) change(e *view.Entry) {
	c := view.Change{Entry: e}
	if e.Type == view.TypeRegular {
		c.Source, c.SourcePath = d.upper, e.Path
	}
	d.changes = append(d.changes, c)
}

// equal compares two files that are not both directories.
func (d *differ) equal(old, now *view.Entry) (bool, error) {
	if old.Type != now.Type || old.Size != now.Size || !index.SameMetadata(old, now) {
		return false, nil
	}
	if now.Type != view.TypeRegular || now.Size == 0 {
		return true, nil
	}
	a, err := digestOf(d.ctx, d.lower, old)
	if err != nil {
		return false, err
	}
	b, err := digestOf(d.ctx, d.upper, now)
	return a == b, err
}

func digestOf(ctx context.Context, v view.View, e *view.Entry) (string, error) {
	if e.Digest != "" {
		return string(e.Digest), nil
	}
	d, err := v.Digest(ctx, e.Path)
	return string(d), err
}
