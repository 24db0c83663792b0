package view

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// Overlay is a View that records what is changed on top of a base view: the working state of one file operation.
// It is for one goroutine.
type Overlay struct {
	base View
	root *change
	// now is the time of everything that has no time of its own.
	now time.Time
}

// change is what is known of one name: a new file, a removal, or only that something below it changed.
type change struct {
	kids   map[string]*change
	file   *file // nil: as the base has it
	gone   bool  // not there, though the base may have it
	opaque bool  // a directory through which the base's does not show
}

// file is a new file; several names may share it, which makes them hardlinks.
type file struct {
	entry      Entry // Path is of no meaning
	source     View
	sourcePath string
	names      int // how many it was given
}

// NewOverlay starts with base unchanged.
func NewOverlay(base View) *Overlay {
	return &Overlay{base: base, root: &change{}, now: time.Now().UTC()}
}

// at finds what is recorded of name. hidden says that the base's file of that name, if any, does not show.
func (o *Overlay) at(name string) (c *change, hidden bool) {
	c = o.root
	if name == "." {
		return c, false
	}
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if c == nil {
			return nil, hidden
		}
		hidden = hidden || c.opaque || c.gone || (c.file != nil && !c.file.entry.IsDir())
		c = c.kids[part]
	}
	return c, hidden
}

// Lstat implements View.
func (o *Overlay) Lstat(ctx context.Context, name string) (*Entry, error) {
	c, hidden := o.at(name)
	switch {
	case c != nil && c.gone:
		return nil, notExist("lstat", name)
	case c != nil && c.file != nil:
		e := c.file.entry.Clone()
		e.Path = name
		return e, nil
	case hidden:
		return nil, notExist("lstat", name)
	}
	return o.base.Lstat(ctx, name)
}

// ReadDir implements View.
func (o *Overlay) ReadDir(ctx context.Context, name string) ([]*Entry, error) {
	e, err := o.Lstat(ctx, name)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: "/" + name, Err: syscall.ENOTDIR}
	}
	c, hidden := o.at(name)
	var list []*Entry
	if !hidden && (c == nil || !c.opaque) {
		list, err = o.base.ReadDir(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil, err
		}
	}
	if c == nil || len(c.kids) == 0 {
		return list, nil
	}
	list = slices.DeleteFunc(slices.Clone(list), func(e *Entry) bool {
		k := c.kids[path.Base(e.Path)]
		return k != nil && (k.gone || k.file != nil)
	})
	for part, k := range c.kids {
		if k.file != nil && !k.gone {
			e := k.file.entry.Clone()
			e.Path = Join(name, part)
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// Open implements View.
func (o *Overlay) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	v, from, err := o.origin("open", name)
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, from)
}

// Digest implements View.
func (o *Overlay) Digest(ctx context.Context, name string) (digest.Digest, error) {
	v, from, err := o.origin("read", name)
	if err != nil {
		return "", err
	}
	return v.Digest(ctx, from)
}

// origin says where the content of name is.
func (o *Overlay) origin(op, name string) (View, string, error) {
	c, hidden := o.at(name)
	switch {
	case c != nil && c.file != nil && !c.gone:
		if c.file.entry.Type != TypeRegular {
			return nil, "", &fs.PathError{Op: op, Path: "/" + name, Err: syscall.EINVAL}
		}
		return c.file.source, c.file.sourcePath, nil
	case hidden || (c != nil && c.gone):
		return nil, "", notExist(op, name)
	}
	return o.base, name, nil
}

// touch returns the change of name, made on the way down where there is none yet.
func (o *Overlay) touch(name string) *change {
	c := o.root
	if name == "." {
		return c
	}
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		k := c.kids[part]
		if k == nil {
			k = &change{}
			if c.kids == nil {
				c.kids = map[string]*change{}
			}
			c.kids[part] = k
		}
		c = k
	}
	return c
}

// put makes name the given file. Its parent exists.
func (o *Overlay) put(name string, f *file) {
	c := o.touch(name)
	if c.gone || (c.file != nil && !c.file.entry.IsDir()) {
		// What was removed, or hidden by a file, must not show through a directory that comes in its place.
		c.opaque = f.entry.IsDir()
	}
	if !f.entry.IsDir() {
		c.kids, c.opaque = nil, false
	}
	c.file, c.gone = f, false
	f.names++
}

// remove makes name, and all below it, not be there.
func (o *Overlay) remove(name string) {
	c := o.touch(name)
	*c = change{gone: true}
}

// Changes returns what differs from the base, parents first, in the order of Compare. A directory in which something
// changed is among them as the base has it: a layer's unpacked form needs its metadata.
func (o *Overlay) Changes(ctx context.Context) ([]Change, error) {
	w := &changeWalk{o: o, ctx: ctx, first: map[*file]string{}}
	if err := w.walk(o.root, ".", false); err != nil {
		return nil, err
	}
	return w.list, nil
}

type changeWalk struct {
	o     *Overlay
	ctx   context.Context
	list  []Change
	first map[*file]string // hardlinks: the first name of each file
}

func (w *changeWalk) walk(c *change, name string, hidden bool) error {
	if name != "." || c.file != nil {
		keep, err := w.emit(c, name, hidden)
		if err != nil || !keep {
			return err
		}
	}
	hidden = hidden || c.opaque || (c.file != nil && !c.file.entry.IsDir())
	for _, part := range slices.Sorted(maps.Keys(c.kids)) {
		if err := w.walk(c.kids[part], Join(name, part), hidden); err != nil {
			return err
		}
	}
	return nil
}

// emit adds the change of one name; keep says whether anything below may be added too.
func (w *changeWalk) emit(c *change, name string, hidden bool) (keep bool, err error) {
	var below *Entry
	if !hidden {
		below, err = w.o.base.Lstat(w.ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return false, err
		}
	}
	switch {
	case c.gone:
		if below != nil {
			w.list = append(w.list, Change{Entry: &Entry{Path: name, Type: TypeWhiteout}})
		}
		return false, nil
	case c.file == nil:
		if below == nil || len(c.kids) == 0 {
			return false, nil
		}
		w.list = append(w.list, Change{Entry: below})
		return true, nil
	}
	opaque := c.opaque && below != nil && below.IsDir()
	if c.file.names == 1 && !opaque {
		// There may be hundreds of thousands: what no other name shares is not copied.
		e := &c.file.entry
		e.Path, e.Hardlink = name, ""
		w.list = append(w.list, Change{Entry: e, Source: c.file.source, SourcePath: c.file.sourcePath})
		return true, nil
	}
	e := c.file.entry.Clone()
	e.Path, e.Hardlink, e.Opaque = name, "", opaque
	ch := Change{Entry: e}
	if first, ok := w.first[c.file]; ok {
		e.Hardlink = first
	} else {
		w.first[c.file] = name
		ch.Source, ch.SourcePath = c.file.source, c.file.sourcePath
	}
	w.list = append(w.list, ch)
	return true, nil
}
