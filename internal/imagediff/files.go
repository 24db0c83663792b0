package imagediff

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/inspect"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/view"
)

// compareFiles compares the files of two images.
func compareFiles(ctx context.Context, a, b *inspect.Image, o Options, r *Report) error {
	w, err := newWalk(ctx, a, b, o)
	if err != nil {
		return err
	}
	if err := w.pair(w.a.root, w.b.root); err != nil {
		return err
	}
	if !o.ignores(Hardlink) {
		w.addLinks()
	}
	r.Files, r.contents = w.report(), w.contents
	if len(o.Text) > 0 {
		return w.addTexts(r.Files.Changes)
	}
	return nil
}

// walk walks the files of two images at the same time.
type walk struct {
	ctx      context.Context
	contents [2]*contents
	a, b     *tree
	linked   *linked
	options  Options
	ignore   matcher
	text     matcher
	coarse   map[digest.Digest]bool // layers whose times are known in whole seconds
	changes  []FileChange
}

func newWalk(ctx context.Context, a, b *inspect.Image, o Options) (*walk, error) {
	w := &walk{ctx: ctx, options: o}
	var err error
	if w.ignore, err = newMatcher(o.Ignore); err != nil {
		return nil, err
	}
	if w.text, err = newMatcher(o.Text); err != nil {
		return nil, err
	}
	rootA, rootB, err := roots(ctx, a, b)
	if err != nil {
		return nil, err
	}
	w.coarse = coarse(a, b)
	w.contents = [2]*contents{newContents(a, rootA), newContents(b, rootB)}
	w.a, w.b = newTree(rootA), newTree(rootB)
	w.linked = &linked{a: w.a, b: w.b, suspect: map[string]bool{}, seen: map[linkedFile]bool{}, first: map[linkedFile]string{}}
	return w, nil
}

// pair compares two files of one path. Directories that the images share are the same node, and are not walked.
func (w *walk) pair(a, b *index.Node) error {
	if a == b {
		return nil
	}
	w.linked.visit(w.a, a)
	w.linked.visit(w.b, b)
	if !w.ignored(a) {
		if err := w.compare(a, b); err != nil {
			return err
		}
	}
	if a.IsDir() && b.IsDir() {
		return w.children(a.Children, b.Children)
	}
	if err := w.children(a.Children, nil); err != nil {
		return err
	}
	return w.children(nil, b.Children)
}

// children compares the files of two directories, which are sorted by name.
func (w *walk) children(a, b []*index.Node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	for len(a) > 0 || len(b) > 0 {
		var err error
		switch order := nextOf(a, b); {
		case order < 0:
			w.only(a[0], Removed)
			err = w.children(a[0].Children, nil)
			a = a[1:]
		case order > 0:
			w.only(b[0], Added)
			err = w.children(nil, b[0].Children)
			b = b[1:]
		default:
			err = w.pair(a[0], b[0])
			a, b = a[1:], b[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nextOf says which of two sorted lists has the next name; 0 if both have.
func nextOf(a, b []*index.Node) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return 1
	}
	return strings.Compare(a[0].Name(), b[0].Name())
}

func (w *walk) ignored(n *index.Node) bool { return w.ignore.match(n.Entry.Path) }

// only reports a file that one of the images has.
func (w *walk) only(n *index.Node, change Change) {
	t := w.a
	if change == Added {
		t = w.b
	}
	w.linked.visit(t, n)
	if w.ignored(n) {
		return
	}
	c, f := FileChange{Path: "/" + n.Entry.Path, Change: change}, newFile(n, t.first(n))
	if change == Added {
		c.New = f
	} else {
		c.Old = f
	}
	w.changes = append(w.changes, c)
}

// compare reports how two files of one path differ.
func (w *walk) compare(a, b *index.Node) error {
	if a.Entry == b.Entry {
		return nil
	}
	var aspects []Aspect
	var digests [2]digest.Digest
	if a.Entry.Type != b.Entry.Type {
		aspects = append(aspects, Type)
	} else if a.Entry.Type == view.TypeRegular {
		same, err := w.content(a, b, &digests)
		if err != nil {
			return err
		}
		if !same {
			aspects = append(aspects, Content)
		}
	}
	if a.Entry.Path != "." {
		aspects = append(aspects, metadata(a.Entry, b.Entry, w.coarse[a.Layer] || w.coarse[b.Layer])...)
	}
	aspects = slices.DeleteFunc(aspects, w.options.ignores)
	if len(aspects) > 0 {
		w.change(a, b, aspects, digests)
	}
	return nil
}

func (w *walk) change(a, b *index.Node, aspects []Aspect, digests [2]digest.Digest) {
	c := FileChange{Path: "/" + a.Entry.Path, Change: Changed, Aspects: aspects, Old: newFile(a, w.a.first(a)), New: newFile(b, w.b.first(b))}
	c.Old.Digest, c.New.Digest = cmp.Or(digests[0], c.Old.Digest), cmp.Or(digests[1], c.New.Digest)
	w.changes = append(w.changes, c)
}

// content compares the contents of two regular files, and sets their digests if they had to be computed.
func (w *walk) content(a, b *index.Node, digests *[2]digest.Digest) (same bool, err error) {
	if a.Layer == b.Layer && a.Layer != "" && a.Place == b.Place && a.Entry.Path == b.Entry.Path && a.Entry.Size == b.Entry.Size {
		return true, nil
	}
	for i, n := range []*index.Node{a, b} {
		if digests[i] = n.Entry.Digest; digests[i] != "" {
			continue
		}
		if digests[i], err = w.contents[i].digest(w.ctx, n.Entry.Path); err != nil {
			return false, err
		}
	}
	return digests[0] == digests[1], nil
}

// addLinks adds to the changes those of names that are of one file in one image, and of two in the other.
func (w *walk) addLinks() {
	names := w.linked.changed()
	if len(names) == 0 {
		return
	}
	at := map[string]int{}
	for i := range w.changes {
		at[w.changes[i].Path] = i
	}
	for _, name := range names {
		a, b := w.a.root.Descend(name), w.b.root.Descend(name)
		if w.ignored(a) {
			continue
		}
		if i, ok := at["/"+name]; ok {
			w.changes[i].Aspects = append(w.changes[i].Aspects, Hardlink)
			continue
		}
		w.change(a, b, []Aspect{Hardlink}, [2]digest.Digest{})
	}
	slices.SortStableFunc(w.changes, func(a, b FileChange) int { return view.Compare(a.Path[1:], b.Path[1:]) })
}

// report counts the changes.
func (w *walk) report() *FilesReport {
	r := &FilesReport{Changes: w.changes}
	if r.Changes == nil {
		r.Changes = []FileChange{}
	}
	for i := range r.Changes {
		c := &r.Changes[i]
		c.RawPath = raw(c.Path)
		switch c.Change {
		case Added:
			r.Added.Count++
			r.Added.Size += sizeOf(c.New)
		case Removed:
			r.Removed.Count++
			r.Removed.Size += sizeOf(c.Old)
		case Changed:
			r.Changed.Count++
			r.Changed.Size += sizeOf(c.New) - sizeOf(c.Old)
		}
	}
	return r
}

// sizeOf is the size of a file; another name of a file has none.
func sizeOf(f *File) int64 {
	if f.First != "" {
		return 0
	}
	return f.Size
}
