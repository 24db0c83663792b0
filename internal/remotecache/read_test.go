package remotecache

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

func TestReadRefuses(t *testing.T) {
	f := memory{}
	for name, config := range map[string]string{
		"no JSON":             `{`,
		"record out of range": `{"records":[{"digest":"sha256:a","inputs":[[{"link":1}]]}]}`,
		"empty input":         `{"records":[{"digest":"sha256:a","inputs":[[]]}]}`,
		"layer out of range":  `{"records":[{"digest":"sha256:a","layers":[{"layer":1}]}]}`,
		"chain out of range":  `{"records":[{"digest":"sha256:a","chains":[{"layers":[-1]}]}]}`,
		"parent out of range": `{"layers":[{"blob":"sha256:b","parent":7}]}`,
		"layers in a circle":  `{"layers":[{"blob":"sha256:b","parent":1},{"blob":"sha256:c","parent":0}]}`,
	} {
		d := put(f, []byte(config))
		d.MediaType = cachetypes.CacheConfigMediaTypeV0
		raw, err := json.Marshal(ocispec.Manifest{Config: d})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(context.Background(), f, put(f, raw)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Read(context.Background(), f, ocispec.Descriptor{Digest: digest.FromString("missing")}); !errors.Is(err, errdef.ErrNotFound) {
		t.Error(err)
	}
	d := put(f, []byte("{}"))
	f[d.Digest] = []byte("[]")
	if _, err := Read(context.Background(), f, d); err == nil {
		t.Error("a damaged manifest is accepted")
	}
}

// FuzzRead reads configs that others wrote, and looks for a build in them.
func FuzzRead(f *testing.F) {
	_, x := exported(f, ExportOptions{Mode: ModeMax})
	f.Add(x.Config)
	f.Add([]byte(`{"layers":[{"blob":"sha256:b","parent":-1}],"records":[{"inputs":[[{"link":0}]],"chains":[{"layers":[0,0]}]}]}`))
	var m ocispec.Manifest
	if err := json.Unmarshal(x.Manifest, &m); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var config cachetypes.CacheConfig
		if json.Unmarshal(data, &config) != nil {
			return
		}
		layers := map[digest.Digest]ocispec.Descriptor{}
		for _, l := range m.Layers {
			layers[l.Digest] = l
		}
		c, err := newImport(nil, &config, layers)
		if err != nil {
			return
		}
		s := newSample(t, New([]*Import{c}, nil), nil)
		for _, step := range []*Step{s.made, s.copied, s.final} {
			if hit := find(t, step, ByContent); hit != nil && len(hit.Layers) == 0 {
				t.Error("a result has no layers")
			}
		}
	})
}
