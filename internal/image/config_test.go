package image

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/oci"
)

func TestParseConfig(t *testing.T) {
	t.Parallel()
	id := digest.FromString("layer").String()
	for text, want := range map[string]string{ // of the error, "" for none
		`{}`:   "",
		`null`: "",
		`{"rootfs":{"type":"layers","diff_ids":["` + id + `"]}}`: "",
		`{"rootfs":{"diff_ids":["` + id + `"]}}`:                 "",
		`{"rootfs":{"type":"layers","diff_ids":null}}`:           "",
		``:                                    "image config: unexpected end",
		`[]`:                                  "image config: json",
		`{"os":1}`:                            "image config: json",
		`{"rootfs":{"type":"layers+base"}}`:   `unknown rootfs type "layers+base"`,
		`{"rootfs":{"diff_ids":[""]}}`:        "layer 1: ",
		`{"rootfs":{"diff_ids":["sha256:"]}}`: "layer 1: ",
		`{"rootfs":{"diff_ids":["` + id + `","sha256:../../x"]}}`:               "layer 2: ",
		`{"rootfs":{"diff_ids":["md5:d41d8cd98f00b204e9800998ecf8427e"]}}`:      "layer 1: ",
		`{"rootfs":{"diff_ids":["sha256:` + strings.Repeat("A", 64) + `"]}}`:    "layer 1: ",
		`{"rootfs":{"diff_ids":["sha256:` + strings.Repeat("0", 63) + `"]}}`:    "layer 1: ",
		`{"rootfs":{"diff_ids":["sha512:` + strings.Repeat("0", 128) + `/x"]}}`: "layer 1: ",
	} {
		if _, err := parseConfig([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	a, b := addLayer(t, s, "a"), addLayer(t, s, "b")
	config := toJSON(t, map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{a, b}}})
	blob := func(d digest.Digest, mediaType string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: 5}
	}
	zstd := []ocispec.Descriptor{blob(digest.FromString("1"), ocispec.MediaTypeImageLayerGzip), blob(digest.FromString("2"), ocispec.MediaTypeImageLayerZstd)}
	docker := []ocispec.Descriptor{blob(digest.FromString("1"), oci.DockerLayerGzip), blob(digest.FromString("2"), oci.DockerLayerZstd)}
	for name, test := range map[string]struct {
		draft Draft
		types string // of the manifest, the config and the layers
		err   string
	}{
		"layers of the store": {
			draft: Draft{Config: config}, types: "image.manifest.v1+json image.config.v1+json image.layer.v1.tar image.layer.v1.tar",
		},
		"given layers":             {draft: Draft{Config: config, Layers: zstd}, types: "image.manifest.v1+json image.config.v1+json image.layer.v1.tar+gzip image.layer.v1.tar+zstd"},
		"Docker's types":           {draft: Draft{Config: config, Layers: zstd, DockerTypes: true}, types: "distribution.manifest.v2+json container.image.v1+json image.rootfs.diff.tar.gzip image.rootfs.diff.tar.zstd"},
		"layers of Docker's types": {draft: Draft{Config: config, Layers: docker}, types: "image.manifest.v1+json image.config.v1+json image.layer.v1.tar+gzip image.layer.v1.tar+zstd"},
		"too few layers":           {draft: Draft{Config: config, Layers: zstd[:1]}, err: "image config names 2 layers, but 1 were given"},
		"no layers":                {draft: Draft{Config: config, Layers: []ocispec.Descriptor{}}, err: "image config names 2 layers, but 0 were given"},
		"layer is not there":       {draft: Draft{Config: []byte(`{"rootfs":{"diff_ids":["` + digest.FromString("x") + `"]}}`)}, err: "not found"},
		"bad config":               {draft: Draft{Config: []byte("{")}, err: "image config"},
		"absent layer":             {draft: Draft{Config: []byte(`{"rootfs":{"diff_ids":["` + digest.FromString("x") + `"]}}`), Layers: zstd[:1], Absent: true}, types: "image.manifest.v1+json image.config.v1+json image.layer.v1.tar+gzip"},
		"absent, but not so":       {draft: Draft{Config: []byte(`{"rootfs":{"diff_ids":["` + digest.FromString("x") + `"]}}`), Layers: zstd[:1]}, err: "not found"},
		"an image of no layers":    {draft: Draft{Config: []byte(`{"os":"linux"}`)}, types: "image.manifest.v1+json image.config.v1+json"},
	} {
		t.Run(name, func(t *testing.T) {
			test.draft.Annotations = map[string]string{"k": "v"}
			img, err := s.Assemble(t.Context(), test.draft)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			types := []string{img.Target.MediaType, img.Manifest.Config.MediaType}
			for _, l := range img.Manifest.Layers {
				types = append(types, l.MediaType)
			}
			got := strings.NewReplacer("application/vnd.oci.", "", "application/vnd.docker.", "").Replace(strings.Join(types, " "))
			if got != test.types || img.Manifest.Annotations["k"] != "v" || img.ID != digest.FromBytes(test.draft.Config) || img.Manifest.SchemaVersion != 2 {
				t.Errorf("types %s, manifest %+v", got, img.Manifest)
			}
			if string(img.RawConfig) != string(test.draft.Config) || s.recorded(img) {
				t.Errorf("config %s, recorded %t", img.RawConfig, s.recorded(img))
			}
		})
	}
}

