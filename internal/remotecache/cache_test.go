package remotecache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/micabuild/mica/internal/view"
)

// sample is a build: an image, a COPY from a context onto it, a RUN on top, and a COPY of what that made into an image of
// its own.
type sample struct {
	base, context, copied, made, final *Step
	read                               int // how often the context was opened
}

func layerOf(name string) Layer {
	at := time.Date(2024, 1, 2, 3, 4, len(name), 0, time.UTC)
	return Layer{DiffID: digest.FromString(name), Created: at, Description: "made " + name}
}

func newSample(t testing.TB, c *Cache, meta *pb.OpMetadata) *sample {
	t.Helper()
	s := &sample{}
	s.base = c.Source(digest.FromString("base").String())
	s.base.Record(0, Result{[]Layer{{DiffID: digest.FromString("base layer")}}})
	s.context = c.Source()
	directory := Input{Key: s.context.Key(0), Local: true, View: func(context.Context) (view.View, error) {
		s.read++
		return tree(t, "dir/", "dir/file content"), nil
	}}
	step := func(op *pb.Op, inputs ...Input) *Step {
		op.Platform = &pb.Platform{OS: "linux", Architecture: "amd64"}
		op.Inputs = make([]*pb.Input, len(inputs))
		got, err := c.Step(op, meta, inputs)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	copyOp := func(from string) *pb.Op {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{
			SecondaryInput: 1, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: from, Dest: "/"}},
		}}}}}
	}
	s.copied = step(copyOp("/dir"), Input{Key: s.base.Key(0)}, directory)
	run := &pb.ExecOp{Meta: &pb.Meta{Args: []string{"make"}}, Mounts: []*pb.Mount{{Dest: "/"}}}
	s.made = step(&pb.Op{Op: &pb.Op_Exec{Exec: run}}, Input{Key: s.copied.Key(0)})
	s.final = step(copyOp("/made"), Input{Key: s.base.Key(0)}, Input{Key: s.made.Key(0), View: func(context.Context) (view.View, error) {
		return tree(t, "made it"), nil
	}})
	return s
}

// record says what the steps came to.
func (s *sample) record() {
	base := Layer{DiffID: digest.FromString("base layer")}
	s.copied.Record(0, Result{[]Layer{base, layerOf("copied")}})
	s.made.Record(0, Result{[]Layer{base, layerOf("copied"), layerOf("made")}})
	s.final.Record(0, Result{[]Layer{base, layerOf("final")}})
}

func blobOf(_ context.Context, l Layer) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob of " + l.DiffID.String()), Size: 7}, nil
}

// exported writes the sample's cache and reads it again.
func exported(t testing.TB, o ExportOptions) ([]*Import, *Exported) {
	t.Helper()
	s := newSample(t, New(nil, nil), nil)
	s.record()
	o.Blob = blobOf
	x, err := s.base.cache.Export(context.Background(), o, s.final.Key(0))
	if err != nil {
		t.Fatal(err)
	}
	f := memory{}
	if err := x.Push(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), f, x.ManifestDescriptor)
	if err != nil || len(got) != 1 {
		t.Fatalf("%d caches, %v", len(got), err)
	}
	return got, x
}

