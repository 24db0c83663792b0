package ocilayout_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/micabuild/mica/internal/ocilayout"
)

type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func configOf(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	c := ocispec.Image{Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
	}
	return toJSON(t, c)
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	return must[*zstd.Encoder](t)(zstd.NewWriter(nil)).EncodeAll(data, nil)
}

func xzed(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := must[*xz.Writer](t)(xz.NewWriter(&buf))
	must[int](t)(w.Write(data))
	check(t, w.Close())
	return buf.Bytes()
}

// TestOldDockerArchive reads archives as docker save wrote them before it knew layouts.
func TestOldDockerArchive(t *testing.T) {
	one, two := tarOf(t, file{name: "one", data: "1"}), tarOf(t, file{name: "two", data: "2"})
	config := configOf(t, one, two, one)
	name := digest.FromBytes(config).Encoded() + ".json"
	manifest := file{name: "manifest.json", data: string(toJSON(t, []dockerEntry{{name, []string{"app:1", "reg.example/app:2"}, []string{"a/layer.tar", "b/layer.tar", "c/layer.tar"}}}))}
	files := func(a, b string, third file) []file {
		return []file{{name: "a/", data: ""}, {name: "a/layer.tar", data: a}, {name: "b/layer.tar", data: b}, third, {name: name, data: string(config)}, manifest}
	}
	symlink := file{name: "c/layer.tar", link: "../a/layer.tar"}
	for name, c := range map[string]struct {
		files []file
		types []string
	}{
		"plain":    {files(string(one), string(two), file{name: "c/layer.tar", data: string(one)}), []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayer}},
		"symlink":  {files(string(one), string(two), symlink), []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayer}},
		"hardlink": {files(string(one), string(two), file{name: "c/layer.tar", link: "=a/layer.tar"}), []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayer}},
		"packed":   {files(string(gzipped(t, one)), string(zstded(t, two)), symlink), []string{ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "x.tar", tarOf(t, c.files[1:]...))
			src := open(t, "docker-archive:"+path)
			root := must[ocispec.Descriptor](t)(src.Root(ctx))
			var m ocispec.Manifest
			check(t, json.Unmarshal(must[[]byte](t)(content.FetchAll(ctx, src, root)), &m))
			if len(m.Layers) != 3 || m.Layers[0].MediaType != c.types[0] || m.Layers[1].MediaType != c.types[1] || m.Layers[2].Digest != m.Layers[0].Digest ||
				m.Config.Digest != digest.FromBytes(config) {
				t.Errorf("%+v", m)
			}
			for _, ref := range []string{"", ":app:1", ":docker.io/library/app:1", ":reg.example/app:2"} {
				wantImage(t, "docker-archive:"+path+ref, root)
			}
			// From a compressed archive it is the same one, and again after a copy.
			wantImage(t, "docker-archive:"+put(t, "x.tar.gz", gzipped(t, tarOf(t, c.files[1:]...))), root)
			to := "docker-archive:" + filepath.Join(t.TempDir(), "y")
			write(t, src, root, to, "app:1")
			wantImage(t, to, root)
		})
	}
}

func TestDockerArchiveOfSeveral(t *testing.T) {
	layer := tarOf(t, file{name: "f", data: "x"})
	a, b := configOf(t, layer), configOf(t, layer, layer)
	path := put(t, "x.tar", tarOf(t,
		file{name: "a.json", data: string(a)}, file{name: "b.json", data: string(b)}, file{name: "l", data: string(layer)},
		file{name: "manifest.json", data: string(toJSON(t, []dockerEntry{{"a.json", []string{"a:1"}, []string{"l"}}, {"b.json", []string{"b:1"}, []string{"l", "l"}}}))}))
	wantError(t, openError(t, "docker-archive:"+path), "2 images", "a:1, b:1")
	wantError(t, openError(t, "docker-archive:"+path+":c"), "no image named c", "a:1, b:1")
	one := must[ocispec.Descriptor](t)(open(t, "docker-archive:"+path+":a:1").Root(ctx))
	two := must[ocispec.Descriptor](t)(open(t, "docker-archive:"+path+":b:1").Root(ctx))
	if one.Digest == two.Digest {
		t.Error("they are the same")
	}
	wantImage(t, "docker-archive:"+path+":a:1", one)
	wantError(t, openError(t, "oci-archive:"+path), "not an OCI image layout")
}

