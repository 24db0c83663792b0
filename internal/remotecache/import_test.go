package remotecache

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/view"
)

// blobs are blobs of layers by their names, whose DiffIDs are the digests of the names.
func blobs(names ...string) map[digest.Digest]ocispec.Descriptor {
	list := map[digest.Digest]ocispec.Descriptor{}
	for _, name := range names {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob " + name), Size: 7, Annotations: map[string]string{
			AnnotationDiffID: digest.FromString(name).String(), annotationDescription: "made " + name, annotationCreated: "2024-01-02T03:04:05Z",
		}}
		list[d.Digest] = d
	}
	return list
}

func cacheLayer(name string, parent int) cachetypes.CacheLayer {
	return cachetypes.CacheLayer{Blob: digest.FromString("blob " + name), ParentIndex: parent}
}

// TestResults: of a chain by its top layer all must be usable, of a list each.
func TestResults(t *testing.T) {
	t.Parallel()
	const a, b, c, lost = "a", "b", "c", "lost"
	layers := []cachetypes.CacheLayer{cacheLayer(a, -1), cacheLayer(b, 0), cacheLayer(lost, -1), cacheLayer(c, 2)}
	for name, test := range map[string]struct {
		record cachetypes.CacheRecord
		want   string // the layers of the best result; "" for none
	}{
		"one layer":          {cachetypes.CacheRecord{Results: []cachetypes.CacheResult{{LayerIndex: 0}}}, a},
		"chain":              {cachetypes.CacheRecord{Results: []cachetypes.CacheResult{{LayerIndex: 1}}}, "a b"},
		"lost layer":         {cachetypes.CacheRecord{Results: []cachetypes.CacheResult{{LayerIndex: 2}}}, ""},
		"on a lost layer":    {cachetypes.CacheRecord{Results: []cachetypes.CacheResult{{LayerIndex: 3}}}, ""},
		"list":               {cachetypes.CacheRecord{ChainedResults: []cachetypes.ChainedResult{{LayerIndexes: []int{3, 0}}}}, "c a"},
		"list with a lost":   {cachetypes.CacheRecord{ChainedResults: []cachetypes.ChainedResult{{LayerIndexes: []int{0, 2}}}}, ""},
		"empty list":         {cachetypes.CacheRecord{ChainedResults: []cachetypes.ChainedResult{{}}}, ""},
		"the newest of both": {cachetypes.CacheRecord{Results: []cachetypes.CacheResult{{LayerIndex: 0, CreatedAt: time.Unix(1, 0)}, {LayerIndex: 1, CreatedAt: time.Unix(2, 0)}}}, "a b"},
		"nothing":            {cachetypes.CacheRecord{}, ""},
	} {
		imp, err := newImport(nil, &cachetypes.CacheConfig{Layers: layers, Records: []cachetypes.CacheRecord{test.record}}, blobs(a, b, c))
		if err != nil {
			t.Fatal(err)
		}
		if got := imp.has(map[int]bool{0: true}, nil); got != (test.want != "") {
			t.Errorf("%s: has a result: %v", name, got)
		}
		var names []string
		if hit := imp.best(map[int]bool{0: true}, nil); hit != nil {
			for _, l := range hit.Layers {
				names = append(names, strings.TrimPrefix(l.Description, "made "))
				if l.DiffID != digest.FromString(names[len(names)-1]) || l.Created.Year() != 2024 || l.Blob.Annotations != nil {
					t.Errorf("%s: layer %+v", name, l)
				}
			}
		}
		if strings.Join(names, " ") != test.want {
			t.Errorf("%s: %q, want %q", name, names, test.want)
		}
	}
}

