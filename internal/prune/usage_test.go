package prune

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/micabuild/mica/internal/cachemount"
	"github.com/micabuild/mica/internal/image"
)

func TestImageUsage(t *testing.T) {
	t.Parallel()
	// An image is its layers; "!" says that it runs.
	for name, tt := range map[string]struct {
		images string
		want   Row
	}{
		"none":                             {},
		"one":                              {images: "1,2", want: Row{Total: 1, Size: 20, Reclaimable: 20}},
		"one that runs":                    {images: "!1,2", want: Row{Total: 1, Active: 1, Size: 20}},
		"shared layers count once":         {images: "1,2 1,3", want: Row{Total: 2, Size: 30, Reclaimable: 30}},
		"what a running one has stays":     {images: "!1,2 1,3", want: Row{Total: 2, Active: 1, Size: 30, Reclaimable: 10}},
		"in whatever order they come":      {images: "1,3 !1,2", want: Row{Total: 2, Active: 1, Size: 30, Reclaimable: 10}},
		"a layer that is twice in one":     {images: "1,1", want: Row{Total: 1, Size: 10, Reclaimable: 10}},
		"an image of no layers":            {images: "!", want: Row{Total: 1, Active: 1}},
		"one that runs and has all layers": {images: "!1,2 1", want: Row{Total: 2, Active: 1, Size: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var images []image.Use
			for _, w := range strings.Fields(tt.images) {
				layers, running := strings.CutPrefix(w, "!")
				images = append(images, image.Use{Layers: steps("x:" + layers)[0].layers, Running: running})
			}
			if got := imageUsage(images, sized(nil)); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCacheUsage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		steps    string
		mounts   []int64
		inImages string
		want     Row
	}{
		"none":                     {},
		"steps":                    {steps: "a:1 b:1,2", want: Row{Total: 2, Size: 20, Reclaimable: 20}},
		"mounts":                   {mounts: []int64{5, 6}, want: Row{Total: 2, Size: 11, Reclaimable: 11}},
		"layers of images":         {steps: "a:1 b:1,2", mounts: []int64{5}, inImages: "1 3", want: Row{Total: 3, Active: 1, Size: 15, Reclaimable: 15}},
		"all layers are of images": {steps: "a:1 b:1,2", inImages: "1 2", want: Row{Total: 2, Active: 2}},
		"a large layer":            {steps: "a:large", want: Row{Total: 1, Size: 1 << 40, Reclaimable: 1 << 40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mounts []cachemount.Mount
			for _, n := range tt.mounts {
				mounts = append(mounts, cachemount.Mount{Size: n})
			}
			if got := cacheUsage(steps(tt.steps), mounts, set(tt.inImages), sized(map[string]int64{"large": 1 << 40})); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// A step that is removed takes with it what no other step has.
func TestSizes(t *testing.T) {
	t.Parallel()
	list := steps("a:1,2 b:2,3 c:3,3")
	s := newSizes(list, func(digest.Digest) int64 { return 1 })
	for i, want := range []int64{3, 2, 1, 0} {
		if s.total != want {
			t.Errorf("without %d steps the others take %d, want %d", i, s.total, want)
		}
		if i < len(list) {
			s.remove(list[i])
		}
	}
}
