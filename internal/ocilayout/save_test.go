package ocilayout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/ocilayout"
)

// TestList is how docker save lists images.
func TestList(t *testing.T) {
	t.Parallel()
	config, layer := describe(ocispec.MediaTypeImageConfig, []byte("config")), describe(ocispec.MediaTypeImageLayer, []byte("layer"))
	manifest := describe(ocispec.MediaTypeImageManifest, []byte("manifest"))
	manifest.Annotations = map[string]string{"k": "v"}
	id := digest.FromString("").String()
	name := ocilayout.BlobName
	for title, test := range map[string]struct {
		images []ocilayout.Saved
		docker string   // manifest.json
		index  []string // tags and names
	}{
		"none":    {nil, `[]`, nil},
		"unnamed": {[]ocilayout.Saved{{Descriptor: manifest, Config: config}}, `[{"Config":"` + name(config.Digest) + `","RepoTags":null,"Layers":[]}]`, []string{" "}},
		"named": {
			[]ocilayout.Saved{{Descriptor: manifest, Config: config, Layers: []ocispec.Descriptor{layer}, Names: []string{"docker.io/library/a:1", "registry.example/b:2"}}},
			`[{"Config":"` + name(config.Digest) + `","RepoTags":["a:1","registry.example/b:2"],"Layers":["` + name(layer.Digest) + `"]}]`,
			[]string{"1 docker.io/library/a:1", "2 registry.example/b:2"},
		},
		"by digest": {
			[]ocilayout.Saved{{Descriptor: manifest, Config: config, Names: []string{"docker.io/library/a@" + id}}},
			`[{"Config":"` + name(config.Digest) + `","RepoTags":["a@` + id + `"],"Layers":[]}]`, []string{" docker.io/library/a@" + id},
		},
	} {
		files := must[[]ocilayout.File](t)(ocilayout.List(test.images))
		if len(files) != 3 || files[0].Name != "oci-layout" || files[1].Name != "index.json" || files[2].Name != "manifest.json" {
			t.Fatalf("%s: files %v", title, files)
		}
		if got := string(files[2].Data); got != test.docker {
			t.Errorf("%s: manifest.json is %s, want %s", title, got, test.docker)
		}
		if got := readIndex(t, files[1].Data); !reflect.DeepEqual(got, test.index) {
			t.Errorf("%s: index.json has %q, want %q", title, got, test.index)
		}
		var index ocispec.Index
		check(t, json.Unmarshal(files[1].Data, &index))
		for _, d := range index.Manifests {
			if d.Digest != manifest.Digest || d.Annotations["k"] != "v" {
				t.Errorf("%s: index.json has %+v", title, d)
			}
		}
	}
	if len(manifest.Annotations) != 1 {
		t.Errorf("the annotations of an image were changed: %v", manifest.Annotations)
	}
}

// TestFileWriters: the files of a tar and of a directory, and those that cannot be read to their end.
func TestFileWriters(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	tw := ocilayout.NewTarWriter(&archive)
	dir := t.TempDir()
	root := must[*os.Root](t)(os.OpenRoot(dir))
	t.Cleanup(func() { check(t, root.Close()) })
	check(t, os.WriteFile(filepath.Join(dir, "a"), []byte("a longer file than the new one"), 0o600))
	for name, text := range map[string]string{"a": "first", "blobs/sha256/b": ""} {
		for _, w := range []ocilayout.FileWriter{tw, ocilayout.DirWriter{Root: root}} {
			check(t, w.Add(name, int64(len(text)), strings.NewReader(text)))
		}
		if got := string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, name)))); got != text {
			t.Errorf("%s is %q", name, got)
		}
	}
	check(t, tw.Close())
	if got := members(t, put(t, "x.tar", archive.Bytes())); !reflect.DeepEqual(got, map[string]string{"a": "first", "blobs/": "", "blobs/sha256/": "", "blobs/sha256/b": ""}) {
		t.Errorf("the tar has %q", got)
	}
	broken := errors.New("broken")
	for _, w := range []ocilayout.FileWriter{ocilayout.NewTarWriter(io.Discard), ocilayout.DirWriter{Root: root}} {
		if err := w.Add("a", 9, io.MultiReader(strings.NewReader("new"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("%T: %v", w, err)
		}
	}
	if got := string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "a")))); got != "first" {
		t.Errorf("after a broken write the file is %q", got)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 2 {
		t.Errorf("the directory has %v", entries)
	}
	if err := (ocilayout.DirWriter{Root: root}).Add("../x", 1, strings.NewReader("x")); err == nil {
		t.Error("a file is written outside of the directory")
	}
}

