package ui

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
)

// TestImages: the list, and an image with its layers, history and configuration, without secrets.
func TestImages(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var list imageList
	if l.get("images", &list); list.Images == nil || len(list.Images) != 0 {
		t.Errorf("an empty store: %+v", list)
	}
	img := l.image("app:1", "etc/ etc/a=one", "etc/ etc/b=three")
	l.get("images", &list)
	if len(list.Images) != 1 || list.Images[0].ID != img.ID || list.Images[0].Size != 8 || list.Images[0].Layers != 2 || list.Images[0].Names[0] != "app:1" || list.Images[0].Platform != "linux/amd64" {
		t.Errorf("%+v", list)
	}
	for _, ref := range []string{"app:1", img.ID.String(), img.ShortID()} {
		var p imagePage
		l.get("image?image="+url.QueryEscape(ref), &p)
		if p.ID != img.ID || len(p.LayerList) != 2 || p.LayerList[1].Size != 5 || p.LayerList[1].Files != 2 || p.LayerList[0].DiffID != img.Chain()[0] {
			t.Errorf("%s: %+v", ref, p)
		}
		if len(p.History) != 3 || p.History[0].Layer != 0 || p.History[1].Layer != 1 || p.History[2].Layer != -1 || p.History[1].Command != "RUN etc/ etc/b=three" {
			t.Errorf("%s: %+v", ref, p.History)
		}
		if text := fmt.Sprintf("%+v", p); strings.Contains(text, "hunter2") || !strings.Contains(text, "API_TOKEN=(hidden)") || !strings.Contains(text, "PATH=/bin") {
			t.Errorf("%s: %s", ref, text)
		}
	}
	l.fails("image", http.StatusBadRequest)
	l.fails("image?image=nothing", http.StatusNotFound)
	l.fails("image?image=%00", http.StatusBadRequest)
	l.fails("files?image=nothing", http.StatusNotFound)
}

// TestOrigins: a layer is known by the step that made it, in the build of the image first.
func TestOrigins(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	img := l.image("app", "a=1", "b=2", "c=3")
	build := func(ref string, made digest.Digest, layers ...int) {
		b := &history.Build{Ref: ref, Text: "FROM x\n", Image: made}
		for _, n := range layers {
			b.Steps = append(b.Steps, &history.Step{Vertex: digest.FromString(fmt.Sprint(n)), Name: fmt.Sprint("step ", n), Line: n, Output: chainID(img, n)})
		}
		l.end(l.begin(b), b, history.Completed)
	}
	build("base", "", 1)
	build("app", img.Target.Digest, 2)
	build("later", "sha256:other", 1, 2)
	var p imagePage
	l.get("image?image=app", &p)
	if p.Build != "app" || p.Dockerfile != "FROM x\n" {
		t.Errorf("%+v", p)
	}
	for i, want := range []origin{{"later", "step 1", 1}, {"app", "step 2", 2}, {}} {
		if got := p.LayerList[i].origin; got != want {
			t.Errorf("layer %d: %+v, want %+v", i, got, want)
		}
	}
}

// names lists files with their sizes, changes and layers.
func names(list []fileRow) string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s:%d:%s:%d", f.Name, f.Size, f.Change, f.Layer))
	}
	return strings.Join(out, " ")
}

// TestFiles: the files of all layers, and what each layer changes.
func TestFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "etc/ etc/a=1 etc/b=22 lib/ lib/x=333 lib/y+lib/x link@etc/a", "etc/ etc/a=4444 -etc/b new/ new/n=55555", "lib/ lib/z=1")
	for query, want := range map[string]string{
		"":                               "etc:4::1 lib:4::2 link:0::0 new:5::1",
		"&sort=size":                     "new:5::1 etc:4::1 lib:4::2 link:0::0",
		"&path=etc":                      "a:4::1",
		"&path=/lib/":                    "x:3::0 y:0::0 z:1::2",
		"&layer=0":                       "etc:3:added:0 lib:3:added:0 link:0:added:0",
		"&layer=1":                       "etc:4::1 new:5:added:1",
		"&layer=1&path=etc":              "a:4:modified:1 b:0:removed:1",
		"&layer=2&path=lib":              "z:1:added:2",
		"&path=lib&from=1":               "y:0::0 z:1::2",
		"&path=lib&from=9":               "",
		"&path=%2e":                      "etc:4::1 lib:4::2 link:0::0 new:5::1",
		"&path=etc%2f..%2flib":           "missing",
		"&path=lib/x/y":                  "missing",
		"&layer=1&path=lib":              "missing",
		"&layer=3":                       "bad",
		"&layer=-1":                      "bad",
		"&layer=x":                       "bad",
		"&from=-1":                       "bad",
		"&layer=99999999999999999999999": "bad",
	} {
		path := "files?image=app" + query
		switch want {
		case "missing":
			l.fails(path, http.StatusNotFound)
		case "bad":
			l.fails(path, http.StatusBadRequest)
		default:
			var got listing
			if l.get(path, &got); names(got.Files) != want {
				t.Errorf("%s: %s, want %s", query, names(got.Files), want)
			}
		}
	}
	var got listing
	l.get("files?image=app&path=lib", &got)
	if f := got.Files[1]; f.Link != "/lib/x" || f.Mode != "-rwxr-xr-x" || f.Owner != "0:0" || f.Type != "file" || f.Path != "lib%2Fy" {
		t.Errorf("%+v", f)
	}
}

