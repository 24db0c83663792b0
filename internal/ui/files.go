package ui

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/micabuild/mica/internal/analyze/filetree"
	"github.com/micabuild/mica/internal/redact"
	"github.com/micabuild/mica/internal/terminal"
	"github.com/micabuild/mica/internal/view"
)

// fileRow is a file as the page shows it.
type fileRow struct {
	Name   string `json:"name"` // as it may be shown
	Path   string `json:"path"` // the whole path as a parameter of a URL: any bytes
	Type   string `json:"type"`
	Mode   string `json:"mode"`
	Owner  string `json:"owner"`
	Size   int64  `json:"size"`
	Files  int    `json:"files,omitempty"`
	Change string `json:"change,omitempty"`
	Layer  int    `json:"layer"`
	Link   string `json:"link,omitempty"`
	Kids   bool   `json:"kids,omitempty"`
}

// typeNames are those of types of files; the letters are those of ls.
var typeNames = map[view.Type]struct{ name, letter string }{
	view.TypeRegular: {"file", "-"}, view.TypeDir: {"dir", "d"}, view.TypeSymlink: {"symlink", "l"}, view.TypeChar: {"char", "c"},
	view.TypeBlock: {"block", "b"}, view.TypeFifo: {"fifo", "p"}, view.TypeSocket: {"socket", "s"}, view.TypeWhiteout: {"removed", "-"},
}

// changeNames are those of changes.
var changeNames = map[filetree.Change]string{filetree.Added: "added", filetree.Modified: "modified", filetree.Removed: "removed"}

// modeText is a mode as ls shows it.
func modeText(e *view.Entry) string {
	const letters = "rwxrwxrwx"
	b := []byte(letters)
	for i := range b {
		if e.Mode&(1<<(len(b)-1-i)) == 0 {
			b[i] = '-'
		}
	}
	for i, special := range []struct {
		bit         uint32
		with, alone byte
	}{{0o4000, 's', 'S'}, {0o2000, 's', 'S'}, {0o1000, 't', 'T'}} {
		if e.Mode&special.bit == 0 {
			continue
		}
		if at := 3*i + 2; b[at] == 'x' {
			b[at] = special.with
		} else {
			b[at] = special.alone
		}
	}
	return typeNames[e.Type].letter + string(b)
}

func newFileRow(f *file) fileRow {
	e := f.entry
	row := fileRow{
		Name: terminal.EscapeString(f.name), Path: url.QueryEscape(e.Path), Type: typeNames[e.Type].name, Mode: modeText(e),
		Owner: fmt.Sprintf("%d:%d", e.UID, e.GID), Size: f.size, Change: changeNames[f.change], Layer: f.layer, Kids: len(f.kids) > 0,
	}
	if e.IsDir() {
		row.Files = f.count
	}
	if e.Linkname != "" {
		row.Link = terminal.EscapeString(e.Linkname)
	} else if e.Hardlink != "" {
		row.Link = "/" + terminal.EscapeString(e.Hardlink)
	}
	return row
}

// The most files of a directory, and of a search, in one answer.
const (
	maxListed = 1000
	maxFound  = 200
)

// listing is a directory, or the files that a search found.
type listing struct {
	Files []fileRow `json:"files"`
	Total int       `json:"total"` // of which Files may be a part
}

// root returns the tree that a request selects: that of a layer, or of all.
func (t *imageTree) root(r *http.Request) (*file, error) {
	n, err := number(r, "layer", 0, -1)
	if err != nil {
		return nil, err
	}
	if n >= len(t.layers) {
		return nil, badRequest("the image has %d layers", len(t.layers))
	}
	if n < 0 {
		return t.merged, nil
	}
	return t.layer(n), nil
}