// TestNewDockerArchive reads an archive that is a layout, too, in which manifest.json has a name and an image more.
func TestNewDockerArchive(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	path := filepath.Join(t.TempDir(), "x.tar")
	write(t, o, image, "docker-archive:"+path, "reg.example/app:1")
	all := members(t, path)
	var list []dockerEntry
	check(t, json.Unmarshal([]byte(all["manifest.json"]), &list))
	if len(list) != 1 || !slices.Equal(list[0].RepoTags, []string{"reg.example/app:1"}) || len(list[0].Layers) != 2 {
		t.Fatalf("%+v", list)
	}
	for _, n := range append(list[0].Layers, list[0].Config, "oci-layout", "blobs/sha256/"+image.Digest.Encoded()) {
		if all[n] == "" {
			t.Errorf("there is no %s", n)
		}
	}
	if got := readIndex(t, []byte(all["index.json"])); !slices.Equal(got, []string{"1 reg.example/app:1"}) {
		t.Errorf("%q", got)
	}
	wantImage(t, "oci-archive:"+path, image)

	layer := tarOf(t, file{name: "f", data: "x"})
	list[0].RepoTags = []string{"other:2"}
	list = append(list, dockerEntry{"c.json", []string{"third:3"}, []string{"l"}})
	all["manifest.json"], all["c.json"], all["l"] = string(toJSON(t, list)), string(configOf(t, layer)), string(layer)
	var files []file
	for n, data := range all {
		files = append(files, file{name: n, data: data})
	}
	path = put(t, "y.tar", tarOf(t, files...))
	wantImage(t, "docker-archive:"+path+":other:2", image)
	wantImage(t, "docker-archive:"+path+":reg.example/app:1", image)
	if root := must[ocispec.Descriptor](t)(open(t, "docker-archive:"+path+":third:3").Root(ctx)); root.Digest == image.Digest {
		t.Error("third is app")
	}
	wantError(t, openError(t, "docker-archive:"+path), "2 images", "other:2", "third:3")
}

func TestDockerArchiveNames(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	at := "@sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		ref, name string
		want      []string
	}{
		{"", "", nil},
		{"", "docker.io/library/app:1", []string{"app:1"}},
		{"", "app", []string{"app:latest"}},
		{"", "app" + at, nil},
		{"", "app:1" + at, []string{"app:1"}},
		{":new", "app:1", []string{"new:latest"}},
		{":reg.example:5000/new:2", "app:1", []string{"reg.example:5000/new:2"}},
	} {
		path := filepath.Join(t.TempDir(), "x.tar")
		write(t, o, image, "docker-archive:"+path+c.ref, c.name)
		var list []dockerEntry
		check(t, json.Unmarshal([]byte(members(t, path)["manifest.json"]), &list))
		if !slices.Equal(list[0].RepoTags, c.want) {
			t.Errorf("%q %q: %q", c.ref, c.name, list[0].RepoTags)
		}
	}
}

func TestDockerArchiveRefusesWhatIsNoImage(t *testing.T) {
	o := newOrigin(t)
	image := o.image("a")
	for want, root := range map[string]ocispec.Descriptor{
		"choose one with --platform": o.index(image, o.image("b")),
		"can only have images":       o.signature(image, "s"),
	} {
		path := filepath.Join(t.TempDir(), "x")
		wantError(t, writeError(t, o, root, "docker-archive:"+path, ""), want, path)
		if _, err := os.Stat(path); err == nil {
			t.Error("it is there")
		}
	}
	dst := create(t, "docker-archive:"+filepath.Join(t.TempDir(), "x"), "")
	check(t, dst.Push(ctx, image, bytes.NewReader(must[[]byte](t)(content.FetchAll(ctx, o, image)))))
	wantError(t, dst.Commit(ctx, image), "is missing")
	check(t, oras.CopyGraph(ctx, o, newOrigin(t), image, oras.DefaultCopyGraphOptions))
}