// TestSearch: files are found by parts of their names, or of their paths.
func TestSearch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "usr/ usr/lib/ usr/lib/One=1 usr/one.d/ usr/one.d/two=2")
	for text, want := range map[string]string{
		"one": "/usr/lib/One:1::0 /usr/one.d:1::0", "ONE.D/": "/usr/one.d/two:1::0", "/usr/lib/": "/usr/lib/One:1::0", "nothing": "",
	} {
		var got listing
		if l.get("search?image=app&text="+url.QueryEscape(text), &got); names(got.Files) != want || got.Total != len(strings.Fields(want)) {
			t.Errorf("%s: %s, want %s", text, names(got.Files), want)
		}
	}
	l.fails("search?image=app", http.StatusBadRequest)
}

// TestLargeDirectory: a directory is sent in parts.
func TestLargeDirectory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var words []string
	for i := range maxListed + 5 {
		words = append(words, fmt.Sprintf("f%05d=%d", i, i))
	}
	l.image("app", strings.Join(words, " "))
	var first, rest, found listing
	l.get("files?image=app", &first)
	l.get(fmt.Sprintf("files?image=app&from=%d", maxListed), &rest)
	if len(first.Files) != maxListed || first.Total != maxListed+5 || len(rest.Files) != 5 || rest.Files[4].Name != "f01004" {
		t.Errorf("%d and %d of %d", len(first.Files), len(rest.Files), first.Total)
	}
	if l.get("search?image=app&text=f", &found); len(found.Files) != maxFound || found.Total != maxListed+5 {
		t.Errorf("found %d of %d", len(found.Files), found.Total)
	}
}

// TestOddNames: names of files are any bytes. They are shown with escapes, and found by what the page was sent.
func TestOddNames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "d\xff&x/ d\xff&x/\x1b[31m<b>=text")
	var top, sub listing
	l.get("files?image=app", &top)
	if len(top.Files) != 1 || top.Files[0].Name != `d\xff&x` {
		t.Fatalf("%+v", top)
	}
	l.get("files?image=app&path="+top.Files[0].Path, &sub)
	if len(sub.Files) != 1 || sub.Files[0].Name != `\x1b[31m<b>` {
		t.Fatalf("%+v", sub)
	}
	res, text := l.do(l.request(http.MethodGet, "api/content?image=app&path="+sub.Files[0].Path, ""))
	if res.StatusCode != http.StatusOK || text != "text" {
		t.Errorf("%s %s", res.Status, text)
	}
}

// TestContent: a file is sent as a download of no type that a browser would show.
func TestContent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "d/ d/page.html=<script> l@d/page.html", "d/ d/other=x")
	res, text := l.do(l.request(http.MethodGet, "api/content?image=app&path=d/page.html", ""))
	h := res.Header
	if text != "<script>" || h.Get("Content-Type") != "application/octet-stream" || h.Get("Content-Disposition") != "attachment; filename=page.html" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s %q %v", res.Status, text, h)
	}
	l.fails("content?image=app&path=d", http.StatusBadRequest)
	l.fails("content?image=app&path=l", http.StatusBadRequest)
	l.fails("content?image=app&path=nothing", http.StatusNotFound)
	l.fails("content?image=app&path=..%2f..%2fetc%2fpasswd", http.StatusNotFound)
	l.fails("content?image=nothing&path=d", http.StatusNotFound)
}

// TestRemovedImage: an image that another process removes and prunes is no longer there; before that, nothing stops the removal.
func TestRemovedImage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	img := l.image("app", "a=1")
	var list listing
	l.get("files?image=app", &list)
	_, images := l.newLayers()
	if _, err := images.Remove(t.Context(), "app", false); err != nil {
		t.Fatal(err)
	}
	if freed, err := l.pruner().Garbage(t.Context()); err != nil || freed == 0 {
		t.Errorf("freed %d, %v", freed, err)
	}
	l.fails("files?image="+img.ID.String(), http.StatusNotFound)
}

