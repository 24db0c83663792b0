package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/registry/registrytest"
	"github.com/micabuild/mica/internal/store"
)

func newLocal(t testing.TB) *Local {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	l := layer.New(s)
	return &Local{Store: s, Layers: l, Images: image.New(s, l)}
}

func rootfs(t testing.TB, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f, Size: int64(len(f)), Mode: 0o644, ModTime: time.Unix(1, 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func importOptions() ImportOptions {
	o := ImportOptions{Message: "m", Created: time.Unix(1_600_000_000, 0).UTC()}
	o.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	o.Config.Env, o.Config.WorkingDir = []string{"A=b"}, "/w"
	return o
}

func TestImportSaveLoad(t *testing.T) {
	from := newLocal(t)
	img, err := from.Import(t.Context(), bytes.NewReader(rootfs(t, "a", "b")), importOptions())
	if err != nil {
		t.Fatal(err)
	}
	if c := img.Config; c.Config.WorkingDir != "/w" || c.Architecture != "arm64" || !slices.Equal(c.Config.Env, []string{"A=b"}) || c.History[0].Comment != "m" {
		t.Errorf("config is %+v", c)
	}
	names := []string{"docker.io/library/x:1", "registry.example:5000/y:latest"}
	var saved, again bytes.Buffer
	for _, w := range []io.Writer{&saved, &again} {
		if err := from.Save(t.Context(), w, []Item{{Image: img, Names: names}}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(saved.Bytes(), again.Bytes()) {
		t.Error("saved twice, the bytes differ")
	}
	to := newLocal(t)
	loaded, err := to.Load(t.Context(), &saved)
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 || loaded[0].ID != img.ID || !slices.Equal(loaded[0].Names, []string{"registry.example:5000/y:latest", "x:1"}) &&
		!slices.Equal(loaded[0].Names, []string{"x:1", "registry.example:5000/y:latest"}) {
		t.Errorf("loaded %+v", loaded)
	}
	got, err := to.Images.Find(t.Context(), "x:1")
	if err != nil || got.ID != img.ID || got.Target.Digest != img.Target.Digest {
		t.Errorf("%+v %v", got, err)
	}
	var flat bytes.Buffer
	v, err := to.Layers.View(t.Context(), got.Chain())
	if err != nil {
		t.Fatal(err)
	}
	if err := Export(t.Context(), &flat, v); err != nil {
		t.Fatal(err)
	}
	var files []string
	for tr := tar.NewReader(&flat); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		files = append(files, h.Name)
	}
	if strings.Join(files, " ") != "a b" {
		t.Errorf("exported %v", files)
	}
}

// FuzzLoad gives arbitrary manifests and indexes for an archive's.
func FuzzLoad(f *testing.F) {
	f.Add(`[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`, `{"schemaVersion":2,"manifests":[]}`)
	f.Add(`[]`, `{}`, `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"","size":1}]}`)
	f.Add(`null`, `null`, `{"manifests":[{"digest":"sha256:`+digest.FromString("x").Encoded()+`"}]}`)
	f.Add(`[{"Config":"c.json","RepoTags":["x:1"],"Layers":["sha256:x"]}]`, `{"rootfs":{"type":"layers","diff_ids":["x"]}}`, ``)
	f.Add(`[{"Config":"x","RepoTags":["sha256:x","../x","X"],"Layers":["../../etc/passwd",""]}]`, `{"rootfs":{"diff_ids":["sha256:../x"]}}`, `{"manifests":[{"digest":"x"}]}`)
	someDigest := digest.FromString("x").String()
	f.Add(``, ``, `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"`+someDigest+`","size":-1},{"mediaType":"x/y","digest":"`+someDigest+`","size":9223372036854775807}]}`)
	f.Add(``, ``, `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+someDigest+`","annotations":{"org.opencontainers.image.ref.name":"sha256:x"}}]}`)
	a := newLocal(f)
	f.Fuzz(func(t *testing.T, manifest, config, index string) {
		in := archiveOf(t,
			part{"manifest.json", []byte(manifest)}, part{"c.json", []byte(config)}, part{"index.json", []byte(index)},
			part{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)})
		images, err := a.newLoader(nil).read(t.Context(), bytes.NewReader(in))
		if err == nil && slices.Contains(images, nil) {
			t.Error("an image of nothing")
		}
	})
}

// TestImportLayout: the image of a layout for a platform comes into the store, where nothing names it.
func TestImportLayout(t *testing.T) {
	t.Parallel()
	m := registrytest.New(t)
	m.PutPlatforms("app", "1")
	layout := "oci:" + t.TempDir() + "/layout:1"
	c := newClient(t)
	c.copyTo(m.Name("app:1"), layout, CopyOptions{})
	src := c.source(layout)
	root, err := src.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, none := other(), ocispec.Platform{OS: "linux", Architecture: "s390x"}
	for _, test := range []struct {
		platform *ocispec.Platform
		arch     string // "" for an error
	}{{nil, runtime.GOARCH}, {&other, other.Architecture}, {&other, other.Architecture}, {&none, ""}} {
		img, err := c.ImportLayout(t.Context(), src, root, test.platform)
		if test.arch == "" {
			if err == nil {
				t.Errorf("for %v: %v", test.platform, img)
			}
			continue
		}
		if err != nil || img.Config.Architecture != test.arch || len(img.Chain()) != 2 {
			t.Errorf("for %v: %v, %v", test.platform, img, err)
		}
	}
	if got := c.images(); got != "" {
		t.Errorf("the store has %s", got)
	}
}

// TestImporterRefuses what does not fit together.
func TestImporterRefuses(t *testing.T) {
	t.Parallel()
	id := digest.FromString("layer")
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: 1}
	config := func(ids ...digest.Digest) []byte {
		return mustJSON(t, map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	}
	for name, test := range map[string]struct {
		config     []byte
		configType string
		layers     []ocispec.Descriptor
		want       string // of the error; "" for none
	}{
		"good":               {config(id), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, ""},
		"good, Docker's":     {config(id), "application/vnd.docker.container.image.v1+json", []ocispec.Descriptor{d}, ""},
		"chart":              {config(id), "application/vnd.cncf.helm.config.v1+json", []ocispec.Descriptor{d}, "not an image: the manifest is a application/vnd.cncf.helm"},
		"fewer layers":       {config(id, id), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, "layers"},
		"more layers":        {config(), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, "layers"},
		"DiffID is a path":   {config("sha256:../x"), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, "digest"},
		"config is no JSON":  {[]byte("{"), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, "config"},
		"layers not to have": {config(id), ocispec.MediaTypeImageConfig, []ocispec.Descriptor{d}, "no such layer"},
	} {
		stored := 0
		i := &importer{
			config: func(context.Context, ocispec.Descriptor) ([]byte, error) { return test.config, nil },
			layers: func(_ context.Context, list []ocispec.Descriptor, ids []digest.Digest) error {
				stored++
				if test.want == "no such layer" {
					return errors.New(test.want)
				}
				if len(list) != len(ids) {
					t.Errorf("%s: %d layers, %d DiffIDs", name, len(list), len(ids))
				}
				return nil
			},
		}
		raw := mustJSON(t, ocispec.Manifest{Config: ocispec.Descriptor{MediaType: test.configType, Digest: digest.FromBytes(test.config)}, Layers: test.layers})
		_, err := i.image(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(raw)}, raw)
		if test.want == "" && (err != nil || stored != 1) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
