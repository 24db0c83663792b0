package compare

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	fixed = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	past  = time.Date(2022, 5, 6, 7, 8, 9, 0, time.UTC)
)

func sample() *Image {
	shared := &File{Type: tar.TypeReg, Mode: 0o644, Size: 1, Sum: "s", ModTime: past, Xattrs: map[string]string{}, Same: "/a"}
	return &Image{
		Layers: 2,
		Config: map[string]any{
			"architecture": "amd64", "created": "2026-01-02T03:04:05Z",
			"history": []any{map[string]any{"created_by": "RUN x", "created": "2022-01-01T00:00:00Z"}},
		},
		Files: map[string]*File{"/a": shared, "/b": shared, "/d": {Type: tar.TypeDir, Mode: 0o755, ModTime: past}},
	}
}

// TestDiffSeesEverything changes one thing at a time: a comparison that overlooks one proves nothing.
func TestDiffSeesEverything(t *testing.T) {
	if d := Diff(sample(), sample(), Options{Fixed: fixed}); len(d) != 0 {
		t.Fatalf("equal images differ: %q", d)
	}
	for name, change := range map[string]func(*Image){
		"layers":        func(i *Image) { i.Layers++ },
		"annotations":   func(i *Image) { i.Annotations = map[string]string{"a": "b"} },
		"config":        func(i *Image) { i.Config["architecture"] = "arm64" },
		"config more":   func(i *Image) { i.Config["os"] = "linux" },
		"config less":   func(i *Image) { delete(i.Config, "architecture") },
		"history":       func(i *Image) { i.Config["history"].([]any)[0].(map[string]any)["created_by"] = "RUN y" },
		"history time":  func(i *Image) { i.Config["history"].([]any)[0].(map[string]any)["created"] = "2022-01-01T00:00:01Z" },
		"missing file":  func(i *Image) { delete(i.Files, "/d") },
		"one file more": func(i *Image) { i.Files["/e"] = &File{} },
		"type":          func(i *Image) { i.Files["/d"].Type = tar.TypeReg },
		"mode":          func(i *Image) { i.Files["/d"].Mode = 0o1755 },
		"user":          func(i *Image) { i.Files["/d"].UID = 1 },
		"group":         func(i *Image) { i.Files["/d"].GID = 1 },
		"size":          func(i *Image) { i.Files["/a"].Size = 2 },
		"content":       func(i *Image) { i.Files["/a"].Sum = "t" },
		"link":          func(i *Image) { i.Files["/a"].Link = "t" },
		"major":         func(i *Image) { i.Files["/a"].Major = 1 },
		"minor":         func(i *Image) { i.Files["/a"].Minor = 1 },
		"xattr":         func(i *Image) { i.Files["/a"].Xattrs = map[string]string{"k": "v"} },
		"hard link":     func(i *Image) { i.Files["/a"].Same = "" },
		"time":          func(i *Image) { i.Files["/a"].ModTime = past.Add(time.Second) },
		"time of now":   func(i *Image) { i.Files["/a"].ModTime = fixed.AddDate(3, 0, 0) },
	} {
		img := sample()
		change(img)
		if d := Diff(sample(), img, Options{Fixed: fixed}); len(d) == 0 {
			t.Errorf("%s: no difference seen", name)
		}
	}
}

func layer(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestReadAppliesLayers(t *testing.T) {
	blobs := map[string][]byte{
		"config": []byte(`{"os":"linux"}`),
		"l1": layer(t, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/gone"}, tar.Header{Name: "o/", Typeflag: tar.TypeDir},
			tar.Header{Name: "o/old"}, tar.Header{Name: "a"}, tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "a"}, tar.Header{Name: "x/y"}),
		"l2": layer(t, tar.Header{Name: "d/.wh.gone"}, tar.Header{Name: "o/new"}, tar.Header{Name: "o/.wh..wh..opq"}, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "a"}),
	}
	ref := func(name string) map[string]string { return map[string]string{"digest": "sha256:" + name} }
	manifest, _ := json.Marshal(map[string]any{"config": ref("config"), "layers": []any{ref("l1"), ref("l2")}})
	blobs["manifest"] = manifest
	index, _ := json.Marshal(map[string]any{"manifests": []any{ref("manifest")}})
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	write := func(name string, data []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	write("index.json", index)
	for name, data := range blobs {
		write("blobs/sha256/"+name, data)
	}
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range []string{"/d", "/d/gone", "/o/old", "/o/new", "/a", "/link", "/x", "/x/y"} {
		if f, ok := img.Files[p]; ok {
			names = append(names, fmt.Sprint(p, f.Same))
		}
	}
	if got := strings.Join(names, " "); got != "/d /o/new /a/a /link/a /x" {
		t.Errorf("files: %s", got)
	}
}

// TestDiffIndexesSeesEverything: as above, of several images.
func TestDiffIndexesSeesEverything(t *testing.T) {
	index := func() *Index {
		return &Index{
			Several: true, Images: map[string]*Image{"linux/amd64": sample(), "linux/arm64": sample()},
			Descriptors: map[string]map[string]string{"linux/amd64": {"a": "b"}},
		}
	}
	if d := DiffIndexes(index(), index(), Options{Fixed: fixed}); len(d) != 0 {
		t.Fatalf("equal indexes differ: %q", d)
	}
	for name, change := range map[string]func(*Index){
		"form":        func(x *Index) { x.Several = false },
		"annotations": func(x *Index) { x.Annotations = map[string]string{"a": "b"} },
		"descriptor":  func(x *Index) { x.Descriptors["linux/amd64"]["a"] = "c" },
		"image":       func(x *Index) { x.Images["linux/arm64"].Layers++ },
		"less":        func(x *Index) { delete(x.Images, "linux/arm64") },
		"more":        func(x *Index) { x.Images["linux/arm/v7"] = sample() },
	} {
		x := index()
		change(x)
		if len(DiffIndexes(index(), x, Options{Fixed: fixed})) == 0 {
			t.Errorf("a difference of %s is overlooked", name)
		}
	}
}
