package prune

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/buildcache"
	"github.com/micabuild/mica/internal/image"
	"github.com/micabuild/mica/internal/layer"
	"github.com/micabuild/mica/internal/store"
	"github.com/micabuild/mica/internal/view"
)

func open(t *testing.T, root string) *Pruner {
	t.Helper()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	l := layer.New(s)
	return &Pruner{Store: s, Layers: l, Images: image.New(s, l)}
}

func newPruner(t *testing.T) *Pruner { return open(t, filepath.Join(t.TempDir(), "store")) }

// addLayer makes a layer of one file.
func (p *Pruner) addLayer(t *testing.T, content string) digest.Digest {
	t.Helper()
	l, err := p.Layers.Write(t.Context(), []view.Change{{
		Entry:  &view.Entry{Path: "f", Type: view.TypeRegular, Mode: 0o644, Size: int64(len(content))},
		Source: view.Files(map[string][]byte{"f": []byte(content)}), SourcePath: "f",
	}}, layer.AsBlob)
	if err != nil {
		t.Fatal(err)
	}
	return l.DiffID
}

// addImage makes an image of one layer.
func (p *Pruner) addImage(t *testing.T, layer digest.Digest, names ...string) *image.Image {
	t.Helper()
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{layer}},
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := p.Images.Create(t.Context(), image.Draft{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := p.Images.Tag(t.Context(), img, n); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// addStep records a step that made a layer.
func (p *Pruner) addStep(t *testing.T, name string, layer digest.Digest) digest.Digest {
	t.Helper()
	key := buildcache.Key{Ingredients: []buildcache.Ingredient{{Kind: "operation", Name: name}}}
	err := buildcache.New(p.Store).Put(key, name, []buildcache.Chain{buildcache.NewChain(buildcache.Link{DiffID: layer})})
	if err != nil {
		t.Fatal(err)
	}
	return key.Digest()
}

func (p *Pruner) has(layer digest.Digest) bool {
	_, err := p.Layers.Get(layer)
	return err == nil
}

func TestUnused(t *testing.T) {
	t.Parallel()
	p := newPruner(t)
	named, unnamed := p.addLayer(t, "named"), p.addLayer(t, "unnamed")
	p.addImage(t, named, "named")
	p.addImage(t, unnamed)
	p = open(t, p.Store.Root())
	for _, all := range []bool{false, true} {
		lines, freed, err := p.Unused(t.Context(), all, &image.Filter{})
		if err != nil || freed == 0 || len(lines) == 0 {
			t.Errorf("all %t: %d lines, %d bytes, %v", all, len(lines), freed, err)
		}
		if p.has(unnamed) || p.has(named) == all {
			t.Errorf("all %t: left are unnamed: %t, named: %t", all, p.has(unnamed), p.has(named))
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	p := newPruner(t)
	inImage, unused, used := p.addLayer(t, "image"), p.addLayer(t, "unused"), p.addLayer(t, "used")
	p.addImage(t, inImage, "image")
	p.addStep(t, "image", inImage)
	p.addStep(t, "unused", unused)
	key := p.addStep(t, "used", used)
	build := open(t, p.Store.Root())
	use, err := build.Store.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	build.Store.Hold(store.HeldStep, key)
	for _, tt := range []struct {
		name          string
		before        func() error
		limits        Limits
		removed       int
		frees         bool
		unused, used  bool // are left
		recordsBehind int
	}{
		{"what was used lately", nil, Limits{Age: time.Hour}, 0, false, true, true, 3},
		{"what no image has and no build uses", nil, Limits{}, 1, true, false, true, 2},
		{"when the build has ended", use.End, Limits{}, 1, true, false, false, 1},
		{"all", nil, Limits{All: true}, 1, false, false, false, 0}, // of a layer that an image has
	} {
		if tt.before != nil {
			if err := tt.before(); err != nil {
				t.Fatal(err)
			}
		}
		p := open(t, p.Store.Root())
		tt.limits.Now = time.Now()
		removed, freed, err := p.Cache(t.Context(), tt.limits)
		if err != nil || len(removed) != tt.removed || (freed > 0) != tt.frees {
			t.Errorf("%s: removed %q, %d bytes, %v", tt.name, removed, freed, err)
		}
		if !p.has(inImage) || p.has(unused) != tt.unused || p.has(used) != tt.used {
			t.Errorf("%s: left are image: %t, unused: %t, used: %t", tt.name, p.has(inImage), p.has(unused), p.has(used))
		}
		if records, err := buildcache.New(p.Store).Records(); err != nil || len(records) != tt.recordsBehind {
			t.Errorf("%s: %d records are left, %v", tt.name, len(records), err)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	p := newPruner(t)
	shared, own := p.addLayer(t, "shared"), p.addLayer(t, "own")
	img := p.addImage(t, shared, "image")
	p.addStep(t, "shared", shared)
	p.addStep(t, "own", own)
	hold, err := p.Images.Hold(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Usage(t.Context())
	if err := errors.Join(err, hold.Unlock()); err != nil {
		t.Fatal(err)
	}
	const s, o = int64(len("shared")), int64(len("own"))
	if want := (Row{Total: 1, Active: 1, Size: s}); got.Images != want {
		t.Errorf("images: %+v, want %+v", got.Images, want)
	}
	if want := (Row{Total: 2, Active: 1, Size: o, Reclaimable: o}); got.Cache != want || got.CacheSize != s+o {
		t.Errorf("cache: %+v, of %d bytes, want %+v", got.Cache, got.CacheSize, want)
	}
}
