// Package rootfs keeps root filesystems as plain files, where nothing can be mounted: it lays a view out in a directory, and finds what a
// process has changed there since.
package rootfs

import (
	"context"
	"io"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/micabuild/mica/internal/crash"
	"github.com/micabuild/mica/internal/layer/tree"
	"github.com/micabuild/mica/internal/view"
)

// Tree is a root filesystem in a directory. It is not safe for concurrent use.
type Tree struct {
	path   string
	states map[string]state // of all files, as they were laid out or last compared
	owners tree.Owners      // nil where files have owners of their own
}

// state is what tells that a file has not changed. The kernel alone sets the time.
type state struct {
	inode      uint64
	size       int64
	mode       uint32
	changeTime int64
}

func stateOf(st *unix.Stat_t) state {
	return state{inode: st.Ino, size: st.Size, mode: st.Mode, changeTime: unix.TimespecToNsec(st.Ctim)}
}

// Lay makes a directory with the files of a view at or below a path, "." for all, with their owners, modes, times and attributes, and returns it
// as a Tree. It needs the rights of root if owners is nil; else what the files cannot have is kept there. No process may have the directory
// open that is not trusted.
func Lay(ctx context.Context, v view.View, only, path string, owners tree.Owners) (*Tree, error) {
	host := tree.NewHost(func() bool { return false })
	if owners != nil {
		host = tree.NewOwnersHost(owners)
	}
	w, err := host.CreateDirectory(path)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	root, err := v.Lstat(ctx, ".")
	if err != nil {
		return nil, err
	}
	l := &list{ctx: ctx, view: v, only: only, dirs: []*view.Entry{root}}
	if err := l.add("."); err != nil {
		return nil, err
	}
	if err := tree.MakeDirs(w, l.dirs, nil); err != nil {
		return nil, err
	}
	if err := l.write(w); err != nil {
		return nil, err
	}
	if err := w.Finish(l.others, l.dirs); err != nil {
		return nil, err
	}
	t := &Tree{path: path, owners: owners}
	return t, t.Settle(ctx)
}

// Path is the directory.
func (t *Tree) Path() string { return t.path }

// Owners keeps the owners of the files, nil where they have owners of their own.
func (t *Tree) Owners() tree.Owners { return t.owners }

// list is the files of a view by how they are made, parents first.
type list struct {
	ctx                 context.Context
	view                view.View
	only                string // a path that is listed, and the directories above it
	dirs, files, others []*view.Entry
}

func (l *list) add(dir string) error {
	entries, err := l.view.ReadDir(l.ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !within(e.Path, l.only) && !within(l.only, e.Path) {
			continue
		}
		if e.Hardlink != "" && !within(e.Hardlink, l.only) {
			e = e.Clone() // its first name is not there
			e.Hardlink = ""
		}
		switch {
		case e.IsDir():
			l.dirs = append(l.dirs, e)
			if err := l.add(e.Path); err != nil {
				return err
			}
		case e.Type == view.TypeRegular && e.Hardlink == "":
			l.files = append(l.files, e)
		case e.Type != view.TypeSocket:
			l.others = append(l.others, e)
		}
	}
	return nil
}

// within reports whether a path is in a directory, or is the directory.
func within(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir+"/")
}

// write makes the regular files.
func (l *list) write(w tree.Writer) error {
	g, ctx := errgroup.WithContext(l.ctx)
	workers := runtime.GOMAXPROCS(0)
	for i := range workers {
		from, to := len(l.files)*i/workers, len(l.files)*(i+1)/workers
		g.Go(crash.Guard(func() error {
			files := w.Files() // neighbours share their directory
			defer files.Close()
			for _, e := range l.files[from:to] {
				if err := copyFile(ctx, l.view, e, files); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return g.Wait()
}

func copyFile(ctx context.Context, v view.View, e *view.Entry, to tree.Files) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in, err := v.Open(ctx, e.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := to.Create(e)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return tree.CloseFile(out, err)
}

// Settle takes the states of all files as those that have not changed. It returns when a change that follows gets another time: the
// kernel's clock of files stands still for some milliseconds.
func (t *Tree) Settle(ctx context.Context) error {
	w := &walk{ctx: ctx, path: t.path, states: map[string]state{}}
	if err := w.dir("."); err != nil {
		return err
	}
	t.states = w.states
	return awaitClock(ctx, w.newest)
}

// tick is less than the period of the kernel's clock.
const tick = time.Millisecond

func awaitClock(ctx context.Context, newest int64) error {
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return err
		}
		// A time in the future, by a clock that was set back, would never pass.
		if behind := newest - unix.TimespecToNsec(now); behind < 0 || behind > int64(time.Second) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(tick):
		}
	}
}
