package ui

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config/configfile"

	"github.com/micabuild/mica/internal/inspect/inspecttest"
	"github.com/micabuild/mica/internal/registry"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/transfer"
)

// newOpenLab is a lab whose server looks up names in registries.
func newOpenLab(t *testing.T) *lab {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	client := registry.New(registry.Options{Docker: configfile.New(filepath.Join(t.TempDir(), "config.json")), RegistriesConf: os.DevNull})
	server := New(Options{Store: s, Registry: func() *registry.Client { return client }})
	web := httptest.NewServer(server.Handler())
	t.Cleanup(web.Close)
	return &lab{server, t, web}
}

// archive writes an image with the files d/a and b to an archive.
func archive(t *testing.T) string {
	t.Helper()
	s := inspecttest.NewStore(t)
	img := s.Image(nil, [][]inspecttest.Entry{{inspecttest.Dir("d"), inspecttest.File("d/a", "hello")}, {inspecttest.File("b", "b")}}, "saved:1")
	name := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), f, []transfer.Item{{Image: img, Names: []string{"docker.io/library/saved:1"}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOpenElsewhere: images that are not in the store are shown as those in it, by all views.
func TestOpenElsewhere(t *testing.T) {
	t.Parallel()
	l, reg := newOpenLab(t), registrytest.New(t)
	reg.PutImage("app", "1", "amd64", nil, inspecttest.Tar(t, inspecttest.Dir("d"), inspecttest.File("d/a", "hello")), inspecttest.Tar(t, inspecttest.File("b", "b")))
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"d/a": "hello", "b": "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, kind string
		layers     int
	}{{archive(t), "archive", 2}, {reg.Name("app:1"), "registry", 2}, {dir, "directory", 1}} {
		var p imagePage
		l.get("image?image="+url.QueryEscape(tt.name), &p)
		if string(p.Kind) != tt.kind || len(p.LayerList) != tt.layers || p.Names[0] != tt.name {
			t.Errorf("%s: %+v", tt.name, p)
		}
		ref := url.QueryEscape(p.Ref)
		var files listing
		l.get("files?image="+ref, &files)
		if len(files.Files) != 2 || files.Files[1].Name != "d" || files.Files[1].Size != 5 {
			t.Errorf("%s: %+v", tt.name, files)
		}
		if res, text := l.do(l.request(http.MethodGet, "api/content?image="+ref+"&path=d/a", "")); res.StatusCode != http.StatusOK || text != "hello" {
			t.Errorf("%s: %s %s", tt.name, res.Status, text)
		}
		var report reportPage
		l.get("analysis?image="+ref, &report)
		if report.Files != 2 || report.Size != 6 {
			t.Errorf("%s: %+v", tt.name, report)
		}
		var sizes block
		if l.get("sizes?image="+ref, &sizes); sizes.Size != 6 {
			t.Errorf("%s: %+v", tt.name, sizes)
		}
	}
	var list imageList
	if l.get("images", &list); len(list.Images) != 0 {
		t.Errorf("the store has got images: %+v", list)
	}
	l.fails("image?image="+url.QueryEscape(reg.Name("app:2")), http.StatusNotFound)
	l.fails("image?image="+url.QueryEscape(filepath.Join(dir, "nothing.tar")), http.StatusNotFound)
}

// TestOpenPinned: a tag that moves does not change the image that a page shows.
func TestOpenPinned(t *testing.T) {
	t.Parallel()
	l, reg := newOpenLab(t), registrytest.New(t)
	put := func(text string) {
		reg.PutImage("app", "1", "amd64", nil, inspecttest.Tar(t, inspecttest.File("f", text)))
	}
	put("old")
	var p imagePage
	l.get("image?image="+url.QueryEscape(reg.Name("app:1")), &p)
	if !strings.Contains(p.Ref, "@sha256:") || !p.Packed || !p.LayerList[0].Packed || p.LayerList[0].Size == 0 {
		t.Errorf("%+v", p)
	}
	put("newer")
	if _, text := l.do(l.request(http.MethodGet, "api/content?path=f&image="+url.QueryEscape(p.Ref), "")); text != "old" {
		t.Errorf("%q", text)
	}
}

// TestOpenDirectory: a directory is read again when its page is.
func TestOpenDirectory(t *testing.T) {
	t.Parallel()
	l, dir := newOpenLab(t), t.TempDir()
	for n := 1; n <= 2; n++ {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		var p imagePage
		var files listing
		l.get("image?image="+url.QueryEscape(dir), &p)
		l.get("files?image="+url.QueryEscape(dir), &files)
		if len(files.Files) != n || p.Platform != "" || p.ID != "" {
			t.Errorf("%d: %+v %+v", n, files, p)
		}
	}
}

// TestDiffElsewhere: an image of the store is compared with an archive.
func TestDiffElsewhere(t *testing.T) {
	t.Parallel()
	l := newOpenLab(t)
	l.image("app", "d/ d/a=other", "b=b")
	var d diffPage
	l.get("diff?a="+url.QueryEscape(archive(t))+"&b=app", &d)
	if d.Same || d.Files.Changed.Count != 2 || d.A.Packed || d.B.Names[0] != "app:latest" || d.A.Size != 6 {
		t.Errorf("%+v", d)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/b", []byte("b"), 0o755); err != nil {
		t.Fatal(err)
	}
	d = diffPage{}
	l.get("diff?b="+url.QueryEscape(dir)+"&a=app", &d)
	if d.Same || d.Files.Removed.Count != 2 || d.Config != nil || d.Layers != nil {
		t.Errorf("%+v", d)
	}
}