// TestSizes: the treemap of directories, and that of layers.
func TestSizes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.image("app", "big/ big/deep/ big/deep/er/ big/deep/er/file="+strings.Repeat("x", 6000)+" small/ small/a=1 small/b=2", "big/ big/new="+strings.Repeat("y", 3000)+" -small/b")
	var b block
	l.get("sizes?image=app", &b)
	if b.Size != 9001 || b.Files != 3 || len(b.Kids) != 2 || b.Kids[0].Name != "big" || b.Kids[0].Layer != 0 || b.Kids[1].Name != "1 more" || b.Kids[1].Path != "" {
		t.Errorf("%+v %+v", b, b.Kids)
	}
	if big := b.Kids[0]; len(big.Kids) != 2 || big.Kids[0].Kids[0].Name != "er" || big.Kids[0].Kids[0].Kids != nil || big.Kids[1].Layer != 1 || !big.Dir || big.Kids[1].Dir {
		t.Errorf("%+v", big.Kids)
	}
	l.get("sizes?image=app&path=small", &b)
	if b.Size != 1 || len(b.Kids) != 1 || b.Kids[0].Name != "a" {
		t.Errorf("%+v", b)
	}
	b = block{}
	l.get("sizes?image=app&by=layer", &b)
	if b.Size != 9002 || len(b.Kids) != 2 || b.Kids[0].Size != 6002 || b.Kids[1].Layer != 1 || b.Kids[1].Kids[0].Name != "big" {
		t.Errorf("%+v %+v", b, b.Kids)
	}
	l.image("empty")
	if l.get("sizes?image=empty", &b); b.Size != 0 {
		t.Errorf("%+v", b)
	}
}

// TestShelf: trees that were not used for longest are dropped when there are too many files, and one that cannot be loaded is not kept.
func TestShelf(t *testing.T) {
	t.Parallel()
	var s shelf
	loads := 0
	get := func(name string, count int, err error) {
		t.Helper()
		_, got := s.get(t.Context(), name, func() (*imageTree, error) { loads++; return &imageTree{count: count}, err })
		if got != err { //nolint:errorlint // the same
			t.Errorf("%s: %v, want %v", name, got, err)
		}
	}
	get("a", maxShelf/2, nil)
	get("b", maxShelf/2, nil)
	get("a", 0, nil)
	get("c", maxShelf/2, nil) // b goes
	get("a", 0, nil)
	if loads != 3 || len(s.items) != 2 {
		t.Errorf("%d loads, %d items", loads, len(s.items))
	}
	get("b", maxShelf*2, nil) // too large for others beside it
	get("d", 1, io.ErrUnexpectedEOF)
	get("d", 1, io.ErrUnexpectedEOF)
	if loads != 6 || len(s.items) != 0 {
		t.Errorf("%d loads, %d items", loads, len(s.items))
	}
	_, err := s.get(t.Context(), "x", func() (*imageTree, error) { panic("odd") })
	if err == nil {
		t.Error("a panic is no error")
	}
}

// TestAnalysis: what mica analyze finds, with paths as they may be shown, and without the secrets.
func TestAnalysis(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	big := strings.Repeat("x", 200_000)
	l.image("app", "d/ d/a="+big+" d/\x1b[31mb="+big, "d/ d/a=1 .npmrc=//r/:_authToken=npm_abcdefghijklmnopqrstuvwxyz0123456789")
	for range 2 { // the second time from memory
		var p reportPage
		l.get("analysis?image=app", &p)
		if p.Wasted.Bytes != 200_000 || len(p.Waste) != 1 || p.Waste[0].How != "overwritten" || p.Waste[0].Step != 1 || p.Waste[0].By != 2 || !strings.HasSuffix(p.Waste[0].Path, "d/a") {
			t.Errorf("%+v", p)
		}
		if len(p.Steps) != 3 || p.Steps[0].Layer != 0 || p.Steps[2].Layer != -1 || p.Steps[1].Modified != 1 || p.Steps[0].Wasted != 200_000 {
			t.Errorf("%+v", p.Steps)
		}
		text := fmt.Sprintf("%+v", p)
		if len(p.Findings) < 2 || p.Findings[0].Kind != "secret" || strings.Contains(text, "hunter2") || strings.Contains(text, "npm_abc") || strings.Contains(text, "\x1b") || !strings.Contains(text, `d/\x1b[31mb`) {
			t.Errorf("%s", text)
		}
	}
	l.fails("analysis?image=nothing", http.StatusNotFound)
}

// TestAnalysisOfIngested: copies are found in a layer whose table of contents has no digests yet, after the files of the image were shown.
func TestAnalysisOfIngested(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	same := strings.Repeat("x", 200_000)
	l.ingested("copies", inspecttest.File("a", same), inspecttest.File("b", same))
	var files listing
	l.get("files?image=copies", &files)
	var p reportPage
	l.get("analysis?image=copies", &p)
	if p.Duplicates.Bytes != 200_000 || len(files.Files) != 2 {
		t.Errorf("%+v", p)
	}
}