// TestUnusableLayers: without a DiffID a layer cannot be used; without a time or a description it can.
func TestUnusableLayers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		annotations map[string]string
		usable      bool
	}{
		"all":            {map[string]string{AnnotationDiffID: digest.FromString("x").String(), annotationCreated: "2024-01-02T03:04:05Z"}, true},
		"no time":        {map[string]string{AnnotationDiffID: digest.FromString("x").String()}, true},
		"odd time":       {map[string]string{AnnotationDiffID: digest.FromString("x").String(), annotationCreated: "yesterday"}, true},
		"no DiffID":      {nil, false},
		"invalid DiffID": {map[string]string{AnnotationDiffID: "sha256:x"}, false},
	} {
		d := ocispec.Descriptor{Digest: digest.FromString("blob"), Annotations: test.annotations}
		if got := (&Import{}).layer(d, -1); got.usable != test.usable || got.Description != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestReadForms: a cache manifest, the index of old versions, an image with a cache inside, an index of images, each once.
func TestReadForms(t *testing.T) {
	t.Parallel()
	m := memory{}
	config := put(m, []byte(`{"records":[{"digest":"sha256:a"}]}`))
	config.MediaType = cachetypes.CacheConfigMediaTypeV0
	document := func(doc any) ocispec.Descriptor {
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return put(m, raw)
	}
	inline := func(cache string, layers int) ocispec.Descriptor {
		img := map[string]any{"rootfs": ocispec.RootFS{DiffIDs: []digest.Digest{digest.FromString("a")}}}
		if cache != "" {
			img[inlineName] = []byte(cache)
		}
		list := make([]ocispec.Descriptor, layers)
		for i := range list {
			list[i] = ocispec.Descriptor{Digest: digest.FromString("a")}
		}
		return document(ocispec.Manifest{Config: document(img), Layers: list})
	}
	manifest := document(ocispec.Manifest{Config: config})
	image := inline(`[{"digest":"sha256:b","layers":[{"layer":0}]}]`, 1)
	for name, test := range map[string]struct {
		root ocispec.Descriptor
		want int // caches; -1 for an error
	}{
		"manifest":              {manifest, 1},
		"index":                 {document(ocispec.Index{Manifests: []ocispec.Descriptor{{Digest: digest.FromString("layer")}, config}}), 1},
		"inline":                {image, 1},
		"index of images":       {document(ocispec.Index{Manifests: []ocispec.Descriptor{image, manifest, image}}), 2},
		"image without a cache": {inline("", 1), 0},
		"inline, other layers":  {inline(`[]`, 2), 0},
		"inline, no JSON":       {inline(`{`, 1), -1},
		"index of nothing":      {document(ocispec.Index{}), 0},
		"index of what is lost": {document(ocispec.Index{Manifests: []ocispec.Descriptor{{Digest: digest.FromString("lost")}}}), -1},
		"no JSON":               {put(m, []byte("{")), -1},
		"digest of no kind":     {ocispec.Descriptor{Digest: "md5:x"}, -1},
	} {
		got, err := Read(t.Context(), m, test.root)
		if len(got) != max(test.want, 0) || (err != nil) != (test.want < 0) {
			t.Errorf("%s: %d caches, %v", name, len(got), err)
		}
	}
	// An index of itself ends.
	itself := ocispec.Descriptor{Digest: digest.FromString("itself")}
	m[itself.Digest] = []byte("{}")
	if _, err := Read(t.Context(), m, itself); err == nil {
		t.Error("another content is taken")
	}
	huge := ocispec.Descriptor{Digest: digest.FromString("huge")}
	m[huge.Digest] = make([]byte, maxDocument+1)
	if _, err := Read(t.Context(), m, huge); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge document: %v", err)
	}
}