func TestBadDockerArchives(t *testing.T) {
	layer := tarOf(t, file{name: "f", data: "x"})
	config := configOf(t, layer)
	manifest := func(e ...dockerEntry) file { return file{name: "manifest.json", data: string(toJSON(t, e))} }
	good := manifest(dockerEntry{"c.json", nil, []string{"l"}})
	c, l := file{name: "c.json", data: string(config)}, file{name: "l", data: string(layer)}
	otherName := strings.Repeat("0", 64) + ".json"
	for name, tc := range map[string]struct {
		files []file
		want  string
	}{
		"nothing known":      {[]file{c}, "neither manifest.json nor index.json"},
		"no images":          {[]file{manifest()}, "no image"},
		"manifest is null":   {[]file{{name: "manifest.json", data: "null"}}, "no image"},
		"manifest is broken": {[]file{{name: "manifest.json", data: "[{"}}, "manifest.json is damaged"},
		"manifest is huge":   {[]file{{name: "manifest.json", data: strings.Repeat(" ", 5<<20)}}, "the limit"},
		"no config":          {[]file{good, l}, "c.json is missing"},
		"config is broken":   {[]file{good, l, {name: "c.json", data: "x"}}, "c.json is damaged"},
		"config is another":  {[]file{manifest(dockerEntry{otherName, nil, []string{"l"}}), {name: otherName, data: string(config)}, l}, "digest mismatch"},
		"no layer":           {[]file{good, c}, "layer l: the archive lacks it"},
		"layer is another":   {[]file{good, c, {name: "l", data: string(layer) + "x"}}, "digest mismatch"},
		"packed is another":  {[]file{good, c, {name: "l", data: string(gzipped(t, append(slices.Clone(layer), 0)))}}, "digest mismatch"},
		"packed is short":    {[]file{good, c, {name: "l", data: string(gzipped(t, layer)[:30])}}, "ends too early"},
		"packed by xz":       {[]file{good, c, {name: "l", data: string(xzed(t, layer))}}, "compressed with xz"},
		"fewer layers":       {[]file{manifest(dockerEntry{"c.json", nil, nil}), c, l}, "1 layers, manifest.json 0"},
		"layer outside":      {[]file{manifest(dockerEntry{"c.json", nil, []string{"../l"}}), c, l}, "outside"},
		"config outside":     {[]file{manifest(dockerEntry{"../../c.json", nil, []string{"l"}}), c, l}, "outside"},
		"member outside":     {[]file{good, c, l, {name: "../x", data: "x"}}, "outside"},
		"link outside":       {[]file{good, c, {name: "l", link: "../etc/passwd"}}, "outside"},
		"absolute link":      {[]file{good, c, {name: "l", link: "/etc/passwd"}}, "outside"},
		"hard link outside":  {[]file{good, c, {name: "l", link: "=../x"}}, "outside"},
		"link to itself":     {[]file{good, c, {name: "l", link: "l"}}, "lacks it"},
		"twice":              {[]file{good, c, l, good}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			path := put(t, "x.tar", tarOf(t, tc.files...))
			wantError(t, openError(t, "docker-archive:"+path), tc.want, "docker-archive:"+path)
		})
	}
}

func FuzzDockerArchive(f *testing.F) {
	layer := tarOf(f, file{name: "f", data: "x"})
	f.Add(string(toJSON(f, []dockerEntry{{"c", []string{"a:1"}, []string{"l"}}})), string(configOf(f, layer)), `{"manifests":[]}`)
	f.Add(`[{"Config":"c"}]`, `null`, ``)
	f.Add(`[{"Config":"c","RepoTags":["sha256:x",""],"Layers":["l","../l"]}]`, `{"rootfs":{"diff_ids":["x","sha256:x"]}}`, `{"manifests":[{"digest":"x","size":-1}]}`)
	f.Fuzz(func(t *testing.T, manifest, config, index string) {
		files := []file{{name: "manifest.json", data: manifest}, {name: "c", data: config}, {name: "l", data: string(layer)}}
		if index != "" {
			files = append(files, file{name: "index.json", data: index})
		}
		path := put(t, "x.tar", tarOf(t, files...))
		src, err := (&ocilayout.Location{Kind: "docker-archive", Path: path}).Open(ctx, t.TempDir())
		if err != nil {
			return
		}
		if root, err := src.Root(ctx); err == nil {
			_, _ = content.FetchAll(ctx, src, root)
		}
		_, _ = src.Predecessors(ctx, ocispec.Descriptor{})
		check(t, src.Close())
	})
}
