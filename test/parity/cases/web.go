//go:build e2e

package cases

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
)

// Web serves the directories www of all cases, on loopback.
type Web struct {
	*httptest.Server
	served      atomic.Int64
	directories sync.Map // by the first part of the path
}

// NewWeb starts a web server.
func NewWeb() *Web {
	w := &Web{}
	w.Server = httptest.NewServer(http.HandlerFunc(w.answer))
	return w
}

// serve gives the URL under which a directory is served: another one for each, for BuildKit remembers what it has fetched.
func (w *Web) serve(dir string) string {
	name := fmt.Sprint(w.served.Add(1))
	w.directories.Store(name, dir)
	return w.URL + "/" + name
}

// answer sends a file with a validator. Under "named/" it is called otherwise than its URL, "moved/" leads to the file
// itself, and "gone/" has nothing.
func (w *Web) answer(rw http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	dir, ok := w.directories.Load(name)
	if !ok {
		http.NotFound(rw, r)
		return
	}
	if to, ok := strings.CutPrefix(rest, "moved/"); ok {
		http.Redirect(rw, r, "/"+name+"/"+to, http.StatusFound)
		return
	}
	if to, ok := strings.CutPrefix(rest, "named/"); ok {
		rw.Header().Set("Content-Disposition", `attachment; filename="given-name"`)
		rest = to
	}
	rw.Header().Set("ETag", `"`+name+"-"+rest+`"`)
	r.URL.Path = "/" + rest
	http.FileServer(http.Dir(dir.(string))).ServeHTTP(rw, r)
}