// TestSharedDirectory: a cache's directory may have other files, which stay.
func TestSharedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "README"), []byte("mine"), 0o600))
	o := newOrigin(t)
	image := o.image("a")
	at := locate(t, "oci:"+dir+":latest")
	if _, err := at.Create(ctx, ocilayout.CreateOptions{Scratch: true}); err == nil {
		t.Fatal("a directory with other files is a layout")
	}
	dst := must[*ocilayout.Destination](t)(at.Create(ctx, ocilayout.CreateOptions{Scratch: true, Shared: true}))
	raw := must[io.ReadCloser](t)(o.Fetch(ctx, image))
	check(t, dst.Push(ctx, image, raw))
	check(t, dst.Commit(ctx, image))
	check(t, dst.Close())
	src := open(t, "oci:"+dir+":latest")
	if got := must[ocispec.Descriptor](t)(src.Root(ctx)); got.Digest != image.Digest {
		t.Errorf("latest is %v", got)
	}
	if got := string(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "README")))); got != "mine" {
		t.Errorf("README is %q", got)
	}
}

// TestReadStream: what an archive from a pipe is made of.
func TestReadStream(t *testing.T) {
	t.Parallel()
	layer := string(tarOf(t, file{name: "{etc", data: "x"})) // whose first bytes could be those of JSON
	config := `{"rootfs":{"type":"layers","diff_ids":["` + digest.FromString(layer).String() + `"]}}`
	blob := describe("", []byte(config))
	archive := tarOf(
		t, file{name: "./1/layer.tar", data: layer}, file{name: "2/layer.tar", link: "../1/layer.tar"}, file{name: "3/layer.tar", link: "=2/layer.tar"},
		file{name: "empty"}, file{name: "gzip", data: string(gzipped(t, []byte(layer)))}, file{name: "VERSION", data: "v1.0"}, file{name: "text", data: strings.Repeat("text ", 200)},
		file{name: "list", data: "[" + strings.Repeat(" ", 600) + "]"}, file{name: "c.json", data: config}, file{name: ocilayout.BlobName(blob.Digest), data: config},
		file{name: "manifest.json", data: `[{"Config":"c.json","RepoTags":["a:1","b"],"Layers":["3/layer.tar"]}]`},
	)
	layers := map[string]bool{}
	src := must[*ocilayout.Source](t)(ocilayout.ReadStream(ctx, bytes.NewReader(archive), func(name string, _ io.Reader) error {
		layers[name] = true
		return nil // and leave the content to the reader of the archive
	}))
	if want := map[string]bool{"1/layer.tar": true, "empty": true, "gzip": true, "text": true}; !reflect.DeepEqual(layers, want) {
		t.Errorf("layers are %v", layers)
	}
	images := must[[]ocilayout.Image](t)(src.Images())
	want := []ocilayout.Image{{Names: []string{"docker.io/library/a:1", "docker.io/library/b:latest"}, Config: "c.json", Layers: []string{"3/layer.tar"}}}
	if !reflect.DeepEqual(images, want) {
		t.Errorf("images are %+v", images)
	}
	if at := must[string](t)(src.Resolve("./3/../3/layer.tar")); at != "1/layer.tar" {
		t.Errorf("the layer is %s", at)
	}
	if raw := must[[]byte](t)(src.ConfigFile("c.json")); string(raw) != config {
		t.Errorf("the config is %s", raw)
	}
	if raw := must[[]byte](t)(src.Document(blob)); string(raw) != config {
		t.Errorf("the blob is %s", raw)
	}
	for what, err := range map[string]error{
		"outside":            errorOf(src.Resolve("../x")),
		"is missing":         errorOf(src.Document(describe("", []byte("x")))),
		"d.json is":          errorOf(src.ConfigFile("d.json")),
		"not the 5":          errorOf(src.Document(ocispec.Descriptor{Digest: blob.Digest, Size: 5})),
		"VERSION is damaged": errorOf(src.ConfigFile("VERSION")),
	} {
		wantError(t, err, what)
	}
}

