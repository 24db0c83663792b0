package stepcache

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/micabuild/mica/internal/remotecache"
)

// sample is a record with two keys, a layer of a base image, and one of its own.
func sample() *Record {
	id := digest.FromString
	return &Record{Keys: []digest.Digest{id("definition"), id("content")}, Layers: []remotecache.ImportedLayer{
		{Layer: remotecache.Layer{DiffID: id("base")}},
		{
			Layer: remotecache.Layer{DiffID: id("own"), Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Description: "RUN own"},
			Blob:  ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: id("blob"), Size: 4},
		},
	}}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	want := sample()
	d, raw, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := sample().encode(); err != nil || again.Digest != d.Digest {
		t.Errorf("the same record is %s, then %s, %v", d.Digest, again.Digest, err)
	}
	for _, key := range want.Keys {
		got, err := parse(nil, raw, key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := parse(nil, raw, digest.FromString("other")); err == nil {
		t.Error("it is the record of another step")
	}
}

// FuzzParse: a record is what anybody can write to a registry.
func FuzzParse(f *testing.F) {
	rec := sample()
	_, raw, err := rec.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"artifactType":"application/vnd.mica.step.v1","annotations":{"mica.step.keys":"` + rec.Keys[0].String() + `","mica.step.chain":"x"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parse(nil, raw, rec.Keys[0])
		if err != nil {
			return
		}
		if len(got.Layers) == 0 || len(got.Layers) > maxLayers || len(got.Keys) > maxKeys {
			t.Errorf("%d layers, %d keys", len(got.Layers), len(got.Keys))
		}
		for _, l := range got.Layers {
			if l.DiffID.Validate() != nil || l.Blob.Digest != "" && l.Blob.Digest.Validate() != nil || l.Blob.Size < 0 {
				t.Errorf("layer %v", l)
			}
		}
	})
}