// selected returns the file that a request names in the tree that it selects.
func (s *Server) selected(r *http.Request) (*imageTree, *file, error) {
	t, err := s.namedTree(r)
	if err != nil {
		return nil, nil, err
	}
	root, err := t.root(r)
	if err != nil {
		return nil, nil, err
	}
	name := r.URL.Query().Get("path")
	f := root.find(name)
	if f == nil {
		return nil, nil, fmt.Errorf("no such file: %s: %w", terminal.EscapeString(name), fs.ErrNotExist)
	}
	return t, f, nil
}

// order sorts files by a key that a request names.
func order(kids []*file, by string) []*file {
	if by != "size" {
		return kids
	}
	kids = slices.Clone(kids)
	slices.SortStableFunc(kids, func(a, b *file) int { return int(min(1, max(-1, b.size-a.size))) })
	return kids
}

func (s *Server) listFiles(r *http.Request) (any, error) {
	_, dir, err := s.selected(r)
	if err != nil {
		return nil, err
	}
	from, err := number(r, "from", 0, 0)
	if err != nil {
		return nil, err
	}
	kids := dir.kids
	kids = order(kids, r.URL.Query().Get("sort"))
	out := listing{Files: []fileRow{}, Total: len(kids)}
	for _, f := range kids[min(from, len(kids)):min(from+maxListed, len(kids))] {
		out.Files = append(out.Files, newFileRow(f))
	}
	return out, nil
}

func (s *Server) searchFiles(r *http.Request) (any, error) {
	_, dir, err := s.selected(r)
	if err != nil {
		return nil, err
	}
	text := strings.ToLower(r.URL.Query().Get("text"))
	if text == "" {
		return nil, badRequest("name what to search")
	}
	out := listing{Files: []fileRow{}}
	whole := strings.Contains(text, "/")
	var walk func(f *file)
	walk = func(f *file) {
		for _, kid := range f.kids {
			name := kid.name
			if whole {
				name = "/" + kid.entry.Path
			}
			if strings.Contains(strings.ToLower(name), text) {
				if out.Total++; out.Total <= maxFound {
					row := newFileRow(kid)
					row.Name = "/" + terminal.EscapeString(kid.entry.Path)
					out.Files = append(out.Files, row)
				}
			}
			walk(kid)
		}
	}
	walk(dir)
	return out, nil
}

// sendFile sends the content of a file of an image as a download.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request) {
	err := s.using(r.Context(), func() error {
		img, err := s.openNamed(r)
		if err != nil {
			return err
		}
		defer img.close()
		name := trimRoot(r.URL.Query().Get("path"))
		content, err := img.Browse(r.Context())
		if err != nil {
			return err
		}
		return download(w, r, content, name)
	})
	switch {
	case errors.Is(err, errBroken):
		panic(http.ErrAbortHandler) // the browser sees that the file is not whole
	case err != nil:
		fail(w, statusOf(err), redact.URLs(err.Error()))
	}
}

// download sends a file of a view. It begins no answer if it fails, but for errBroken.
func download(w http.ResponseWriter, r *http.Request, v view.View, name string) error {
	e, err := v.Lstat(r.Context(), name)
	if err != nil {
		return err
	}
	if e.Type != view.TypeRegular {
		return badRequest("not a regular file: %s", terminal.EscapeString(name))
	}
	content, err := v.Open(r.Context(), name)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(e.Size, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": terminal.EscapeString(path.Base(name))}))
	out := &patient{w, http.NewResponseController(w)}
	if _, err := io.Copy(out, content); err != nil {
		return errBroken
	}
	out.end()
	return nil
}

// downloadPause is how long a browser may read nothing of a download. A request holds what it reads in the store.
const downloadPause = 2 * time.Minute

// patient writes to a client as long as it reads.
type patient struct {
	w   io.Writer
	ctl *http.ResponseController
}

func (p *patient) Write(data []byte) (int, error) {
	_ = p.ctl.SetWriteDeadline(time.Now().Add(downloadPause)) // without one, the client has all time
	return p.w.Write(data)
}

// end gives the next answer of the connection all time.
func (p *patient) end() { _ = p.ctl.SetWriteDeadline(time.Time{}) }

var errBroken = errors.New("the download broke off")
