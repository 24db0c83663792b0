package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/micabuild/mica/internal/history"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

// lab is a server of a store, and a browser that has its cookie.
type lab struct {
	*Server
	t   *testing.T
	web *httptest.Server
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	server := New(Options{Store: s, Version: "1.2.3"})
	web := httptest.NewServer(server.Handler())
	t.Cleanup(web.Close)
	return &lab{server, t, web}
}

// request makes a request of the page for a path below its own, as a browser with the cookie does.
func (l *lab) request(method, path, body string) *http.Request {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.web.URL+"/"+l.space+"/"+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: cookieName, Value: l.token})
	if method == http.MethodPost {
		req.Header.Set("Origin", l.web.URL)
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// reply is a response without its body.
type reply struct {
	Status     string
	StatusCode int
	Header     http.Header
	Cookies    []*http.Cookie
}

// do sends a request, and returns the response and its body.
func (l *lab) do(req *http.Request) (reply, string) {
	l.t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return reply{res.Status, res.StatusCode, res.Header, res.Cookies()}, string(data)
}

// get asks for JSON.
func (l *lab) get(path string, into any) {
	l.t.Helper()
	res, text := l.do(l.request(http.MethodGet, "api/"+path, ""))
	if res.StatusCode != http.StatusOK {
		l.t.Fatalf("%s: %s %s", path, res.Status, text)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(into); err != nil {
		l.t.Fatalf("%s: %v in %s", path, err, text)
	}
}

// fails is what a request that must fail says.
func (l *lab) fails(path string, status int) string {
	l.t.Helper()
	res, text := l.do(l.request(http.MethodGet, "api/"+path, ""))
	var e struct{ Error string }
	if err := json.Unmarshal([]byte(text), &e); err != nil || res.StatusCode != status || e.Error == "" {
		l.t.Errorf("%s: %s %s, want %d", path, res.Status, text, status)
	}
	return e.Error
}

// post sends JSON.
func (l *lab) post(path, body string) (status int, text string) {
	l.t.Helper()
	res, text := l.do(l.request(http.MethodPost, "api/"+path, body))
	return res.StatusCode, text
}

// write makes a layer of words: "dir/", "name=content", "-name" for a removal, "name@target" for a symlink, "name+first" for a hard link.
// Directories are as the words have them.
func (l *lab) write(words string) *layer.Layer {
	l.t.Helper()
	layers, _ := l.newLayers()
	files := map[string][]byte{}
	var changes []view.Change
	for _, w := range strings.Fields(words) {
		e := &view.Entry{Path: w, Mode: 0o755, ModTime: time.Unix(1, 0)}
		switch {
		case strings.HasPrefix(w, "-"):
			e.Path, e.Type, e.Mode = w[1:], view.TypeWhiteout, 0
		case strings.HasSuffix(w, "/"):
			e.Path, e.Type = strings.TrimSuffix(w, "/"), view.TypeDir
		case strings.Contains(w, "@"):
			e.Path, e.Linkname, _ = strings.Cut(w, "@")
			e.Type = view.TypeSymlink
		case strings.Contains(w, "+"):
			var first string
			e.Path, first, _ = strings.Cut(w, "+")
			e.Type, e.Hardlink, e.Size = view.TypeRegular, first, int64(len(files[first]))
		default:
			name, content, _ := strings.Cut(w, "=")
			files[name] = []byte(content)
			e.Path, e.Type, e.Size = name, view.TypeRegular, int64(len(content))
		}
		changes = append(changes, view.Change{Entry: e})
	}
	source := view.Files(files)
	for i := range changes {
		if e := changes[i].Entry; e.Type == view.TypeRegular && e.Hardlink == "" {
			changes[i].Source, changes[i].SourcePath = source, e.Path
		}
	}
	slices.SortFunc(changes, func(a, b view.Change) int { return strings.Compare(a.Entry.Path, b.Entry.Path) })
	res, err := layers.Write(l.t.Context(), changes, layer.AsBlob)
	if err != nil {
		l.t.Fatal(err)
	}
	return res
}

// ingested makes an image of one layer, as a pull does.
func (l *lab) ingested(name string, entries ...inspecttest.Entry) {
	l.t.Helper()
	layers, images := l.newLayers()
	got, _, err := layers.Ingest(l.t.Context(), bytes.NewReader(inspecttest.Tar(l.t, entries...)), "", "")
	if err != nil {
		l.t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, got.DiffID)
	img, err := images.Create(l.t.Context(), image.Draft{Config: []byte(config)})
	if err == nil {
		err = images.Tag(l.t.Context(), img, name)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// image makes an image of layers, each of words, with a history of a line per layer and one more.
func (l *lab) image(name string, words ...string) *image.Image {
	l.t.Helper()
	ids, lines := []digest.Digest{}, []map[string]any{}
	for _, w := range words {
		ids = append(ids, l.write(w).DiffID)
		lines = append(lines, map[string]any{"created_by": "RUN " + w[:min(len(w), 100)], "created": time.Unix(1, 0)})
	}
	lines = append(lines, map[string]any{"created_by": "CMD x", "empty_layer": true})
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": time.Unix(100, 0), "rootfs": map[string]any{"type": "layers", "diff_ids": ids}, "history": lines,
		"config": map[string]any{
			"Env": []string{"PATH=/bin", "API_TOKEN=hunter2", "URL=https://u:hunter2@host/"}, "Cmd": []string{"x"}, "User": "me",
			"Labels": map[string]string{"source": "https://u:hunter2@host/"}, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}},
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	_, images := l.newLayers()
	img, err := images.Create(l.t.Context(), image.Draft{Config: config})
	if err == nil && name != "" {
		err = images.Tag(l.t.Context(), img, name)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return img
}

// begin records a build, which runs until its writer ends it.
func (l *lab) begin(b *history.Build) *history.Writer {
	l.t.Helper()
	if b.Started.IsZero() {
		b.Started = time.Now().UTC()
	}
	if b.Line == "" {
		b.Line = "line"
	}
	w, err := l.builds.Begin(context.Background(), b)
	if err != nil {
		l.t.Fatal(err)
	}
	return w
}

// end ends a build.
func (l *lab) end(w *history.Writer, b *history.Build, s history.Status) {
	l.t.Helper()
	b.Status, b.Completed = s, b.Started.Add(time.Minute)
	if err := w.End(); err != nil {
		l.t.Fatal(err)
	}
}

// TestPage: the page and its files are there, with the types that browsers insist on.
func TestPage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for path, want := range map[string]string{
		"": "text/html; charset=utf-8", "index.html": "text/html; charset=utf-8", "style.css": "text/css; charset=utf-8",
		"app.js": "text/javascript; charset=utf-8", "mica.svg": "image/svg+xml; charset=utf-8",
	} {
		res, text := l.do(l.request(http.MethodGet, path, ""))
		if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != want || text == "" {
			t.Errorf("%q: %s, type %s, want %s", path, res.Status, got, want)
		}
	}
	for _, path := range []string{"nothing.js", "..%2fserver.go", "page/app.js", "api/nothing"} {
		if res, _ := l.do(l.request(http.MethodGet, path, "")); res.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s", path, res.Status)
		}
	}
}

// TestNoMarkupOfData: the scripts of the page have no way to make markup of texts, and name no other host.
func TestNoMarkupOfData(t *testing.T) {
	t.Parallel()
	entries, err := files.ReadDir("page")
	if err != nil || len(entries) < 10 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		data, err := files.ReadFile("page/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), "http://www.w3.org/2000/svg", "")
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "srcdoc", "http://", "https://", "style=\"", "onclick=\""} {
			if strings.Contains(text, word) {
				t.Errorf("%s has %s", e.Name(), word)
			}
		}
	}
}

// TestServe: a server answers until its context ends, also those who watch a build.
func TestServe(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	w := l.begin(&history.Build{Ref: "running1"})
	defer func() { _ = w.End() }()
	ctx, cancel := context.WithCancel(t.Context())
	tcp := listen(t)
	url := l.URL(tcp.Addr())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, tcp) }()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	cookies := res.Cookies()
	_ = res.Body.Close()
	req, err := http.NewRequest(http.MethodGet, strings.Split(url, "?")[0]+"api/watch?build=running1", http.NoBody)
	if err != nil || len(cookies) != 1 {
		t.Fatal(err, cookies)
	}
	req.AddCookie(cookies[0])
	watch, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Body.Close() }()
	first := make([]byte, 12)
	if _, err := io.ReadFull(watch.Body, first); err != nil || string(first) != "event: build" {
		t.Fatalf("%q, %v", first, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, watch.Body) // it ends
}

// TestPanic: what goes wrong in one request ends that one.
func TestPanic(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	answer(func(*http.Request) (any, error) { panic("at https://u:hunter2@host/") }).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "hunter2") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestCompressed: large answers are compressed for those who take that.
func TestCompressed(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	rec := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	req.Header.Set("Accept-Encoding", "gzip")
	answer(func(*http.Request) (any, error) { return large, nil }).ServeHTTP(rec, req)
	if rec.Header().Get("Content-Encoding") != "gzip" || rec.Body.Len() > 1<<16 || !bytes.HasPrefix(rec.Body.Bytes(), []byte{0x1f, 0x8b}) {
		t.Errorf("%d bytes, %v", rec.Body.Len(), rec.Header())
	}
}

// chainID is the ChainID of the lowest layers of an image.
func chainID(img *image.Image, layers int) digest.Digest {
	return identity.ChainID(slices.Clone(img.Chain()[:layers]))
}
