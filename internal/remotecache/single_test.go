package remotecache

import (
	"context"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// singles is a cache of single steps.
type singles map[digest.Digest]*Hit

func (s singles) Find(_ context.Context, key digest.Digest) *Hit { return s[key] }
func (singles) Name() string                                     { return "shared" }

// TestMissesOfSingleSteps: a step is not in the cache since one that it is made of is not, or else for what it reads itself.
func TestMissesOfSingleSteps(t *testing.T) {
	t.Parallel()
	hit := &Hit{Layers: []ImportedLayer{{Layer: Layer{DiffID: digest.FromString("layer")}}}}
	for name, tt := range map[string]struct {
		copied bool // is in the cache
		lost   bool // its layers are gone
		local  bool // it is solved without the cache
		reason Reason
		inputs []MissedInput
	}{
		"nothing":     {reason: OtherInputs, inputs: []MissedInput{{Index: 0}}},
		"the input":   {copied: true, reason: NoRecord},
		"lost layers": {copied: true, lost: true, reason: OtherInputs, inputs: []MissedInput{{Index: 0}}},
		"unknown":     {local: true, reason: NoRecord},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache, at := New(nil, nil), singles{}
			cache.UseSteps([]StepReader{at}, nil, true)
			copied, made := variant{base: "base", file: "content", run: "make", platform: "amd64"}.steps(t, cache)
			if tt.lost {
				cache.Lose(hit.Layers[0].DiffID, func() bool { return true })
			}
			for i, s := range []*Step{copied, made} {
				key := digest.FromString(string(rune('a' + i)))
				s.Identify(func(int) digest.Digest { return key })
				if s == copied && tt.local {
					continue
				}
				if s == copied && tt.copied {
					at[key] = hit
				}
				if _, err := s.Find(t.Context(), ByContent, 0); err != nil {
					t.Fatal(err)
				}
			}
			list := made.Misses(t.Context(), 0)
			if len(list) != 1 || list[0].Cache.Name != "shared" || list[0].Reason != tt.reason || !slices.Equal(list[0].Inputs, tt.inputs) {
				t.Errorf("%+v, want %v, %v", list, tt.reason, tt.inputs)
			}
			if list = copied.Misses(t.Context(), 0); tt.lost && (len(list) != 1 || list[0].Reason != Lost) {
				t.Errorf("the input: %+v", list)
			}
		})
	}
}
