package layer

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// soundTree looks, once in this process, whether a tree is still what its table of contents says: a process is about to
// run on it. Contents are digested only by Verify, and whenever they are packed.
func (l *Layers) soundTree(ctx context.Context, id digest.Digest) error {
	if _, ok := l.sound.Load(id); ok {
		return nil
	}
	t, err := l.TOC(ctx, id)
	if err != nil {
		return err
	}
	if !l.glance(t) {
		// A glance can be wrong, of a tar that has a name twice for example.
		if err := l.inspectTree(ctx, id); err != nil {
			return err
		}
	}
	if err := l.settle(ctx, id, t); err != nil {
		return err
	}
	l.sound.Store(id, true)
	return nil
}

// errChanged says that a file is not what it was.
var errChanged = errors.New("changed")

// glance reports whether every file's type, mode, size and time are as in the table of contents. What was added or
// removed shows in the time of its directory, so that no directory is listed. It takes about a microsecond per file.
func (l *Layers) glance(t *toc.Table) bool {
	tree, err := l.openTree(t.DiffID)
	if err != nil {
		return false
	}
	defer tree.close()
	var g errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for i := range workers {
		from, to := i*len(t.Entries)/workers, (i+1)*len(t.Entries)/workers
		g.Go(crash.Guard(func() error {
			if !tree.unchanged(t.Entries[from:to]) {
				return errChanged
			}
			return nil
		}))
	}
	return g.Wait() == nil
}

func (d *dirs) unchanged(e *view.Entry, rules hostRules) bool {
	if e.Path == "." || e.Hardlink != "" || rules.userns && (e.Type == view.TypeChar || e.Type == view.TypeBlock) {
		return true
	}
	at, base, err := d.parent(e.Path)
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if unix.Fstatat(at, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return looksLike(&st, e)
}

// The years that every filesystem can hold that trees may be on: ext4 has 1901 to 2446.
const minYear, maxYear = 1902, 2400

// sameTime compares a file's time with its entry's as far as filesystems go: some have whole seconds only, and none has
// every year that a tar can.
func sameTime(have, want time.Time) bool {
	year := want.Year()
	return want.IsZero() || year < minYear || year > maxYear || have.Equal(want) || have.Nanosecond() == 0 && have.Unix() == want.Unix()
}