// TestExportedLayers are annotated for readers that have not their content.
func TestExportedLayers(t *testing.T) {
	t.Parallel()
	_, x := exported(t, ExportOptions{Mode: ModeMax})
	want := layerOf("made")
	i := slices.IndexFunc(x.Layers, func(d ocispec.Descriptor) bool { return d.Annotations[AnnotationDiffID] == want.DiffID.String() })
	if i < 0 {
		t.Fatalf("layers %v", x.Layers)
	}
	if got := x.Layers[i].Annotations; got[annotationDescription] != want.Description || got[annotationCreated] != want.Created.Format(time.RFC3339Nano) {
		t.Errorf("annotations %v", got)
	}
	_, docker := exported(t, ExportOptions{Mode: ModeMax, DockerTypes: true})
	for _, d := range docker.Layers {
		if strings.Contains(d.MediaType, "oci") {
			t.Errorf("layer %v", d)
		}
	}
}

func TestExportFails(t *testing.T) {
	t.Parallel()
	s := newSample(t, New(nil, nil), nil)
	s.record()
	broken := errors.New("broken disk")
	_, err := s.base.cache.Export(t.Context(), ExportOptions{Mode: ModeMax, Blob: func(context.Context, Layer) (ocispec.Descriptor, error) {
		return ocispec.Descriptor{}, broken
	}}, s.final.Key(0))
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	// Of nothing, nothing is exported.
	empty := New(nil, nil)
	if x, err := empty.Export(t.Context(), ExportOptions{Blob: blobOf}, Key{}); x != nil || err != nil {
		t.Errorf("%v, %v", x, err)
	}
	failing := pushes{broken}
	if err := (&Exported{}).Push(t.Context(), failing); !errors.Is(err, broken) {
		t.Errorf("push: %v", err)
	}
}

// TestInlineRefuses configs that are not an image's.
func TestInlineRefuses(t *testing.T) {
	t.Parallel()
	s := newSample(t, New(nil, nil), nil)
	s.record()
	for _, config := range []string{``, `[]`, `{}`, `{"rootfs":7}`} {
		if got, err := s.base.cache.Inline(t.Context(), []byte(config), s.final.Key(0)); err == nil {
			t.Errorf("%q becomes %q", config, got)
		}
	}
}

// TestSteps that are not made.
func TestSteps(t *testing.T) {
	t.Parallel()
	c := New(nil, nil)
	merge := &pb.Op{Inputs: make([]*pb.Input, 2), Op: &pb.Op_Merge{Merge: &pb.MergeOp{}}}
	if _, err := c.Step(merge, nil, []Input{{}}); err == nil {
		t.Error("a step with fewer inputs")
	}
	if _, err := c.Step(&pb.Op{}, nil, nil); err == nil {
		t.Error("a step of nothing")
	}
	s, err := c.Step(merge, nil, make([]Input, 2))
	if err != nil {
		t.Fatal(err)
	}
	if hits, err := s.Find(t.Context(), ByContent, 0); hits != nil || err != nil {
		t.Errorf("without caches: %v, %v", hits, err)
	}
	if _, ok := s.Key(0).result(); ok {
		t.Error("a result that was not recorded")
	}
	s.Record(0, Result{Layers: []Layer{layerOf("x")}})
	if r, ok := s.Key(0).result(); !ok || len(r.Layers) != 1 {
		t.Errorf("result %v, %v", r, ok)
	}
}

// TestFindReportsErrors of views that cannot be read.
func TestFindReportsErrors(t *testing.T) {
	t.Parallel()
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	s := newSample(t, New(imports, nil), nil)
	broken := errors.New("broken disk")
	s.copied.inputs[1].View = func(context.Context) (view.View, error) { return nil, broken }
	if _, err := s.copied.Find(t.Context(), ByContent, 0); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestEmptyDigest(t *testing.T) {
	t.Parallel()
	whole, err := emptyDigest(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", ".", "/./"} {
		if got, err := emptyDigest([]selection{{path: path}}); got != whole || err != nil {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
	if _, err := emptyDigest([]selection{{path: "/x"}}); err == nil {
		t.Error("a file of an empty filesystem")
	}
}

type pushes struct{ err error }

func (p pushes) Push(context.Context, ocispec.Descriptor, io.Reader) error { return p.err }