func errorOf[T any](_ T, err error) error { return err }

// TestReadStreamRefuses archives that cannot be read, and stops at an error of the caller.
func TestReadStreamRefuses(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	name := strings.Repeat("0", 64) + ".json"
	for title, test := range map[string]struct {
		archive []byte
		want    string
	}{
		"empty":         {nil, "it is empty"},
		"text":          {[]byte(strings.Repeat("text", 300)), "not an image archive"},
		"no list":       {tarOf(t, file{name: "x", data: "{}"}), "neither manifest.json nor index.json"},
		"truncated":     {tarOf(t, file{name: "a", data: "{}"}, file{name: "x", data: strings.Repeat("{", 600)})[:1700], "the archive is truncated"},
		"large config":  {tarOf(t, file{name: "x", data: "{" + strings.Repeat(" ", 8<<20)}), "the limit for a manifest or config is 4194304"},
		"layer":         {tarOf(t, file{name: "empty"}), full.Error()},
		"config digest": {tarOf(t, file{name: name, data: `{"rootfs":{}}`}, file{name: "manifest.json", data: `[{"Config":"` + name + `"}]`}), "digest mismatch"},
	} {
		src, err := ocilayout.ReadStream(ctx, bytes.NewReader(test.archive), func(string, io.Reader) error { return full })
		if err == nil {
			_, err = src.ConfigFile(name)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", title, err, test.want)
		}
	}
}

// TestImages lists each image of a layout once, with the names that its entries have.
func TestImages(t *testing.T) {
	t.Parallel()
	a, b := describe(ocispec.MediaTypeImageManifest, []byte("a")), describe(ocispec.MediaTypeImageIndex, []byte("b"))
	named := func(d ocispec.Descriptor, tag, name string) ocispec.Descriptor {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: tag, "io.containerd.image.name": name}
		return d
	}
	attested := a
	attested.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	bad := a
	bad.Digest = "sha256:../x"
	for title, test := range map[string]struct {
		index []ocispec.Descriptor
		want  []ocilayout.Image
		err   string
	}{
		"tags are not names":   {[]ocispec.Descriptor{named(a, "1", "")}, []ocilayout.Image{{Descriptor: named(a, "1", "")}}, ""},
		"name in place of tag": {[]ocispec.Descriptor{named(a, "x/y", "")}, []ocilayout.Image{{Descriptor: named(a, "x/y", ""), Names: []string{"docker.io/x/y:latest"}}}, ""},
		"name before tag":      {[]ocispec.Descriptor{named(a, "x/y", "z:1")}, []ocilayout.Image{{Descriptor: named(a, "x/y", "z:1"), Names: []string{"docker.io/library/z:1"}}}, ""},
		"several names": {
			[]ocispec.Descriptor{named(a, "1", "x:1"), b, named(a, "2", "x:2"), named(a, "2", "x:2")},
			[]ocilayout.Image{{Descriptor: named(a, "1", "x:1"), Names: []string{"docker.io/library/x:1", "docker.io/library/x:2"}}, {Descriptor: b}}, "",
		},
		"attestation": {[]ocispec.Descriptor{attested}, nil, "lists no image"},
		"empty":       {nil, nil, "lists no image"},
		"bad digest":  {[]ocispec.Descriptor{bad}, nil, "invalid digest"},
	} {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "index.json"), toJSON(t, ocispec.Index{Manifests: test.index}), 0o600))
		got, err := open(t, "oci:"+dir).Images()
		if test.err != "" {
			wantError(t, err, test.err)
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", title, got, err)
		}
	}
}