func find(t testing.TB, s *Step, d Depth) *Hit {
	t.Helper()
	hits, err := s.Find(context.Background(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if hits == nil {
		return nil
	}
	return hits[0]
}

func TestFind(t *testing.T) {
	for manifest, form := range map[string]ExportOptions{
		"application/vnd.oci.image.manifest.v1+json":                {},
		"application/vnd.oci.image.index.v1+json":                   {Index: true},
		"application/vnd.docker.distribution.manifest.list.v2+json": {DockerTypes: true},
	} {
		form.Mode = ModeMax
		imports, x := exported(t, form)
		if x.ManifestDescriptor.MediaType != manifest || form.DockerTypes == strings.Contains(string(x.Manifest), "oci") {
			t.Errorf("the manifest is %s", x.Manifest)
		}
		s := newSample(t, New(imports, nil), nil)
		if find(t, s.made, ByDefinition) != nil || s.read != 0 {
			t.Error("found though the context was not read")
		}
		hit := find(t, s.copied, ByContent)
		if hit == nil || s.read != 1 || len(hit.Layers) != 2 {
			t.Fatalf("%+v, context read %d times", hit, s.read)
		}
		top, want := hit.Layers[1], layerOf("copied")
		blob, _ := blobOf(context.Background(), want)
		if top.Layer != want || top.Blob.Digest != blob.Digest || !hit.Created.Equal(want.Created) || top.From == nil {
			t.Errorf("%+v", top)
		}
		// What follows is known by what was found.
		if find(t, s.made, ByDefinition) == nil || find(t, s.final, ByDefinition) == nil || s.read != 1 {
			t.Errorf("not found, context read %d times", s.read)
		}
		if from := s.copied.cache.Imported(layerOf("made").DiffID); len(from) != 1 || from[0].Description != "made made" {
			t.Errorf("%+v", from)
		}
	}
}

func TestFindAtOnce(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	s := newSample(t, New(imports, nil), nil)
	// The last step alone is asked for: the others are met on the way.
	if find(t, s.final, ByContent) == nil {
		t.Error("not found")
	}
	other := newSample(t, New(imports, nil), nil)
	other.base.digests = []digest.Digest{"sha256:other"}
	if find(t, other.final, ByContent) != nil {
		t.Error("found on another base")
	}
	ignored := newSample(t, New(imports, nil), &pb.OpMetadata{IgnoreCache: true})
	if find(t, ignored.final, ByContent) != nil {
		t.Error("found though the cache is to be ignored")
	}
}

// TestFindTogether asks for all steps at once, as a solver does.
func TestFindTogether(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	s := newSample(t, New(append(imports, imports...), nil), nil)
	var wg sync.WaitGroup
	for _, step := range []*Step{s.final, s.made, s.copied, s.final, s.made} {
		wg.Go(func() {
			if hits, err := step.Find(context.Background(), ByContent, 0); err != nil || hits == nil {
				t.Errorf("not found: %v", err)
			}
		})
	}
	wg.Wait()
	if s.read != 1 {
		t.Errorf("context read %d times", s.read)
	}
}

func results(x *Exported) int {
	var c cachetypes.CacheConfig
	_ = json.Unmarshal(x.Config, &c)
	n := 0
	for _, r := range c.Records {
		n += len(r.Results)
	}
	return n
}

func TestModes(t *testing.T) {
	_, most := exported(t, ExportOptions{Mode: ModeMax})
	imports, least := exported(t, ExportOptions{Mode: ModeMin})
	if results(most) != 3 || len(most.Layers) != 4 || results(least) != 1 || len(least.Layers) != 2 {
		t.Errorf("%d results and %d layers, %d and %d", results(most), len(most.Layers), results(least), len(least.Layers))
	}
	// Steps without results still lead to those that have some.
	s := newSample(t, New(imports, nil), nil)
	if find(t, s.made, ByContent) != nil || find(t, s.final, ByContent) == nil {
		t.Error("the final step is not found alone")
	}
	_, again := exported(t, ExportOptions{Mode: ModeMax})
	if again.ManifestDescriptor.Digest != most.ManifestDescriptor.Digest {
		t.Error("the same build gives other bytes")
	}
	s = newSample(t, New(nil, nil), &pb.OpMetadata{ExportCache: &pb.ExportCache{Value: false}})
	s.record()
	x, err := s.base.cache.Export(context.Background(), ExportOptions{Mode: ModeMax, Blob: blobOf}, s.final.Key(0))
	if x != nil || err != nil {
		t.Errorf("%v, %v", x, err)
	}
}

// keeper notes the steps whose results a cache of single steps gets.
type keeper []*Step

func (k *keeper) Keep(r StepResult) { *k = append(*k, r.step) }

// TestExportUntrusted: neither what was found in an untrusted cache is exported, nor what was made of it.
func TestExportUntrusted(t *testing.T) {
	imports, _ := exported(t, ExportOptions{Mode: ModeMax})
	for untrusted, want := range map[bool]int{false: 3, true: 0} {
		imports[0].Untrusted = untrusted
		s := newSample(t, New(imports, nil), nil)
		var kept keeper
		s.base.cache.UseSteps(nil, []StepWriter{&kept}, false)
		if find(t, s.copied, ByContent) == nil {
			t.Fatal("not found")
		}
		s.record() // the other steps have run
		if slices.Contains(kept, s.copied) == untrusted || slices.Contains(kept, s.final) == untrusted {
			t.Errorf("untrusted %t: a cache of single steps has got %d results", untrusted, len(kept))
		}
		x, err := s.base.cache.Export(t.Context(), ExportOptions{Mode: ModeMax, Blob: blobOf}, s.final.Key(0))
		got := 0
		if x != nil {
			got = results(x)
		}
		if err != nil || got != want {
			t.Errorf("untrusted %t: %d results, %v", untrusted, got, err)
		}
		image := fmt.Sprintf(`{"rootfs":{"diff_ids":[%q,%q]}}`, digest.FromString("base layer"), layerOf("final").DiffID)
		config, err := s.base.cache.Inline(t.Context(), []byte(image), s.final.Key(0))
		if err != nil || strings.Contains(string(config), inlineName) == untrusted {
			t.Errorf("untrusted %t: %s, %v", untrusted, config, err)
		}
	}
}

// TestExportLost: results with a layer that is lost are left out, and their records stay.
func TestExportLost(t *testing.T) {
	for lost, want := range map[string]struct{ results, layers int }{
		"made": {2, 3}, "copied": {1, 2}, "base layer": {0, 0}, "none": {3, 4},
	} {
		s := newSample(t, New(nil, nil), nil)
		s.record()
		failure := ErrLost
		blob := func(ctx context.Context, l Layer) (ocispec.Descriptor, error) {
			if l.DiffID == digest.FromString(lost) {
				return ocispec.Descriptor{}, failure
			}
			return blobOf(ctx, l)
		}
		x, err := s.base.cache.Export(t.Context(), ExportOptions{Mode: ModeMax, Blob: blob}, s.final.Key(0))
		switch {
		case err != nil:
			t.Errorf("%s: %v", lost, err)
		case x == nil:
			if want.results > 0 {
				t.Errorf("%s: no cache", lost)
			}
		case results(x) != want.results || len(x.Layers) != want.layers:
			t.Errorf("%s: %d results and %d layers", lost, results(x), len(x.Layers))
		}
		if x != nil {
			var config cachetypes.CacheConfig
			if err := json.Unmarshal(x.Config, &config); err != nil || len(config.Records) != 6 {
				t.Errorf("%s: %d records, %v", lost, len(config.Records), err)
			}
		}
		if failure = errors.New("a fault"); lost != "none" {
			if _, err := s.base.cache.Export(t.Context(), ExportOptions{Mode: ModeMax, Blob: blob}, s.final.Key(0)); !errors.Is(err, failure) {
				t.Errorf("%s: %v", lost, err)
			}
		}
	}
}

// TestExportFound exports what was found: the content of inputs is taken from the cache that knew it.
func TestExportFound(t *testing.T) {
	imports, first := exported(t, ExportOptions{Mode: ModeMax})
	s := newSample(t, New(imports, nil), nil)
	for _, step := range []*Step{s.copied, s.made, s.final} {
		hit := find(t, step, ByContent)
		if hit == nil {
			t.Fatal("not found")
		}
		var r Result
		for _, l := range hit.Layers {
			r.Layers = append(r.Layers, l.Layer)
		}
		step.Record(0, r)
	}
	s.final.inputs[1].View = func(context.Context) (view.View, error) { return nil, errors.New("read in vain") }
	x, err := s.base.cache.Export(context.Background(), ExportOptions{Mode: ModeMax, Blob: blobOf}, s.final.Key(0))
	if err != nil || x.ManifestDescriptor.Digest != first.ManifestDescriptor.Digest {
		t.Errorf("%v, %s", err, x.Config)
	}
}

func TestInline(t *testing.T) {
	s := newSample(t, New(nil, nil), nil)
	s.record()
	img := map[string]any{
		"os": "linux", "rootfs": ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("base layer"), layerOf("final").DiffID}},
		"history": []ocispec.History{{CreatedBy: "base"}, {EmptyLayer: true}, {CreatedBy: "COPY"}},
	}
	config, err := json.Marshal(img)
	if err != nil {
		t.Fatal(err)
	}
	if config, err = s.base.cache.Inline(context.Background(), config, s.final.Key(0)); err != nil {
		t.Fatal(err)
	}
	f := memory{}
	m := ocispec.Manifest{Config: put(f, config), Layers: []ocispec.Descriptor{put(f, []byte("1")), put(f, []byte("2"))}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	imports, err := Read(context.Background(), f, put(f, raw))
	if err != nil || len(imports) != 1 {
		t.Fatalf("%d caches, %v", len(imports), err)
	}
	hit := find(t, newSample(t, New(imports, nil), nil).final, ByContent)
	if hit == nil || len(hit.Layers) != 2 || hit.Layers[1].Description != "COPY" || hit.Layers[1].DiffID != layerOf("final").DiffID {
		t.Errorf("%+v", hit)
	}
	// An image whose layers are others has nothing to say.
	other, err := s.base.cache.Inline(context.Background(), []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`), s.final.Key(0))
	if err != nil || slices.Contains(fieldsOf(t, other), inlineName) {
		t.Errorf("%s, %v", other, err)
	}
}

func fieldsOf(t testing.TB, doc []byte) []string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range m {
		names = append(names, name)
	}
	return names
}

// memory has blobs in memory.
type memory map[digest.Digest][]byte

func (m memory) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := m[d.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m memory) Push(_ context.Context, d ocispec.Descriptor, r io.Reader) (err error) {
	m[d.Digest], err = io.ReadAll(r)
	return err
}

func put(m memory, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	m[d.Digest] = data
	return d
}

// TestFindOutputs: a step is found if the cache has the outputs that are wanted.
func TestFindOutputs(t *testing.T) {
	process := func(c *Cache) *Step {
		op := &pb.Op{Inputs: []*pb.Input{{}}, Op: &pb.Op_Exec{Exec: &pb.ExecOp{
			Meta: &pb.Meta{Args: []string{"make"}}, Mounts: []*pb.Mount{{Dest: "/"}, {Input: -1, Dest: "/out", Output: 1}},
		}}}
		s, err := c.Step(op, nil, []Input{{Key: c.Source("base").Key(0)}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := process(New(nil, nil))
	s.Record(0, Result{[]Layer{layerOf("root")}})
	s.Record(1, Result{[]Layer{layerOf("out")}})
	x, err := s.cache.Export(t.Context(), ExportOptions{Blob: blobOf}, s.Key(1))
	if err != nil {
		t.Fatal(err)
	}
	f := memory{}
	if err := x.Push(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	imports, err := Read(t.Context(), f, x.ManifestDescriptor)
	if err != nil {
		t.Fatal(err)
	}
	s = process(New(imports, nil))
	hits, err := s.Find(t.Context(), ByContent, 1)
	if err != nil || len(hits) != 2 || hits[0] != nil || hits[1] == nil {
		t.Errorf("%v, %v", hits, err)
	}
	for _, wanted := range [][]int{{0}, {0, 1}, {2}} {
		if hits, err := s.Find(t.Context(), ByContent, wanted...); err != nil || hits != nil {
			t.Errorf("outputs %v: %v, %v", wanted, hits, err)
		}
	}
	if list := s.Misses(t.Context(), 1); list != nil {
		t.Errorf("%+v", list)
	}
	if list := s.Misses(t.Context(), 0, 1); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}
