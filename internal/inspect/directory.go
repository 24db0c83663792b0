package inspect

import (
	"context"
	"sync"

	"github.com/micabuild/mica/internal/digestcache"
	"github.com/micabuild/mica/internal/layer/index"
	"github.com/micabuild/mica/internal/layer/toc"
	"github.com/micabuild/mica/internal/view"
)

// hostDirectory has the files of a directory of the host, which is read once.
type hostDirectory struct {
	view  func() (view.View, error)
	table func() (*toc.Table, error)
	files func() (*index.Node, error)
}

// newHostDirectory reads nothing yet. digests may be nil.
func newHostDirectory(dir string, digests *digestcache.Cache) *hostDirectory {
	h := &hostDirectory{}
	h.view = sync.OnceValues(func() (view.View, error) { return view.Dir(dir, view.DirOptions{Digests: digests}) })
	h.table = sync.OnceValues(func() (*toc.Table, error) {
		v, err := h.view()
		if err != nil {
			return nil, err
		}
		return tableOf(v)
	})
	h.files = sync.OnceValues(func() (*index.Node, error) {
		t, err := h.table()
		if err != nil {
			return nil, err
		}
		// The index keeps its entries, and may change those of hard links.
		entries := make([]*view.Entry, len(t.Entries))
		for i, e := range t.Entries {
			entries[i] = e.Clone()
		}
		return index.FromTable(&toc.Table{Entries: entries, Places: t.Places})
	})
	return h
}

// tableOf lists the files of a view as those of a layer, hard links last. There are no sockets in a layer.
func tableOf(v view.View) (*toc.Table, error) {
	t := &toc.Table{}
	t.Undigested = true
	var links []*view.Entry
	var list func(dir string) error
	list = func(dir string) error {
		entries, err := v.ReadDir(context.Background(), dir) // the whole directory has been read
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch {
			case e.Type == view.TypeSocket:
				continue
			case e.Hardlink != "":
				links = append(links, e)
				continue
			}
			t.Entries = append(t.Entries, e)
			t.Size += e.Size + int64(len(e.Linkname))
			if e.IsDir() {
				if err := list(e.Path); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := list("."); err != nil {
		return nil, err
	}
	t.Entries = append(t.Entries, links...)
	t.Count, t.Places = len(t.Entries), make([]toc.Place, len(t.Entries))
	return t, nil
}