// TestAdopt keeps the bytes of a manifest, and the first manifest of an image.
func TestAdopt(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	made := add(t, s, 1, nil)
	if _, err := s.Remove(t.Context(), made.ID.String(), false); err != nil {
		t.Fatal(err)
	}
	m := made.Manifest
	m.MediaType, m.Annotations = "", map[string]string{"by": "another tool"}
	raw, err := json.MarshalIndent(m, "", "   ")
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Put(raw, made.RawConfig)
	if err != nil || img.ID != made.ID || img.Target.Digest != digest.FromBytes(raw) || img.Target.MediaType != ocispec.MediaTypeImageManifest {
		t.Fatalf("%+v, %v", img, err)
	}
	if s.recorded(img) {
		t.Error("Put has recorded the image")
	}
	if img, err = s.Adopt(t.Context(), raw, made.RawConfig); err != nil || !s.recorded(img) {
		t.Fatalf("%+v, %v", img, err)
	}
	again, err := s.Create(t.Context(), Draft{Config: made.RawConfig})
	if err != nil || again.Target.Digest != img.Target.Digest {
		t.Errorf("another manifest of the image: %+v, %v", again, err)
	}
	for name, bad := range map[string]struct{ manifest, config []byte }{
		"manifest is no JSON":     {[]byte("{"), made.RawConfig},
		"manifest of an index":    {[]byte(`{"mediaType":"` + oci.DockerManifestList + `"}`), made.RawConfig},
		"config is not the one":   {raw, []byte(`{"os":"linux"}`)},
		"more layers than it has": {toJSON(t, ocispec.Manifest{Config: m.Config, Layers: append(m.Layers, m.Layers...)}), made.RawConfig},
		"no layers":               {toJSON(t, ocispec.Manifest{Config: m.Config}), made.RawConfig},
	} {
		other := newImages(t)
		addLayer(t, other, "1 map[]")
		if img, err := other.Adopt(t.Context(), bad.manifest, bad.config); err == nil {
			t.Errorf("%s: %+v", name, img)
		}
	}
}

// TestRecordIsRepaired: a record of a manifest that is gone, or of another image, is replaced.
func TestRecordIsRepaired(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	img, other := add(t, s, 1, nil), add(t, s, 2, nil)
	for name, target := range map[string]ocispec.Descriptor{"gone": absent("gone"), "another": other.Target} {
		if err := s.store.Records().Set(img.ID.String(), target); err != nil {
			t.Fatal(err)
		}
		if s.recorded(img) {
			t.Errorf("%s: the record counts", name)
		}
		if _, err := s.Create(t.Context(), Draft{Config: img.RawConfig}); err != nil || !s.recorded(img) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	at := time.Unix(1_600_000_000, 0).UTC()
	a, b := addLayer(t, s, "12345"), addLayer(t, s, "123")
	type entry = map[string]any
	for name, test := range map[string]struct {
		history []entry
		chain   []digest.Digest
		want    string // comment and size, newest first
	}{
		"none":                    {nil, []digest.Digest{a}, ""},
		"layers":                  {[]entry{{"comment": "a"}, {"comment": "b"}}, []digest.Digest{a, b}, "b:3 a:5"},
		"empty layers":            {[]entry{{"comment": "e", "empty_layer": true}, {"comment": "a"}, {"comment": "f", "empty_layer": true}}, []digest.Digest{a}, "f:0 a:5 e:0"},
		"more history than files": {[]entry{{"comment": "a"}, {"comment": "x"}}, []digest.Digest{a}, "x:0 a:5"},
		"more files than history": {[]entry{{"comment": "a"}}, []digest.Digest{a, b}, "a:5"},
	} {
		for i := range test.history {
			test.history[i]["created"], test.history[i]["created_by"] = at, "RUN "+name
		}
		img := addImage(t, s, map[string]any{"history": test.history}, test.chain)
		items, err := s.History(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, h := range items {
			got = append(got, h.Comment+":"+string(rune('0'+h.Size)))
			id := "<missing>"
			if i == 0 {
				id = img.ID.String()
			}
			if h.ID != id || !h.Created.Equal(at) || h.CreatedBy != "RUN "+name {
				t.Errorf("%s: %+v", name, h)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
	img := addImage(t, s, map[string]any{"history": []entry{{"comment": "a"}}}, []digest.Digest{a})
	img.Config.RootFS.DiffIDs = []digest.Digest{digest.FromString("gone")}
	if _, err := s.History(t.Context(), img); err == nil {
		t.Error("the history of a layer that is gone")
	}
}

func TestCreated(t *testing.T) {
	t.Parallel()
	s := newImages(t)
	if got := addImage(t, s, nil, nil).Created(); !got.IsZero() {
		t.Errorf("without a time: %v", got)
	}
	at := time.Unix(1_600_000_000, 0)
	if got := addImage(t, s, map[string]any{"created": at, "variant": runtime.GOARCH}, nil).Created(); !got.Equal(at) {
		t.Errorf("%v, want %v", got, at)
	}
}
